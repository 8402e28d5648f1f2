"""Class averages of particles with their alignment in the plane: the engine's classes2d, as RELION's are."""
import json
import os
from enum import Enum
from functools import partial
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAverages, SetOfClasses2D, SetOfParticles
from pyworkflow.object import Float, String

from ..constants import CLASSES_DIR, PARTICLES_STAR
from ..convert.from_engine import Picture, fresh_items, new_picture_item, set_location
from ..convert.plane_classes import PlanePose, align_in_plane, read_plane_poses
from ..convert.poses import Placing
from ..engine.vaegan_engine.contract import result_files, run_json
from ..engine.vaegan_engine.contract.analysis_records import Classes2dSummary
from ..engine.vaegan_engine.contract.answer import classes_answer
from ..engine.vaegan_engine.contract.record import read_record, read_records
from ..engine.vaegan_engine.contract.records import ClusterRow
from ..engine.vaegan_engine.contract.settings import Classes2dRun, ComputeConfig, DataConfig
from ..engine.vaegan_engine.contract.status import read_status
from ..engine_run import has_result, result_file
from ..prepared_images import taken_note
from .box_field import LABELS, add_box, chosen_box_px, data_problems, data_values, too_large
from .cost_note import add_cost_line, cost_note
from .form_settings import add_setting, optional, problems_of, values_of
from .particle_notes import image_settings, particle_notes
from .protocol_base import (
    VaeganProtBase,
    kept_box_ang,
    refuse_strangers,
    set_digest,
    validate_diameter,
    validate_particles,
)

N_PARTICLES_MIN = 40  # the engine's limit
N_PARTICLES_FEW = 500
DATA = ("box_px", "crop_frac", "invert_contrast", "ignore_ctf", "max_images")
SEARCH = ("particle_diameter_ang", "n_classes", "max_shift_frac", "n_steps")


class VaeganProtClasses2DOutputs(Enum):
    """Outputs of the protocol."""

    outputClasses = SetOfClasses2D
    outputAverages = SetOfAverages
    outputParticles = SetOfParticles
    outputJunk = SetOfParticles


class VaeganProtClasses2D(VaeganProtBase):
    """Class averages of particles, by expectation maximisation over class, turn and shift in the plane.

    Starts from many classes; empty ones are dissolved and equal ones joined. The CTF, the noise spectrum and every
    image's contrast are modelled. Averages are masked to the particle, so that neighbours neither align nor show, and
    centred. Two half sets are aligned apart from a coarse start on, and a class has the resolution to which they agree.
    Classes that the other half does not reproduce, that stay off centre or hold more than one particle are junk, and so
    are single images that hold much more than their class.

    Outputs: classes whose particles carry the 2D alignment, the largest first, those of junk last and named so; the
    averages of the others, their particles, and the images of junk.
    """

    _label = "classes 2D"
    _possibleOutputs = VaeganProtClasses2DOutputs

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        advanced = params.LEVEL_ADVANCED
        form.addSection(label="Input")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", important=True,
                      label="Input particles", help="Particles with CTF, as they were picked.")
        add_setting(form, DataConfig, "max_images", label=LABELS["max_images"], expertLevel=advanced)
        add_cost_line(form)
        form.addSection(label="Particle")
        add_box(form, "Twice the pixel size of these images is the finest resolution of the averages")
        add_setting(form, DataConfig, "crop_frac", "The wizard shows it on your particles")
        add_setting(form, Classes2dRun, "particle_diameter_ang", "The wizard shows it on your particles")
        add_setting(form, DataConfig, "invert_contrast")
        add_setting(form, DataConfig, "ignore_ctf", expertLevel=advanced)
        form.addSection(label="Classes")
        add_setting(form, Classes2dRun, "n_classes")
        add_setting(form, Classes2dRun, "max_shift_frac")
        add_setting(form, Classes2dRun, "n_steps", expertLevel=advanced)
        add_setting(form, ComputeConfig, "seed", expertLevel=advanced)
        self._defineComputeParams(form, gpu=False)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        digest = set_digest(self.inputParticles.get())
        # Continue compares the arguments of each step alone: whatever matters goes to all of them
        settings = json.dumps(run_json.to_dict(self._getSettings()))
        self._insertFunctionStep(self.convertInputStep, digest)
        self._insertFunctionStep(self.classesStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings)

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str) -> None:
        self._convertAnew(self.inputParticles.get(), self.getClassesDir())

    def classesStep(self, digest: str, settings: str) -> None:
        self._runEngine(self._getSettings(), "classes2d", CLASSES_DIR)

    def createOutputStep(self, digest: str, settings: str) -> None:
        pointer, rows = self.inputParticles, self.readClassRows()
        particles, poses = pointer.get(), read_plane_poses(self.getClassesDir())
        refuse_strangers(poses, particles)
        classes = self._createSetOfClasses2D(pointer)
        self._fillClasses(classes, poses, {row.label: row for row in rows}, particles.getSamplingRate())
        made = {"outputClasses": classes}
        good = [row for row in rows if not row.of_class.junk]
        if good or self.hasAttribute("outputAverages"):
            made["outputAverages"] = self._makeAverages(good)
        kept = {i for i, pose in poses.items() if not pose.junk}
        made.update(self._makeKeptAndJunk(poses, kept, lambda some, own: self._fillParticles(some, particles, own)))
        self._defineMade(pointer, made)

    def _fillClasses(self, classes: Any, poses: Dict[int, PlanePose], rows: Dict[int, ClusterRow],
                     particle_rate: float) -> None:
        def set_class(particle: Any, _row: Any) -> None:
            pose = poses.get(particle.getObjId())
            particle.setClassId(0 if pose is None else pose.label + 1)  # 0, in no class: not used, or left without one
            if pose is not None:
                align_in_plane(particle, pose, particle_rate)

        def set_representative(item: Any) -> None:
            row = rows[item.getObjId() - 1]
            item.setAlignment2D()
            item.setObjLabel(class_text(row))
            item._vaeganJunk = String(row.of_class.junk)
            item._vaeganResolution = Float(row.of_class.frc_0143_ang)
            item.getRepresentative().setSamplingRate(row.of_class.pixel_size_ang)
            set_location(item.getRepresentative(), self.pictureOf(row))

        classes.classifyItems(updateItemCallback=set_class, updateClassCallback=set_representative,
                              iterParams={"orderBy": "id"}, doClone=False)

    def _makeAverages(self, rows: List[ClusterRow]) -> Any:
        averages = self._createSetOfAverages()
        averages.setSamplingRate(self.getMapPixelSize())
        for row in rows:
            averages.append(new_picture_item(False, self.pictureOf(row), row.of_class.pixel_size_ang, class_text(row),
                                             label=row.label, particles=row.n_particles,
                                             resolution=float(row.of_class.frc_0143_ang)))
        return averages

    def _fillParticles(self, aligned: Any, particles: Any, poses: Dict[int, PlanePose]) -> None:
        aligned.copyInfo(particles)
        aligned.setHasCTF(particles.hasCTF())
        aligned.setAlignment2D()
        rate = particles.getSamplingRate()
        for particle in fresh_items(particles):
            pose = poses.get(particle.getObjId())
            if pose is None or not particle.isEnabled():
                continue
            align_in_plane(particle, pose, rate)
            particle.setClassId(pose.label + 1)
            aligned.append(particle)

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems, particles = self._validateCompute(), self.inputParticles.get()
        of_settings = problems_of(Classes2dRun, values_of(self, Classes2dRun, SEARCH))
        of_settings += data_problems(self, particles, DATA, N_PARTICLES_MIN)
        if particles is None:
            return problems + of_settings
        problems += validate_particles(particles, not self.ignoreCtf.get(), N_PARTICLES_MIN)
        if of_settings:
            return problems + of_settings
        problems += too_large(self, particles)
        return problems + validate_diameter(optional(self, "particleDiameterAng"), kept_box_ang(self, particles))

    def _warnings(self) -> List[str]:
        particles = self.inputParticles.get()
        if particles is None:
            return []
        return self._warnAnew("classes2d", CLASSES_DIR) + particle_notes(self, particles, N_PARTICLES_FEW)

    def _summary(self) -> List[str]:
        if not self.hasAttribute("outputClasses") or not has_result(self.getClassesDir(), result_files.CLASSES2D_JSON):
            stage = read_status(self.getClassesDir()).stage
            if not stage:
                return ["The classes are not made yet."]
            return [f"Running: {stage}" if self.isActive() else f"Stopped at: {stage}. Continue goes on from there.",
                    *cost_note(self.getClassesDir())]
        return [f"Answer: {self.answerText()}", f"Verdict: {self._details().verdict}",
                f"All averages in one picture: {self._path(result_files.CLASSES_PNG)}",
                *taken_note(self.getClassesDir())]

    def _methods(self) -> List[str]:
        if not self.hasAttribute("outputClasses") or not has_result(self.getClassesDir(), result_files.CLASSES2D_JSON):
            return []
        details, box_px = self._details(), chosen_box_px(self, self.inputParticles.get())
        return [f"{details.n_particles} particles (box {box_px} px of {self.getMapPixelSize():.2f} Å) were classified "
                f"in the plane by expectation maximisation [Scheres2012] from {self.nClasses.get()} classes: "
                f"{details.verdict}."]

    def _citations(self) -> List[str]:
        return ["Scheres2012"]

    # --------------------------- UTILS functions ---------------------------
    def getClassesDir(self) -> str:
        """Results folder of the classification."""
        return str(self._getExtraPath(CLASSES_DIR))

    def readClassRows(self) -> List[ClusterRow]:
        """Rows of its `clusters.json`."""
        return read_records(ClusterRow, result_file(self.getClassesDir(), result_files.CLUSTERS_JSON), "classes2d")

    def answerText(self) -> str:
        """How many classes of particles there are, and what to go on with."""
        return classes_answer(self._details())

    def getClustersDir(self) -> str:
        """Folder of the tables that clusters have too."""
        return self.getClassesDir()

    def readAlignments(self, sampling_rate_ang: float) -> Dict[int, Placing]:
        """Particle id -> class and 2D alignment of a particle of this pixel size; of junk too."""
        return {i: Placing(pose.label + 1, partial(align_in_plane, pose=pose, sampling_rate_ang=sampling_rate_ang))
                for i, pose in read_plane_poses(self.getClassesDir()).items()}

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that were classified."""
        return self.inputParticles

    def getImageSettings(self) -> Dict[str, Any]:
        """How its images were made, for a training on the same ones: settings of `DataConfig`."""
        return image_settings(self)

    def isVolumetric(self) -> bool:
        """Classes in the plane have images, not maps."""
        return False

    def getMapPixelSize(self) -> float:
        """Pixel size of the averages in A."""
        return self.readClassRows()[0].of_class.pixel_size_ang

    def _details(self) -> Classes2dSummary:
        return read_record(Classes2dSummary, result_file(self.getClassesDir(), result_files.CLASSES2D_JSON),
                           "classes2d")

    def _path(self, file: str) -> str:
        return os.path.join(self.getClassesDir(), file)

    def pictureOf(self, row: ClusterRow) -> Picture:
        """The average of a class."""
        return Picture(row.index + 1, str(result_file(self.getClassesDir(), row.file)))

    def _getSettings(self) -> Classes2dRun:
        """The form as settings of the engine, paths relative to extra/."""
        particles = self.inputParticles.get()
        data = DataConfig(particles=PARTICLES_STAR, **data_values(self, particles, DATA),
                          phase_flipped=bool(particles is not None and particles.isPhaseFlipped()))
        return Classes2dRun(data=data, **values_of(self, Classes2dRun, SEARCH),
                            compute=ComputeConfig(device="cpu", threads=self.numberOfThreads.get(),
                                                  seed=self.seed.get()))


def class_text(row: ClusterRow) -> str:
    """Name of a class: its number, and why it is junk, or to what resolution its halves agree."""
    name, figures = f"class {row.label + 1}", row.of_class
    if figures.junk:
        return f"{name}: junk, {figures.junk}"
    return f"{name}: {figures.frc_0143_ang:.1f} Å" if figures.frc_0143_ang else name
