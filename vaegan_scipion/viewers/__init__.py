"""Viewers of the plugin's protocols."""
from .viewer_cluster import VaeganClusterViewer
from .viewer_evaluate import VaeganEvaluateViewer
from .viewer_states import VaeganStatesViewer
from .viewer_train import VaeganTrainViewer
from .viewer_traverse import VaeganTraverseViewer

__all__ = ["VaeganClusterViewer", "VaeganEvaluateViewer", "VaeganStatesViewer", "VaeganTrainViewer",
           "VaeganTraverseViewer"]
