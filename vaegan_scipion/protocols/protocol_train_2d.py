"""Train a 2D VAE-GAN on particles without alignment."""
from enum import Enum
from typing import List

from pwem.objects import SetOfAverages

from ..convert.from_engine import new_picture_item
from .protocol_train import VaeganProtTrain


class VaeganProtTrain2DOutputs(Enum):
    """Outputs of the protocol."""

    outputAverages = SetOfAverages


class VaeganProtTrain2D(VaeganProtTrain):
    """Train a 2D VAE-GAN on particles without alignment.

    A generator makes images, rotates, shifts and blurs them with the CTFs and the noise of the
    data, and learns until a critic cannot tell them from the particles. An encoder learns which
    latent vector an image comes from.

    Output: one image per component of the generator. Give this run to *embed and cluster* next.
    """

    _label = "train 2D"
    _possibleOutputs = VaeganProtTrain2DOutputs
    COMMAND = "train2d"

    def createOutputStep(self, digest: str, settings: str) -> None:
        rate = self.getTrainingPixelSize()
        averages = self._createSetOfAverages()
        averages.setSamplingRate(rate)
        for row in self._readComponents():
            averages.append(new_picture_item(False, row["picture"], rate, f"component {row['index'] + 1}",
                                             z=row["z"]))
        self._defineOutputs(**{VaeganProtTrain2DOutputs.outputAverages.name: averages})
        self._defineSourceRelation(self.inputParticles, averages)

    def _citations(self) -> List[str]:
        return ["Larsen2016", "Gulrajani2017", "Huang2024", "Chaman2021"]
