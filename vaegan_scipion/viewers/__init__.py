"""Viewers of the plugin's protocols."""
from .viewer_cluster import VaeganClusterViewer
from .viewer_evaluate import VaeganEvaluateViewer
from .viewer_refine import VaeganRefineViewer
from .viewer_train import VaeganTrainViewer
from .viewer_traverse import VaeganTraverseViewer

__all__ = ["VaeganClusterViewer", "VaeganEvaluateViewer", "VaeganRefineViewer", "VaeganTrainViewer",
           "VaeganTraverseViewer"]
