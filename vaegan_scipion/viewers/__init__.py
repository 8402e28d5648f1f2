"""Viewers of the plugin's protocols."""
from .viewer_classes_2d import VaeganClasses2DViewer
from .viewer_cluster import VaeganClusterViewer
from .viewer_consensus import VaeganConsensusViewer
from .viewer_evaluate import VaeganEvaluateViewer
from .viewer_fullres import VaeganFullresViewer
from .viewer_states import VaeganStatesViewer
from .viewer_train import VaeganTrainViewer
from .viewer_traverse import VaeganTraverseViewer

__all__ = ["VaeganClasses2DViewer", "VaeganClusterViewer", "VaeganConsensusViewer", "VaeganEvaluateViewer",
           "VaeganFullresViewer", "VaeganStatesViewer", "VaeganTrainViewer", "VaeganTraverseViewer"]
