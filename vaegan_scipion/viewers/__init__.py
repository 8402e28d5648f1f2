"""Viewers of the plugin's protocols."""
from .viewer_cluster import VaeganClusterViewer
from .viewer_train import VaeganTrainViewer
from .viewer_traverse import VaeganTraverseViewer

__all__ = ["VaeganClusterViewer", "VaeganTrainViewer", "VaeganTraverseViewer"]
