"""Train a 3D VAE-GAN: on particles with their poses, which is the better way, or without."""
import os
from enum import Enum
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfVolumes
from pyworkflow.object import Pointer

from ..convert.from_engine import new_picture_item
from ..engine.vaegan_engine.contract import presets, result_files
from ..engine.vaegan_engine.contract.boxes import cropped_box_px
from ..engine.vaegan_engine.contract.settings import DataConfig, TrainingConfig
from . import symmetry_fields
from .form_settings import OptionalNumber, given_values, labelled, optional
from .protocol_base import content_digest, missing_alignment
from .protocol_states import VaeganProtStates
from .protocol_train import POSED_PRESET, VaeganProtTrain

OF_STATES, OF_PARTICLES, NO_POSES = 0, 1, 2  # choices of posesFrom


class VaeganProtTrain3DOutputs(Enum):
    """Outputs of the protocol."""

    outputVolumes = SetOfVolumes


class VaeganProtTrain3D(VaeganProtTrain):
    """Train a 3D VAE-GAN on particles at their poses, or without poses.

    With the poses of *find states and poses*, or of a refinement of all particles as one structure, every image says
    at its pose how its molecule differs from the mean map: a latent vector with its uncertainty for each particle, and
    a generator that draws the map at any point of this landscape. Without poses a generator makes maps, projects
    them in random directions, and learns until a critic cannot tell its images from the particles; its groups are
    weaker.

    Output: maps of the generator. Give this run to *embed and cluster* next.
    """

    _label = "train 3D"
    _possibleOutputs = VaeganProtTrain3DOutputs
    COMMAND = "train3d"
    OWN_IMAGES = f"posesFrom != {OF_STATES}"
    NO_POSES = f"posesFrom == {NO_POSES}"

    # --------------------------- DEFINE param functions ---------------------------
    def _defineInputParams(self, form: Any) -> None:
        form.addParam("posesFrom", params.EnumParam, default=OF_STATES, label="Poses",
                      choices=["of find states and poses", "that the particles carry", "none"],
                      help="Poses of this plugin's states; or of a refinement of all particles as one structure, by "
                           "RELION, cryoSPARC or another; or none: slower, and its groups are weaker.")
        form.addParam("inputStates", params.PointerParam, pointerClass="VaeganProtStates", important=True,
                      condition=f"posesFrom == {OF_STATES}", label="States and poses",
                      help="A finished run of find states and poses. Its particles, but for those set aside, are "
                           "trained on, with its part of the box, diameter and contrast.")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", important=True,
                      condition=self.OWN_IMAGES, label="Input particles",
                      help="Particles with CTF, and with a projection alignment where it is to be used. They may be "
                           "uncurated.")

    def _defineAdvancedParams(self, form: Any) -> None:
        form.addParam("resolutionAng", OptionalNumber, default="",
                      expertLevel=params.LEVEL_ADVANCED, condition=f"posesFrom != {NO_POSES}",
                      label=labelled("Finest detail used", "A", f"box / {TrainingConfig().band_shells:g}"),
                      help="With poses: Fourier coefficients up to this resolution are used. Finer takes longer; at "
                           "least a little more than two pixels of the training box.")
        super()._defineAdvancedParams(form)

    # --------------------------- STEPS functions ---------------------------
    def createOutputStep(self, digest: str, settings: str) -> None:
        rate = self.getTrainingPixelSize()
        volumes = self._createSetOfVolumes()
        volumes.setSamplingRate(rate)
        for row in self.readComponents():
            volumes.append(new_picture_item(True, self.pictureOf(row), rate, f"component {row.index + 1}",
                                            z=row.z))
        self._defineOutputs(**{VaeganProtTrain3DOutputs.outputVolumes.name: volumes})
        self._defineSourceRelation(self.getParticlesPointer(), volumes)

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        states = self.getStates()
        if states is not None and not (states.hasAttribute("outputParticles") and self._posesDigest()):
            return [f"'States and poses': the run '{states.getRunName()}' has no particles with poses. Finish it "
                    "first, or choose other poses."]
        wrong = ([] if states is None else symmetry_fields.not_for_training(states)) or self._validateResolution()
        if wrong:
            return wrong
        problems, particles = super()._validateForm(), self.getParticlesPointer().get()
        if self.usesAlignment() and particles is not None:
            problems += missing_alignment(
                particles, "'Poses' are those that the particles carry, but the input particles have no projection "
                           "alignment. Give refined particles, or find states and poses first.")
        return problems

    def _warnings(self) -> List[str]:
        notes = super()._warnings()
        if not self.isPosed():
            notes.append("Without poses the groups are much weaker and the training takes longer. Run 'find states "
                         "and poses' first and give it here, unless you want to know what is seen without them.")
        return notes

    def _citations(self) -> List[str]:
        if self.isPosed():
            return ["KingmaWelling2014", "Larsen2016", "Scheres2012"]
        return ["Larsen2016", "Gupta2021", "Gulrajani2017", "Huang2024", "Chaman2021", "Sitzmann2020",
                "Chan2021"]

    # --------------------------- UTILS functions ---------------------------
    @classmethod
    def _empty(cls, section: str, name: str) -> str:
        without = super()._empty(section, name)
        if name == "box_px":
            return f"that of the states; else {without}"
        posed = presets.PRESETS[cls.COMMAND][POSED_PRESET].changes[section][name]
        return f"with poses {posed:g}; else {without}" if posed else without  # 0: the form does not ask with poses

    def _validateDiameter(self, particles: Any) -> List[str]:
        return super()._validateDiameter(particles) if self.getStates() is None else []

    def getStates(self) -> Any:
        """The run whose states' poses are taken; None where there is none."""
        return self.inputStates.get() if self.posesFrom.get() == OF_STATES else None

    def isPosed(self) -> bool:
        """Whether the training is given poses."""
        return bool(self.posesFrom.get() != NO_POSES)

    def usesAlignment(self) -> bool:
        return bool(self.posesFrom.get() == OF_PARTICLES)

    def _posesDigest(self) -> str:
        states = self.getStates()
        if states is None:
            return ""
        return content_digest(os.path.join(states.getStatesDir(), result_files.PARTICLES_CSV))

    def _posesText(self) -> str:
        if not self.isPosed():
            return ""
        return ("at the poses of the states" if self.getStates() is not None
                else "at the poses that the particles carry")

    def _modelSettings(self, data: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
        if not self.isPosed():
            return super()._modelSettings(data)
        finest, wanted_ang = data.get("box_px", DataConfig().box_px) / 2 - 1, optional(self, "resolutionAng")
        particles = self.getParticlesPointer().get()
        if wanted_ang is None or particles is None:
            return {"training": {"band_shells": min(TrainingConfig().band_shells, finest)}}
        return {"training": {"band_shells": self._keptAng(particles, data) / wanted_ang if wanted_ang > 0 else 0.0}}

    def _keptAng(self, particles: Any, data: Dict[str, Any]) -> float:
        """Width in A of the part of the images that is used."""
        return float(cropped_box_px(particles.getXDim(), data["crop_frac"]) * particles.getSamplingRate())

    def _validateResolution(self) -> List[str]:
        """What is wrong with the finest detail asked for."""
        particles = self.getParticlesPointer().get()
        wanted_ang = optional(self, "resolutionAng") if self.isPosed() else None
        if wanted_ang is None or particles is None:
            return []
        data = {**self._imageSettings(), **self._boxSettings()}
        kept_ang = self._keptAng(particles, data)
        low = kept_ang / (data.get("box_px", DataConfig().box_px) / 2 - 1)
        if not low <= wanted_ang <= kept_ang / 3:
            return [f"Finest detail used (Å) is {wanted_ang:g}. Use {low:.1f} to {kept_ang / 3:.1f} Å, or leave it "
                    "empty."]
        return []

    def _imageSettings(self) -> Dict[str, Any]:
        states: VaeganProtStates = self.getStates()
        if states is None:
            return {**super()._imageSettings(), "input_poses": self.usesAlignment()}
        return {**states.getImageSettings(),
                "poses_dir": os.path.relpath(states.getStatesDir(), self._getExtraPath())}

    def _boxSettings(self) -> Dict[str, int]:
        if self.getStates() is None:
            return super()._boxSettings()
        return given_values(self, DataConfig, ("box_px",))  # else that of the states

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that are trained on: with the poses of states those that are in a state."""
        states = self.getStates()
        return self.inputParticles if states is None else Pointer(states, extended="outputParticles")
