"""States, poses and maps of particles: the engine's states, as classes that RELION and others go on with."""
import json
import os
from enum import Enum
from functools import partial
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import FSC, SetOfClasses3D, SetOfFSCs, SetOfParticles, SetOfParticlesFlex, SetOfVolumes, Transform
from pwem.protocols import ProtFlexBase
from pyworkflow.object import Float, Integer

from ..constants import MASK_MRC, PARTICLES_STAR, PROGRAM_NAME, STATES_DIR
from ..convert.from_engine import Picture, fresh_items, new_picture_item, read_fsc_curves, set_location
from ..convert.motions import fill_motion
from ..convert.poses import Placing, Pose, pose_matrices, read_poses
from ..engine.vaegan_engine.contract import errors, result_files, run_json
from ..engine.vaegan_engine.contract.answer import StatesSearch, states_answer, states_methods, versions_text
from ..engine.vaegan_engine.contract.labels import UNASSIGNED
from ..engine.vaegan_engine.contract.record import read_record, read_records
from ..engine.vaegan_engine.contract.records import ClusterRow, StatesSummary
from ..engine.vaegan_engine.contract.settings import DataConfig, StatesRun, TrainRun
from ..engine.vaegan_engine.contract.status import read_status
from ..engine_run import has_result, result_file
from ..prepared_images import taken_note
from . import mask_field, stage_resolutions, symmetry_fields
from .box_field import LABELS, add_box, chosen_box_px, data_problems, data_values, too_large
from .cost_note import add_cost_line, cost_note
from .form_settings import add_setting, optional, problems_of, values_of
from .particle_notes import image_settings, particle_notes
from .protocol_base import (
    VaeganProtBase,
    content_digest,
    kept_box_ang,
    missing_alignment,
    refuse_strangers,
    set_digest,
    validate_diameter,
    validate_particles,
)

N_PARTICLES_MIN = 200  # the engine's limit
N_PARTICLES_FEW = 1000
PIXEL_TOLERANCE = 0.01
DATA = ("box_px", "crop_frac", "invert_contrast", "ignore_ctf", "max_images", "micrograph_pixel_size_ang")
ADVANCED = ("n_starts", "start_steps", "search_steps", "batch_size")
SEARCH = ("particle_diameter_ang", "max_shift_frac", "n_maps", "smallest_frac", "hide_neighbours", *ADVANCED)


class VaeganProtStatesOutputs(Enum):
    """Outputs of the protocol."""

    outputClasses = SetOfClasses3D
    outputVolumes = SetOfVolumes
    outputParticles = SetOfParticles
    outputFSCs = SetOfFSCs
    outputMotions = SetOfVolumes
    outputMotionParticles = SetOfParticlesFlex
    outputJunk = SetOfParticles


class VaeganProtStates(VaeganProtBase, ProtFlexBase):
    """Find states, poses and maps of particles by expectation maximisation over poses. No training is needed.

    Starts from random maps, from clusters' maps, or from the particles' own alignment. Two groups of images are two
    states where hardly any image lies between them, which all images together tell even where no single one can;
    what they share without such a gap varies continuously. Two halves of each state are refined apart. A verdict says
    how many states there are, or that no structure was found. Images that no state explains (empty, aggregates, off
    centre, other molecules) are set aside.

    Outputs: classes whose particles carry class and projection alignment, maps with half maps, FSCs between the
    halves, and the particles of all states with their alignment: input for RELION's and cryoSPARC's refinements. Where
    there are any: the images that were set aside, and for states that vary continuously maps along the motion, and
    their particles with the place along it as flexible coordinate.
    """

    _label = "find states and poses"
    _possibleOutputs = VaeganProtStatesOutputs
    _shares = True

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        advanced = params.LEVEL_ADVANCED
        form.addSection(label="Input")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", important=True,
                      label="Input particles", help="Particles with CTF; no poses are needed. They may be uncurated.")
        form.addParam("useAlignment", params.BooleanParam, default=False, label="Start from their alignment?",
                      help="Yes: the angles and shifts that the particles carry, of a refinement of all of them as one "
                           "structure, are refined locally; none is searched. No: poses are found from nothing.")
        form.addParam("inputClusters", params.PointerParam, pointerClass="VaeganProtCluster", allowsNull=True,
                      condition="not useAlignment", label="Clusters to start from (optional)",
                      help="Embed and cluster after a 3D training with this box and part kept: its maps are in the "
                           "start. Empty = random maps alone.")
        add_setting(form, DataConfig, "max_images", label=LABELS["max_images"], expertLevel=advanced)
        add_cost_line(form)
        form.addSection(label="Particle")
        add_box(form, "Twice the pixel size of these images is the finest resolution of the maps")
        add_setting(form, DataConfig, "crop_frac", "The wizard shows it on your particles")
        add_setting(form, StatesRun, "particle_diameter_ang", "The wizard shows it on your particles")
        add_setting(form, DataConfig, "invert_contrast")
        symmetry_fields.add_fields(form)
        mask_field.add_field(form, "their alignment", condition="useAlignment", expertLevel=advanced)
        add_setting(form, StatesRun, "hide_neighbours", "Needs coordinates and the particle's diameter",
                    expertLevel=advanced)
        add_setting(form, DataConfig, "micrograph_pixel_size_ang", condition="hideNeighbours", expertLevel=advanced)
        add_setting(form, DataConfig, "ignore_ctf", expertLevel=advanced)
        form.addSection(label="Search")
        add_setting(form, StatesRun, "n_maps")
        add_setting(form, StatesRun, "smallest_frac")
        add_setting(form, StatesRun, "max_shift_frac")
        for name in ADVANCED:
            add_setting(form, StatesRun, name, expertLevel=advanced)
        stage_resolutions.add_fields(form)
        self._defineComputeParams(form)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        clustering, digest = self.getClustering(), set_digest(self.inputParticles.get())
        # Continue compares the arguments of each step alone: whatever matters goes to all of them
        settings = json.dumps([
            run_json.to_dict(self._getSettings()),
            content_digest(os.path.join(clustering.getClustersDir(), result_files.CLUSTERS_JSON)) if clustering else "",
            mask_field.digest_of(self.getMask())])
        self._insertFunctionStep(self.convertInputStep, digest, self.useAlignment.get(),
                                 mask_field.digest_of(self.getMask()), needsGPU=False)
        self._insertFunctionStep(self.statesStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str, aligned: bool, mask: str) -> None:
        self._convertAnew(self.inputParticles.get(), self.getStatesDir(), aligned)
        mask_field.write_mask(self.getMask(), self._getExtraPath(), self.getStatesDir())

    def statesStep(self, digest: str, settings: str) -> None:
        self._runEngine(self._getSettings(), "states", STATES_DIR)

    def createOutputStep(self, digest: str, settings: str) -> None:
        pointer, rate = self.inputParticles, self.getMapPixelSize()
        particles, poses = pointer.get(), read_poses(self.getStatesDir())
        refuse_strangers(poses, particles)
        rows = {row.label: row for row in self.readClusterRows()}
        volumes = self._makeVolumes(rows, rate)
        classes = self._createSetOfClasses3D(pointer)
        matrices = pose_matrices(poses, particles.getSamplingRate())
        self._fillClasses(classes, poses, rows, matrices, rate)
        made = {"outputClasses": classes, "outputVolumes": volumes, "outputFSCs": self._makeFSCs(rows)}
        kept = {i: pose for i, pose in poses.items() if pose.label != UNASSIGNED}
        made.update(self._makeKeptAndJunk(
            poses, set(kept), lambda some, own: self._fillParticles(some, particles, own, matrices)))
        moving = [row for row in rows.values() if row.of_state.motion_files]
        if moving or self.hasAttribute("outputMotions"):
            made["outputMotions"] = self._makeMotions(moving, rate)
            made["outputMotionParticles"] = self._createSetOfParticlesFlex(suffix="_motion", progName=PROGRAM_NAME)
            fill_motion(made["outputMotionParticles"], particles, kept, matrices, self.getStatesDir())
        self._defineMade(pointer, made)

    def _makeVolumes(self, rows: Dict[int, ClusterRow], rate: float) -> Any:
        volumes = self._createSetOfVolumes()
        volumes.setSamplingRate(rate)
        for label, row in sorted(rows.items()):
            volume = new_picture_item(True, Picture(0, self._path(row.file)), rate, f"state {label + 1}",
                                      label=label, particles=row.n_particles)
            volume.setHalfMaps([self._path(file) for file in row.of_state.files])
            volumes.append(volume)
        return volumes

    def _makeMotions(self, rows: List[ClusterRow], rate: float) -> Any:
        volumes = self._createSetOfVolumes("_motion")
        volumes.setSamplingRate(rate)
        for row in sorted(rows, key=lambda row: row.label):
            for k, file in enumerate(row.of_state.motion_files):
                t = k / (len(row.of_state.motion_files) - 1)
                volumes.append(new_picture_item(True, Picture(0, self._path(file)), rate,
                                                f"state {row.label + 1}, t = {t:.1f}", label=row.label))
        return volumes

    def _fillClasses(self, classes: Any, poses: Dict[int, Pose], rows: Dict[int, ClusterRow],
                     matrices: Dict[int, Any], map_rate: float) -> None:
        def set_class(particle: Any, _row: Any) -> None:
            pose = poses.get(particle.getObjId())
            # 0, in no class: not used, or set aside
            particle.setClassId(0 if pose is None else pose.label + 1)
            if pose is not None:
                align(particle, pose, matrices[particle.getObjId()])

        def set_representative(item: Any) -> None:
            label = item.getObjId() - 1
            item.setAlignmentProj()
            item.setObjLabel(f"state {label + 1}")
            item._vaeganLabel = Integer(label)
            item.getRepresentative().setSamplingRate(map_rate)
            set_location(item.getRepresentative(), Picture(0, self._path(rows[label].file)))

        classes.classifyItems(updateItemCallback=set_class, updateClassCallback=set_representative,
                              iterParams={"orderBy": "id"}, doClone=False)

    def _fillParticles(self, aligned: Any, particles: Any, poses: Dict[int, Pose], matrices: Dict[int, Any]) -> None:
        aligned.copyInfo(particles)
        aligned.setHasCTF(particles.hasCTF())
        aligned.setAlignmentProj()
        for particle in fresh_items(particles):
            pose = poses.get(particle.getObjId())
            if pose is None or not particle.isEnabled():
                continue
            align(particle, pose, matrices[particle.getObjId()])
            particle.setClassId(pose.label + 1)
            aligned.append(particle)

    def _makeFSCs(self, rows: Dict[int, ClusterRow]) -> Any:
        curves = read_fsc_curves(self.getStatesDir())
        fscs = self._createSetOfFSCs()
        for label in sorted(rows):
            proof = rows[label].of_state.proof
            fsc = FSC(objLabel=f"state {label + 1} (proven beyond {proof.shared_ang:.0f} Å)" if proof.proven_0143
                      else f"state {label + 1} (not proven)")
            fsc.setData(*curves[label])
            fsc._vaeganLabel = Integer(label)
            fscs.append(fsc)
        return fscs

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems, particles = self._validateCompute(), self.inputParticles.get()
        search_problems = problems_of(StatesRun, values_of(self, StatesRun, SEARCH))
        image_problems = data_problems(self, particles, DATA, N_PARTICLES_MIN)
        problems += search_problems + image_problems + symmetry_fields.problems(self)
        if particles is None:
            return problems
        problems += validate_particles(particles, not self.ignoreCtf.get(), N_PARTICLES_MIN)
        if self.useAlignment:
            problems += missing_alignment(
                particles, "'Start from their alignment?' is Yes, but the input particles carry no projection "
                           "alignment. Give refined particles, or set it to No.")
        if not image_problems + search_problems:
            problems += self._validateSizes(particles)
        return problems + self._validateClusters(particles)

    def _validateSizes(self, particles: Any) -> List[str]:
        """What is wrong with box and diameter for these particles."""
        diameter_ang = optional(self, "particleDiameterAng")
        kept_ang, whole_ang = kept_box_ang(self, particles), particles.getXDim() * particles.getSamplingRate()
        return (too_large(self, particles) + validate_diameter(diameter_ang, kept_ang)
                + mask_field.problems(self.getMask(), (kept_ang, whole_ang))
                or stage_resolutions.problems(self, particles))

    def _validateClusters(self, particles: Any) -> List[str]:
        """Why maps of the clusters cannot be in the start."""
        clustering = self.getClustering()
        if clustering is None:
            return []
        name = clustering.getRunName()
        if not clustering.hasAttribute("outputClasses"):
            return [f"The run '{name}' has no clusters. Finish it first."]
        if not clustering.isVolumetric():
            return [f"The clusters of '{name}' are of a 2D training and have no maps. Give those of a 3D training, or "
                    "none."]
        try:
            before = run_json.read_run(os.path.join(clustering.inputTraining.get().getRunDir(), result_files.RUN_JSON))
        except errors.EngineError as error:
            return [str(error)]
        assert isinstance(before, TrainRun)
        rate, box_px = self._expectedPixelSize(particles), chosen_box_px(self, particles)
        if before.data.box_px != box_px or abs(clustering.getMapPixelSize() / rate - 1) > PIXEL_TOLERANCE:
            return [f"The clusters of '{name}' have maps of {before.data.box_px} px of "
                    f"{clustering.getMapPixelSize():.3f} Å; here it would be {box_px} px of {rate:.3f} Å. "
                    "Use the box and the part kept of that training, or no clusters."]
        return []

    def _expectedPixelSize(self, particles: Any) -> float:
        """Pixel size in A of the images used: kept pixels over the box."""
        return kept_box_ang(self, particles) / chosen_box_px(self, particles)

    def _warnings(self) -> List[str]:
        particles, notes = self.inputParticles.get(), self._warnCompute()
        if particles is None:
            return notes
        return notes + self._warnAnew("states", STATES_DIR) + particle_notes(self, particles, N_PARTICLES_FEW)

    def _summary(self) -> List[str]:
        if not self.hasAttribute("outputClasses") or not has_result(self.getStatesDir(), result_files.STATES_JSON):
            stage = read_status(self.getStatesDir()).stage
            if not stage:
                return ["The states are not made yet."]
            return [f"Running: {stage}" if self.isActive() else f"Stopped at: {stage}. Continue goes on from there.",
                    *cost_note(self.getStatesDir())]
        summary = self.readSummary()
        lines = [f"Answer: {self.answerText()}", f"Verdict: {summary.verdict}", *symmetry_fields.summary_lines(summary),
                 *taken_note(self.getStatesDir())]
        for row in sorted(self.readClusterRows(), key=lambda row: row.label):
            lines.append(f"state {row.label + 1}: {row.n_particles} particles, "
                         f"{row.of_state.halves.resolution_0143_ang:.1f} Å at FSC 0.143"
                         + ("" if row.of_state.proof.proven_0143 else " (not proven: shared by the half maps)")
                         + (", varies continuously" if row.of_state.motion_files else ""))
        return lines

    def _methods(self) -> List[str]:
        if not self.hasAttribute("outputClasses") or not has_result(self.getStatesDir(), result_files.STATES_JSON):
            return []
        status = read_status(self.getStatesDir())  # the set may have grown since, and a part of it was asked for
        search = StatesSearch(status.n_particles, chosen_box_px(self, self.inputParticles.get()), self._startText(),
                              self.seed.get(), versions_text(status))
        return [states_methods(search, self.readSummary(), self.readClusterRows(), "[Scheres2012]")]

    def _citations(self) -> List[str]:
        return ["Scheres2012"]

    # --------------------------- UTILS functions ---------------------------
    def getStatesDir(self) -> str:
        """Results folder of the refinement."""
        return str(self._getExtraPath(STATES_DIR))

    def readClusterRows(self) -> List[ClusterRow]:
        """Rows of its `clusters.json`."""
        return read_records(ClusterRow, result_file(self.getStatesDir(), result_files.CLUSTERS_JSON), "states")

    def readSummary(self) -> StatesSummary:
        """Its `states.json`."""
        return read_record(StatesSummary, result_file(self.getStatesDir(), result_files.STATES_JSON), "states")

    def answerText(self) -> str:
        """How many states there are, to what resolution, and whether to trust them, in plain words."""
        return states_answer(self.readSummary(), self.readClusterRows())

    def _path(self, file: str) -> str:
        return str(result_file(self.getStatesDir(), file))

    def getClustersDir(self) -> str:
        """Folder of the tables that clusters have too."""
        return self.getStatesDir()

    def readAlignments(self, sampling_rate_ang: float) -> Dict[int, Placing]:
        """Particle id -> class and alignment of a particle of this pixel size; of those set aside too."""
        poses = read_poses(self.getStatesDir())
        matrices = pose_matrices(poses, sampling_rate_ang)
        return {i: Placing(pose.label + 1, partial(align, pose=pose, matrix=matrices[i])) for i, pose in poses.items()}

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that were parted."""
        return self.inputParticles

    def getImageSettings(self) -> Dict[str, Any]:
        """How its images were made, for a training on the same ones: settings of `DataConfig`."""
        return image_settings(self)

    def getMapPixelSize(self) -> float:
        """Voxel size of the maps in A."""
        return self.readClusterRows()[0].of_state.voxel_size_ang

    def isVolumetric(self) -> bool:
        """States have maps."""
        return True

    def getClustering(self) -> Any:
        """The clusters to start from; None where there are none, or where poses are given."""
        return None if self.useAlignment else self.inputClusters.get()

    def getMask(self) -> Any:
        """The mask of the maps; None where there is none, or where poses are searched."""
        return self.inputMask.get() if self.useAlignment else None

    def getSearch(self) -> Any:
        """The run of find states and poses that the states are of: this one."""
        return self

    def _startText(self) -> str:
        if self.useAlignment:
            return "the particles' alignment" + ", inside a given mask" * (self.getMask() is not None)
        return "clusters' maps" if self.getClustering() else "random maps"

    def _getSettings(self) -> StatesRun:
        """The form as settings of the engine, paths relative to extra/."""
        particles, clustering = self.inputParticles.get(), self.getClustering()
        data = DataConfig(particles=PARTICLES_STAR, **data_values(self, particles, DATA),
                          phase_flipped=bool(particles is not None and particles.isPhaseFlipped()),
                          input_poses=self.useAlignment.get())
        folder = os.path.relpath(clustering.getClustersDir(), self._getExtraPath()) if clustering is not None else ""
        shells = stage_resolutions.shells(self, particles) if particles is not None else {}
        return StatesRun(data=data, clusters_dir=folder, **values_of(self, StatesRun, SEARCH), **shells,
                         mask="" if self.getMask() is None else MASK_MRC,
                         symmetry=symmetry_fields.symmetry(self), relax_symmetry=symmetry_fields.relaxed(self),
                         compute=self._getCompute())


def align(particle: Any, pose: Pose, matrix: Any) -> None:
    """Give a particle its projection alignment, state, its probability, half set and place along the state's motion."""
    particle.setTransform(Transform(matrix))
    particle._vaeganLabel = Integer(pose.label)
    particle._vaeganProbability = Float(pose.probability)
    particle._vaeganContrast = Float(pose.contrast)
    particle._rlnRandomSubset = Integer(pose.half_set)
    particle._vaeganMotion = Float(pose.motion)
