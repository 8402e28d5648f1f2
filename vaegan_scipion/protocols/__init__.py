"""Protocols of the plugin, one file each."""
from .protocol_classes_2d import VaeganProtClasses2D
from .protocol_cluster import VaeganProtCluster
from .protocol_consensus import VaeganProtConsensus
from .protocol_evaluate import VaeganProtEvaluate
from .protocol_fullres import VaeganProtFullres
from .protocol_select import VaeganProtSelect
from .protocol_states import VaeganProtStates
from .protocol_train_2d import VaeganProtTrain2D
from .protocol_train_3d import VaeganProtTrain3D
from .protocol_traverse import VaeganProtTraverse

__all__ = [
           "VaeganProtClasses2D",
           "VaeganProtCluster",
           "VaeganProtConsensus",
           "VaeganProtEvaluate",
           "VaeganProtFullres",
           "VaeganProtSelect",
           "VaeganProtStates",
           "VaeganProtTrain2D",
           "VaeganProtTrain3D",
           "VaeganProtTraverse",
]
