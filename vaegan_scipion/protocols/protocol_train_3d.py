"""Train a 3D VAE-GAN on particles without poses."""
from enum import Enum
from typing import List

from pwem.objects import SetOfVolumes

from ..convert.from_engine import new_picture_item
from .protocol_train import VaeganProtTrain


class VaeganProtTrain3DOutputs(Enum):
    """Outputs of the protocol."""

    outputVolumes = SetOfVolumes


class VaeganProtTrain3D(VaeganProtTrain):
    """Train a 3D VAE-GAN on particles without poses.

    A generator makes maps, projects them in random directions with the CTFs and the noise of the
    data, and learns until a critic cannot tell its images from the particles. An encoder learns
    which latent vector an image comes from. Poses are never estimated, and no reference is needed.

    Output: one map per component of the generator. Give this run to *embed and cluster* next.
    """

    _label = "train 3D"
    _possibleOutputs = VaeganProtTrain3DOutputs
    COMMAND = "train3d"

    def createOutputStep(self, digest: str, settings: str) -> None:
        rate = self.getTrainingPixelSize()
        volumes = self._createSetOfVolumes()
        volumes.setSamplingRate(rate)
        for row in self._readComponents():
            volumes.append(new_picture_item(True, row["picture"], rate, f"component {row['index'] + 1}",
                                            z=row["z"]))
        self._defineOutputs(**{VaeganProtTrain3DOutputs.outputVolumes.name: volumes})
        self._defineSourceRelation(self.inputParticles, volumes)

    def _citations(self) -> List[str]:
        return ["Larsen2016", "Gupta2021", "Gulrajani2017", "Huang2024", "Chaman2021", "Sitzmann2020",
                "Chan2021"]
