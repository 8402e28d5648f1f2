"""States at full resolution: local refinement in the particles' own box, half sets apart; half maps, sharpened maps."""
import json
import os
from enum import Enum
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfClasses3D, SetOfFSCs, SetOfParticles, SetOfVolumes

from ..constants import FULLRES_DIR, MASK_MRC, PARTICLES_STAR
from ..convert.from_engine import Picture, enabled_ids, new_picture_item
from ..convert.poses import pose_matrices, read_poses
from ..convert.same_particles import why_others
from ..engine.vaegan_engine.contract import result_files, run_json
from ..engine.vaegan_engine.contract.answer import doubt_about, fullres_answer, fullres_methods
from ..engine.vaegan_engine.contract.fullres_records import FullresState, FullresSummary
from ..engine.vaegan_engine.contract.labels import UNASSIGNED
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.records import StatesSummary
from ..engine.vaegan_engine.contract.settings import FullresRun
from ..engine.vaegan_engine.contract.status import read_status
from ..engine.vaegan_engine.contract.wording import with_ring
from ..engine_run import EngineError, has_result, result_file
from . import mask_field
from .cost_note import add_cost_line, cost_note
from .form_settings import add_setting, problems_of, values_of
from .particle_notes import contrast_notes
from .protocol_base import content_digest, set_digest, validate_particles
from .protocol_states import VaeganProtStates
from .same_kind import validate_same_flips

SETTINGS = ("b_factor_ang2", "max_rounds")
STATES_SEEN = "states_seen.txt"  # digest of the states' table that the rounds began with
N_PARTICLES_MIN = 20  # of the smallest state, in both half sets


class VaeganProtFullresOutputs(Enum):
    """Outputs of the protocol."""

    outputClasses = SetOfClasses3D
    outputVolumes = SetOfVolumes
    outputSharpened = SetOfVolumes
    outputParticles = SetOfParticles
    outputFSCs = SetOfFSCs


class VaeganProtFullres(VaeganProtStates):
    """Refine every state of a finished *find states and poses* at full resolution, in the particles' own box.

    Poses are refined locally, each half set in its own map, in a band that follows the FSC of the two; no particle
    changes its state. Signal and noise are weighed as in RELION: a prior from the FSC, a noise spectrum per optics
    group or micrograph, the particles' own CTF.

    Outputs: maps with half maps for post-processing, sharpened copies, FSCs (masked, corrected by random phases), and
    the particles with refined alignment, in their classes too. In extra/fullres: local resolution and mask of every
    state, a star file and a shell script for RELION's own refinement around these poses.
    """

    _label = "refine states at full resolution"
    _possibleOutputs = VaeganProtFullresOutputs
    _shares = False  # unlike the search that it is a kind of: the engine's fullres is one process

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputStates", params.PointerParam, pointerClass="VaeganProtStates", important=True,
                      label="States", help="A finished run of find states and poses.")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", allowsNull=True,
                      label="Particles at full size (optional)",
                      help="The same particles (ids), extracted again in a larger box or with smaller pixels, centred "
                           "alike. Empty = those of the states.")
        mask_field.add_field(form, "the states' maps")
        add_cost_line(form)
        for name in SETTINGS:
            add_setting(form, FullresRun, name, expertLevel=params.LEVEL_ADVANCED)
        self._defineComputeParams(form)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        digest = " ".join([set_digest(self.getParticles()), content_digest(self._statesTable()),
                           mask_field.digest_of(self.getMask())])
        settings = json.dumps(run_json.to_dict(self._getSettings()))
        self._insertFunctionStep(self.convertInputStep, digest, needsGPU=False)
        self._insertFunctionStep(self.fullresStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str) -> None:  # type: ignore[override]
        self._convertAnew(self.getParticles(), self.getStatesDir())
        self._forgetOf(STATES_SEEN, content_digest(self._statesTable()), self.getStatesDir())
        mask_field.write_mask(self.getMask(), self._getExtraPath(), self.getStatesDir())

    def fullresStep(self, digest: str, settings: str) -> None:
        self._runEngine(self._getSettings(), "fullres", FULLRES_DIR)

    def createOutputStep(self, digest: str, settings: str) -> None:
        pointer, particles, poses = self.getParticlesPointer(), self.getParticles(), read_poses(self.getStatesDir())
        strangers = sorted(set(poses) - set(enabled_ids(particles)))
        if strangers:
            raise EngineError(f"{result_files.PARTICLES_CSV}: particle {strangers[0]} is not in the input set "
                              f"({len(strangers)} such particles). Run again with Restart.")
        rows, rate = {row.label: row for row in self.readClusterRows()}, self.getMapPixelSize()
        matrices = pose_matrices(poses, particles.getSamplingRate())
        classes, aligned = self._createSetOfClasses3D(pointer), self._createSetOfParticles()
        self._fillClasses(classes, poses, rows, matrices, rate)
        self._fillParticles(aligned, particles, poses, matrices)
        made = {"outputClasses": classes, "outputVolumes": self._makeVolumes(rows, rate),
                "outputSharpened": self._makeSharpened(rate), "outputFSCs": self._makeFSCs(rows),
                "outputParticles": aligned}
        self._defineOutputs(**made)
        for output in made.values():
            self._defineSourceRelation(pointer, output)

    def _makeSharpened(self, rate: float) -> Any:
        volumes = self._createSetOfVolumes("_sharpened")
        volumes.setSamplingRate(rate)
        for state in self.readStates():
            volumes.append(new_picture_item(
                True, Picture(0, self._path(state.sharpened_file)), rate, f"state {state.label + 1}, {b_text(state)}",
                label=state.label, particles=state.n_particles))
        return volumes

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems, states = self._validateCompute(), self.inputStates.get()
        problems += problems_of(FullresRun, values_of(self, FullresRun, SETTINGS))
        if states is None:
            return problems
        if isinstance(states, VaeganProtFullres):
            return [*problems, f"'{states.getRunName()}' is at full resolution already. Give the run of find states "
                               "and poses that it began with."]
        if not states.hasAttribute("outputClasses") or not has_result(states.getStatesDir(), result_files.STATES_JSON):
            return [*problems, f"The run '{states.getRunName()}' has no states. Finish it first."]
        particles, before = self.getParticles(), states.getParticlesPointer().get()
        if particles is None:
            return [*problems, "The states have no input particles any more. Give the particles here."]
        problems += validate_particles(particles, not states.ignoreCtf.get(), N_PARTICLES_MIN)
        used = in_states(states)
        missing = sorted(set(used) - set(enabled_ids(particles)))
        if missing and not set(missing) - particles.getIdSet():
            problems.append(f"Particle {missing[0]} of the states is disabled ({len(missing)} are). Enable them, or "
                            "find states and poses again without them.")
        elif missing:
            problems.append(f"Particle {missing[0]} of the states is not among the particles at full size "
                            f"({len(missing)} are missing). Give the same particles, with the same ids.")
        problems += mask_field.problems(self.getMask(), (box_ang(particles), states_box_ang(states)))
        if self.inputParticles.get() is not None and before is not None:
            problems += validate_same_flips(particles, before, "the states")
            problems += filter(None, [why_others(before, particles, used)])
        return problems

    def _warnings(self) -> List[str]:
        notes, states = self._warnCompute(), self.inputStates.get()
        notes += [] if states is None else self._warnAnew("fullres", FULLRES_DIR)
        if states is None or self.inputParticles.get() is None or states.getParticlesPointer().get() is None:
            return notes
        data = self.getImageSettings()
        return notes + contrast_notes(self.getParticles(), data["particle_radius_frac"] * data["crop_frac"],
                                      data["invert_contrast"])

    def _summary(self) -> List[str]:
        if not self.hasAttribute("outputVolumes") or not has_result(self.getStatesDir(), result_files.FULLRES_JSON):
            stage = read_status(self.getStatesDir()).stage
            if not stage:
                return ["The states are not refined yet."]
            return [f"Running: {stage}" if self.isActive() else f"Stopped at: {stage}. Continue goes on from there.",
                    *cost_note(self.getStatesDir())]
        return [f"Answer: {self.answerText()}"] + [
                f"state {state.label + 1}: {state.n_particles} particles, {state.resolution_ang:.1f} Å at FSC 0.143 "
                f"(before: {state.resolution_before_ang:.1f} Å)"
                + ("" if state.proven else ", not proven: shared by the half maps") + f"; {b_text(state)}"
                for state in self.readStates()]

    def _methods(self) -> List[str]:
        if not self.hasAttribute("outputVolumes") or not has_result(self.getStatesDir(), result_files.FULLRES_JSON):
            return []
        masks = self.getMask(), self.inputStates.get().getMask()
        return [fullres_methods(self.readFullres(), masks != (None, None), "[Scheres2012]")]

    # --------------------------- UTILS functions ---------------------------
    def getStatesDir(self) -> str:
        """Results folder of the refinement; its tables are as those of states."""
        return str(self._getExtraPath(FULLRES_DIR))

    def readFullres(self) -> FullresSummary:
        """Its `fullres.json`."""
        return read_record(FullresSummary, result_file(self.getStatesDir(), result_files.FULLRES_JSON), "fullres")

    def answerText(self) -> str:
        """To what resolution, and whether the states that it began with are to be trusted."""
        states = self.inputStates.get()
        known = states is not None and has_result(states.getStatesDir(), result_files.STATES_JSON)
        return fullres_answer(self.readFullres(), doubt_about(self.readSummary()) if known else "")

    def readStates(self) -> List[FullresState]:
        """What is said of each state."""
        return self.readFullres().states

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that were refined."""
        given = self.inputParticles.get() is not None
        return self.inputParticles if given else self.inputStates.get().getParticlesPointer()

    def getParticles(self) -> Any:
        """The particles at full size."""
        return self.getParticlesPointer().get()

    def getClustering(self) -> Any:
        """None: it begins with states."""
        return None

    def getMask(self) -> Any:
        """The mask of the maps that was given here; where there is none, that of the states counts."""
        return self.inputMask.get()

    def getSearch(self) -> Any:
        """The run of find states and poses that it began with."""
        return self.inputStates.get()

    def getImageSettings(self) -> Dict[str, Any]:
        """How the images of the states were made, for a training on the same ones at these poses."""
        states, own = self.inputStates.get(), self.getParticles()
        return same_part(states.getImageSettings(), box_ang(states.getParticlesPointer().get()), box_ang(own))

    def readSummary(self) -> StatesSummary:
        """`states.json` of the states."""
        summary: StatesSummary = self.inputStates.get().readSummary()
        return summary

    def _statesTable(self) -> str:
        return os.path.join(self.inputStates.get().getStatesDir(), result_files.PARTICLES_CSV)

    def _getSettings(self) -> FullresRun:  # type: ignore[override]
        """The form as settings of the engine, paths relative to extra/."""
        folder = os.path.relpath(self.inputStates.get().getStatesDir(), self._getExtraPath())
        return FullresRun(states_dir=folder, particles=PARTICLES_STAR, **values_of(self, FullresRun, SETTINGS),
                          mask="" if self.getMask() is None else MASK_MRC, compute=self._getCompute())


def same_part(settings: Dict[str, Any], before_ang: float, now_ang: float) -> Dict[str, Any]:
    """Image settings of particles in a box of one width (A), for the same part of the images in a box of another.

    Where the box is smaller than that part all of it is taken, and the particle's circle is the larger part of it.
    """
    if not before_ang or not now_ang:
        return dict(settings)
    kept_ang = settings["crop_frac"] * before_ang
    crop_frac = min(kept_ang / now_ang, 1.0)
    radius_frac = min(settings["particle_radius_frac"] * kept_ang / (crop_frac * now_ang), 0.5)
    return {**settings, "crop_frac": round(crop_frac, 6), "particle_radius_frac": round(radius_frac, 6)}


def box_ang(particles: Any) -> float:
    """Width of the particles' box in A; 0 where there are none."""
    return 0.0 if particles is None else float(particles.getXDim() * particles.getSamplingRate())


def states_box_ang(states: Any) -> float:
    """Width of the box that the maps of states have in A."""
    return float(states.readClusterRows()[0].of_state.box_ang)


def in_states(states: Any) -> List[int]:
    """Ids of the particles that are in a state."""
    return [i for i, pose in read_poses(states.getStatesDir()).items() if pose.label != UNASSIGNED]


def b_text(state: FullresState) -> str:
    """How a map was sharpened, in words."""
    if state.b_factor_ang2 is None:
        return with_ring(state.b_factor_from)
    return f"sharpened by B = {state.b_factor_ang2:.0f} Å² ({with_ring(state.b_factor_from)})"
