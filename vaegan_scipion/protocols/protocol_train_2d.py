"""Train a 2D VAE-GAN: on particles as their class averages lay them, which is the better way, or as they are."""
import os
from enum import Enum
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAverages
from pyworkflow.object import Pointer

from ..convert.from_engine import new_picture_item
from ..engine.vaegan_engine.contract import presets, result_files
from ..engine.vaegan_engine.contract.settings import DataConfig
from .form_settings import given_values
from .protocol_base import content_digest
from .protocol_train import POSED_PRESET, VaeganProtTrain

NO_POSES, OF_CLASSES = 0, 1  # choices of posesFrom


class VaeganProtTrain2DOutputs(Enum):
    """Outputs of the protocol."""

    outputAverages = SetOfAverages


class VaeganProtTrain2D(VaeganProtTrain):
    """Train a 2D VAE-GAN on particles with the alignment of class averages, or without alignment.

    With the turns and shifts of *classes 2D*, all classes are laid in one frame and every image says how it differs
    from the mean image: a latent vector that holds state and view, and not the turn in the plane. Without, a generator
    makes images, rotates, shifts and blurs them with the CTFs and the noise of the data, and learns until a critic
    cannot tell them from the particles; an encoder learns which latent vector an image comes from.

    Output: images of the generator. Give this run to *embed and cluster* next.
    """

    _label = "train 2D"
    _possibleOutputs = VaeganProtTrain2DOutputs
    COMMAND = "train2d"
    OWN_IMAGES = NO_POSES = f"posesFrom == {NO_POSES}"

    # --------------------------- DEFINE param functions ---------------------------
    def _defineInputParams(self, form: Any) -> None:
        form.addParam("posesFrom", params.EnumParam, default=NO_POSES, label="Alignment",
                      choices=["none", "of classes 2D"],
                      help="Of this plugin's classes 2D: the turn in the plane is known, and the latent vector holds "
                           "view and state alone. None: angles are left to the generator.")
        form.addParam("inputClasses2D", params.PointerParam, pointerClass="VaeganProtClasses2D", important=True,
                      condition=f"posesFrom == {OF_CLASSES}", label="Classes 2D",
                      help="A finished run of classes 2D. Its particles, but for those of junk, are trained on, with "
                           "its part of the box, diameter and contrast.")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", important=True,
                      condition=self.OWN_IMAGES, label="Input particles",
                      help="Particles with CTF; no poses are needed. They may be uncurated.")

    # --------------------------- STEPS functions ---------------------------
    def createOutputStep(self, digest: str, settings: str) -> None:
        rate = self.getTrainingPixelSize()
        averages = self._createSetOfAverages()
        averages.setSamplingRate(rate)
        for row in self.readComponents():
            averages.append(new_picture_item(False, self.pictureOf(row), rate, f"component {row.index + 1}",
                                             z=row.z))
        self._defineOutputs(**{VaeganProtTrain2DOutputs.outputAverages.name: averages})
        self._defineSourceRelation(self.getParticlesPointer(), averages)

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        classes = self.getClasses()
        if classes is not None and not (classes.hasAttribute("outputParticles") and self._posesDigest()):
            return [f"'Classes 2D': the run '{classes.getRunName()}' has no classes of particles. Finish it first, or "
                    "choose no alignment."]
        return super()._validateForm()

    def _citations(self) -> List[str]:
        if self.isPosed():
            return ["KingmaWelling2014", "Larsen2016", "Scheres2012"]
        return ["Larsen2016", "Gulrajani2017", "Huang2024", "Chaman2021"]

    # --------------------------- UTILS functions ---------------------------
    def _validateDiameter(self, particles: Any) -> List[str]:
        return super()._validateDiameter(particles) if self.getClasses() is None else []

    def getClasses(self) -> Any:
        """The run whose alignment is taken; None where there is none."""
        return self.inputClasses2D.get() if self.isPosed() else None

    def getAlignedBy(self) -> Any:
        return self.getClasses()

    def isPosed(self) -> bool:
        """Whether the training is given an alignment."""
        return bool(self.posesFrom.get() == OF_CLASSES)

    def _posesDigest(self) -> str:
        classes = self.getClasses()
        return content_digest(os.path.join(classes.getClassesDir(), result_files.PARTICLES_CSV)) if classes else ""

    def _posesText(self) -> str:
        return "with the alignment of class averages" if self.isPosed() else ""

    def _modelSettings(self, data: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
        if not self.isPosed():
            return super()._modelSettings(data)
        usual = presets.PRESETS[self.COMMAND][POSED_PRESET].changes["training"]["band_shells"]
        return {"training": {"band_shells": min(usual, data.get("box_px", DataConfig().box_px) / 2 - 1)}}

    def _imageSettings(self) -> Dict[str, Any]:
        classes = self.getClasses()
        if classes is None:
            return super()._imageSettings()
        return {**classes.getImageSettings(),
                "poses_dir": os.path.relpath(classes.getClassesDir(), self._getExtraPath())}

    def _boxSettings(self) -> Dict[str, int]:
        return super()._boxSettings() if self.getClasses() is None else given_values(self, DataConfig, ("box_px",))

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that are trained on: with classes 2D those that are in a class of particles."""
        classes = self.getClasses()
        return self.inputParticles if classes is None else Pointer(classes, extended="outputParticles")
