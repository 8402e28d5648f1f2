"""What every protocol of the plugin shares: the engine, GPU and CPU, digests and checks of inputs."""
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticles
from pwem.protocols import EMProtocol
from pyworkflow import BETA
from pyworkflow.protocol import MODE_RESTART

from .. import Plugin
from ..constants import PACKAGE, PARTICLES_STAR
from ..convert.columns import DEFOCUS, TRANSFORM, ids_without
from ..convert.from_engine import enabled_ids
from ..convert.optics_groups import (
    PHASE_FLIPPED,
    PREMULTIPLIED,
    lacks_microscope,
    premultiplied_groups,
    unlike_groups,
    unlike_microscopes,
)
from ..convert.to_engine import READABLE_STACKS, without_alignment, write_particles_star
from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.boxes import cropped_box_px
from ..engine.vaegan_engine.contract.prepared import file_sha256
from ..engine.vaegan_engine.contract.setting import field_of, number_text
from ..engine.vaegan_engine.contract.settings import ComputeConfig, DataConfig
from ..engine.vaegan_engine.contract.status import Status
from ..engine_run import UNREADABLE, EngineError, EngineRun, reason_of
from .form_settings import add_setting, field_problems, problems_of
from .runs_before import pointers_before, waits_in_its_scheduler

N_FILES_CHECKED = 200
CLUSTERS_SEEN = "clusters_seen.txt"  # digest of the groups that a traversal or an evaluation was made of


class VaeganNamed:
    """The short name that stands before the label of a form, in place of the module's."""

    @classmethod
    def getClassLabel(cls, prependPackageName: bool = True) -> str:
        label = str(cls.__dict__.get("_label", cls.__name__))
        return f"{PACKAGE} - {label}" if prependPackageName else label

    @classmethod
    def getClassPackageName(cls) -> str:
        return PACKAGE

    def iterInputAttributes(self) -> Iterator[Tuple[str, Any]]:
        """Inputs by name; while the run waits to be launched also those of the runs that it takes."""
        yield from super().iterInputAttributes()  # type: ignore[misc]
        if waits_in_its_scheduler(self):
            yield from pointers_before(self, VaeganNamed)


class VaeganSaying(VaeganNamed):
    """What a form and its run say, in sentences also where files of the runs that it takes are gone or cut."""

    def _validate(self) -> List[str]:
        """What is wrong with the form: first whether every field can be read, then what the protocol says."""
        return field_problems(self) or self._validateSets() or said_by(self._validateForm)

    def _validateSets(self) -> List[str]:
        """Inputs of which nothing further can be said: sets without particles or without a pixel size."""
        return [problem for particles in self._sets() for problem in unusable(particles)]

    def _sets(self) -> List[Any]:
        """The sets of particles that the form names."""
        named = [(name, pointer.get()) for name, pointer in EMProtocol.iterInputAttributes(self)]
        return [value for name, value in named if isinstance(value, SetOfParticles) and self.evalParamCondition(name)]

    def _validateForm(self) -> List[str]:
        """What is wrong with the values, for the protocols to say."""
        return []

    def warnings(self) -> List[str]:
        """What is doubtful about the form."""
        return [] if self._validateSets() else said_by(super().warnings)  # type: ignore[misc]


def unusable(particles: Any) -> List[str]:
    """Why nothing can be made of a set of particles, one sentence."""
    rate, table = particles.getSamplingRate(), particles.getFileName()
    if particles.getSize() and not (os.path.exists(table) and os.path.getsize(table)):  # asked for, it is made empty
        return [f"{table}: the table of the input set is not there. Bring it back, or give another set."]
    if not particles.getSize():
        return ["The input set has no particles. Give another set."]
    if not rate or not 0 < rate < float("inf"):
        return [f"The input set's sampling rate is {rate} Å/px; it must be above 0. "
                "Import the particles with their sampling rate."]
    if not particles.getXDim():
        return ["The input set does not know the size of its images: their files could not be read when it was made. "
                "Bring them back, and import or extract the particles again."]
    return []


def said_by(work: Callable[[], List[str]]) -> List[str]:
    """The sentences of a method; where it cannot read results, why."""
    try:
        return work()
    except UNREADABLE as error:
        return [f"{reason_of(error)} Bring the files of the runs that are given back, or run those again."]


class VaeganProtBase(VaeganSaying, EMProtocol):
    """Runs commands of the engine; no form of its own beyond GPU, threads and seed."""

    _devStatus = BETA
    _shares = False  # whether several processes of the engine can share its work

    # --------------------------- DEFINE param functions ---------------------------
    def _defineComputeParams(self, form: Any, gpu: bool = True) -> None:
        """Seed, GPU (where the command uses one) and threads."""
        if gpu:
            add_setting(form, ComputeConfig, "seed", expertLevel=params.LEVEL_ADVANCED)
            form.addHidden(params.USE_GPU, params.BooleanParam, default=True, label="Use GPU?",
                           help="Yes: run on the GPU below. No: run on the CPU, about 30 times slower.")
            form.addHidden(params.GPU_LIST, params.StringParam, default="0", label="GPU ID",
                           help="Numbers of the GPUs, such as 0 1: on each runs one process, and they share the work."
                           if self._shares else "Number of the GPU. The engine uses one.")
        form.addParallelSection(threads=2, mpi=1 if self._shares else 0)

    # --------------------------- STEPS functions ---------------------------
    def _writeParticles(self, particles: Any, aligned: bool = False) -> str:
        """Write the star file of a set, with its alignment, unless an equal one is there; returns its path."""
        star = self._getExtraPath(PARTICLES_STAR)
        part = star + ".new"
        ids = write_particles_star(particles, part, aligned)
        if content_digest(star) == content_digest(part):
            os.remove(part)
        else:
            os.replace(part, star)
        self.info(f"{len(ids)} particles in {star}")
        return star

    def _convertAnew(self, particles: Any, results_dir: str, aligned: bool = False) -> None:
        """Write the star file of a set; what was made of another one is removed."""
        before = content_digest(self._getExtraPath(PARTICLES_STAR))
        if before != content_digest(self._writeParticles(particles, aligned)) and before:
            shutil.rmtree(results_dir, ignore_errors=True)

    def _forgetOf(self, seen: str, digest: str, results_dir: str) -> None:
        """Remove what was made of another table of an earlier run; extra/`seen` keeps the digest of the last one."""
        path = Path(self._getExtraPath(seen))
        if path.exists() and path.read_text() != digest:
            shutil.rmtree(results_dir, ignore_errors=True)
        path.write_text(digest)

    def _keepGroups(self, groups: Any) -> None:
        """Keep which groups of a run this one's results are made of, for `made_of`."""
        Path(self._getExtraPath(CLUSTERS_SEEN)).write_text(groups_digest(groups))

    def _makeKeptAndJunk(self, poses: Dict[int, Any], kept: Set[int], fill: Callable[[Any, Dict[int, Any]], None]
                         ) -> Dict[str, Any]:
        """The particles that are kept and those that are not, as outputs by name; `fill` fills a set with poses by id.

        The project keeps every output that a run ever had: one that is not wanted any more is emptied.
        """
        made = {}
        for name, suffix, ids in (("outputParticles", "", kept), ("outputJunk", "_junk", set(poses) - kept)):
            if ids or self.hasAttribute(name):
                made[name] = self._createSetOfParticles(suffix)
                fill(made[name], {i: pose for i, pose in poses.items() if i in ids})
        return made

    def _defineMade(self, pointer: Any, made: Dict[str, Any]) -> None:
        """Outputs by name, all of them made from one input."""
        self._defineOutputs(**made)
        for output in made.values():
            self._defineSourceRelation(pointer, output)

    def _runEngine(self, settings: Any, name: str, folder: str) -> Status:
        """Run the engine into extra/`folder`; its request is extra/`name`.json."""
        run = EngineRun(settings, self._getExtraPath(name + ".json"), self._getExtraPath(folder))
        return run.run(self, self.usesGpu(), self._countProcesses())

    # --------------------------- INFO functions ---------------------------
    def _validateCompute(self) -> List[str]:
        errors = []
        if self.usesGpu():
            errors += self._validateGpus((self.gpuList.get() or "").strip())
        elif self._shares and self.numberOfMpi.get() < 1:
            errors.append(f"MPI is {self.numberOfMpi.get()}: at least 1 process is needed. Use 1.")
        if self.hasAttribute("seed"):
            errors += problems_of(ComputeConfig, {"seed": self.seed.get()})
        if self.numberOfThreads.get() < 1:
            errors.append(f"Threads is {self.numberOfThreads.get()}: at least 1 is needed.")
        return errors

    def _validateGpus(self, text: str) -> List[str]:
        numbers = text.replace(",", " ").split()
        if not self._shares and not text.isdecimal():
            return [f"GPU ID is '{self.gpuList.get()}': the engine uses one GPU. Give one number, such as 0."]
        if not numbers or not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
            return [f"GPU ID is '{self.gpuList.get()}': on every GPU of the list runs one process. Give its number, "
                    "such as 0, or the numbers of several, such as 0 1."]
        if self._shares and self.numberOfMpi.get() not in (1, len(numbers)):
            return [f"MPI is {self.numberOfMpi.get()}: on every GPU of the list ({text}) runs one process. Use 1, and "
                    "list as many GPUs as there are to be processes."]
        return []

    def _warnAnew(self, name: str, folder: str) -> List[str]:
        """What is lost where Continue cannot go on; `name` and `folder` as of ``_runEngine``."""
        request, results = self._getExtraPath(name + ".json"), self._getExtraPath(folder)
        if self.runMode.get() == MODE_RESTART or not os.path.exists(request):
            return []
        if not EngineRun(self._getSettings(), request, results).loses():  # type: ignore[attr-defined]
            return []
        return ["This run was begun with other settings: Continue begins it anew with those of now, and what it has "
                "made so far is lost. Give the settings of before, or copy the run to keep both."]

    def _warnCompute(self) -> List[str]:
        # with a queue the run starts on another machine
        if self.usesGpu() and not self.useQueue() and shutil.which("nvidia-smi") is None:
            return ["No NVIDIA driver is seen on this machine (there is no nvidia-smi), but 'Use GPU' is Yes. "
                    "The engine stops at once where it finds no GPU."]
        return []

    # --------------------------- UTILS functions ---------------------------
    def _countProcesses(self) -> int:
        """Processes of the engine that share the work: one on each GPU, else what the MPI box says."""
        if not self._shares:
            return 1
        return len(self.getGpuList()) if self.usesGpu() else self.numberOfMpi.get()

    def _getCompute(self) -> ComputeConfig:
        seed = self.seed.get() if self.hasAttribute("seed") else ComputeConfig().seed
        return ComputeConfig(device="cuda" if self.usesGpu() else "cpu",
                                      threads=self.numberOfThreads.get(), seed=seed)

    def _getEnviron(self) -> Any:
        return Plugin.getEnviron()


def refuse_strangers(poses: Dict[int, Any], particles: Any) -> None:
    """Raises EngineError where results name particles that are not in the set."""
    strangers = sorted(set(poses) - set(enabled_ids(particles)))
    if strangers:
        raise EngineError(f"{result_files.PARTICLES_CSV}: particle {strangers[0]} is not in the input set "
                          f"({len(strangers)} such particles). Run again with Restart.")


def set_digest(items: Any) -> str:
    """Text that changes when a set or its rows do; an argument of every step that depends on it.

    It is of what the set's table holds, not of when it was written: a project that was copied goes on where it was.
    """
    return f"{items.getObjId()} {items.getSize()} {content_digest(items.getFileName() or '')}"


def content_digest(path: Any) -> str:
    """Text that changes when what a file holds does, wherever it was copied to; empty when it is not there."""
    return file_sha256(Path(path)) if os.path.isfile(path) else ""


def groups_digest(run: Any) -> str:
    """Text that changes when the groups of a run do: who is in them and how they lie, or what is said of them.

    Another run's are others, whatever they hold: its maps may be.
    """
    return f"{run.getObjId()} " + " ".join(content_digest(os.path.join(run.getClustersDir(), name)) for name in (
        result_files.CLUSTERS_CSV, result_files.CLUSTERS_JSON, result_files.PARTICLES_CSV)).rstrip()


def made_of(run: Any, seen: str, digest: str) -> bool:
    """Whether a run's results are of what has this digest now; also where an earlier release did not keep it."""
    path = Path(run._getExtraPath(seen))
    return not path.exists() or path.read_text() == digest


def stars_differ(one: Any, other: Any) -> bool:
    """Whether two runs wrote unlike star files: of particles that were disabled since, or more in a set that grows."""
    stars = [run._getExtraPath(PARTICLES_STAR) for run in (one, other)]
    return all(map(os.path.exists, stars)) and content_digest(stars[0]) != content_digest(stars[1])


def count_enabled(particles: Any) -> int:
    """Particles of a set that are not disabled: those that are used."""
    return len(enabled_ids(particles))


def particle_files(particles: Any) -> Tuple[List[str], List[str]]:
    """Image files of a set, and those of the first 200 that are not there."""
    files = sorted(particles.getFiles() - {particles.getFileName()})
    return files, [path for path in files[:N_FILES_CHECKED] if not os.path.exists(path)]


def validate_particles(particles: Any, ctf_needed: bool, n_min: int) -> List[str]:
    """What keeps a set of particles from being used, one sentence each."""
    errors = []
    if ctf_needed and not particles.hasCTF():
        errors.append("The input particles have no CTF. Assign one, or set 'Images without a CTF' to Yes.")
    elif ctf_needed:
        errors += missing_optics(particles)
    multiplied = premultiplied_groups(particles) if ctf_needed else []
    if multiplied:
        errors.append(f"The images of optics group {multiplied[0]} were multiplied by their CTF ({PREMULTIPLIED} is "
                      "1), and the model would apply it once more. Extract the particles again without multiplying "
                      "them by their CTF.")
    if ctf_needed and particles.isAmplitudeCorrected():
        errors.append("The particles are marked as corrected for the amplitude of their CTF, and the model would apply "
                      "it once more. Give the particles as they were extracted.")
    unlike = unlike_groups(particles) if ctf_needed else []
    if unlike:
        errors.append(f"The particles do not say which of their {len(unlike)} optics groups they are of, and some of "
                      f"these are phase-flipped ({PHASE_FLIPPED} is 1), others not. Import each group by itself, and "
                      "join the sets.")
    size = count_enabled(particles)
    if size < n_min:
        errors.append(f"The input set has {size} enabled particles; at least {n_min} are needed.")
    errors += unusable(particles)
    files, missing = particle_files(particles)
    unreadable = [path for path in files if not path.lower().endswith(READABLE_STACKS)]
    if unreadable:
        errors.append(f"{unreadable[0]} is not an MRC stack. Convert the particles to .mrcs first.")
    elif missing:
        errors.append(f"{missing[0]}: {len(missing)} image files of the input set are not there. "
                      "Bring them back, or import the particles again.")
    dimensions = particles.getDim()
    if dimensions and dimensions[0] != dimensions[1]:
        errors.append(f"The images are {dimensions[0]} x {dimensions[1]} px; the engine needs square ones. "
                      "Extract the particles again.")
    return errors


def missing_optics(particles: Any) -> List[str]:
    """What is not known of the CTF of particles whose set has one, one sentence each."""
    errors, without_ctf, no_microscope = [], ids_without(particles, DEFOCUS), lacks_microscope(particles)
    if without_ctf:
        errors.append(f"Particle {without_ctf[0]} has no CTF ({len(without_ctf)} such particles), though the set has "
                      "one. Give particles with a CTF alone: a set that was joined may have others.")
    if no_microscope:
        errors.append(f"No voltage, spherical aberration or amplitude contrast is known of particle {no_microscope[0]} "
                      f"({len(no_microscope)} such particles), and so no CTF. Import the particles again with their "
                      "acquisition values.")
    return errors


def missing_alignment(particles: Any, none_has: str) -> List[str]:
    """Why particles cannot be used at the poses that they carry: no projection alignment (`none_has`), or not all."""
    if not particles.hasAlignmentProj():
        return [none_has]
    lacking = ids_without(particles, TRANSFORM)
    return [without_alignment(lacking)] if lacking else []


def kept_box_ang(protocol: Any, particles: Any) -> float:
    """Width in A of the part of the box that a form keeps, in whole pixels as the engine does."""
    return float(cropped_box_px(particles.getXDim(), protocol.cropFrac.get()) * particles.getSamplingRate())


def radius_frac(diameter_ang: float, kept_ang: float) -> float:
    """Radius of the particle's circle over the kept part of the box; both widths in A."""
    return min(round(diameter_ang / (2 * kept_ang), 6), 0.5) if kept_ang > 0 else 0.5


def validate_diameter(diameter_ang: Optional[float], kept_ang: float) -> List[str]:
    """What is wrong with a particle's diameter in a kept box of this width, both in A; an empty field is right."""
    about = field_of(DataConfig, "particle_radius_frac").about
    assert about.low is not None and about.high is not None
    low, high = 2 * about.low * kept_ang, 2 * about.high * kept_ang
    if diameter_ang is None or low <= diameter_ang <= 1.01 * high:
        return []
    part = "less" if diameter_ang < low else "more"
    return [f"Particle diameter (Å) is {diameter_ang:g}; the kept part of the box is {high:.0f} Å wide. Use "
            f"{number_text(round(low))} to {number_text(int(high))}, or keep {part} of the box."]


def warn_particles(particles: Any, n_few: int) -> List[str]:
    """What is doubtful about a set of particles, one sentence each."""
    notes, size, box_px = [], count_enabled(particles), particles.getXDim()
    if size < n_few:
        notes.append(f"The input set has {size} enabled particles; of less than {n_few} species are seldom told apart.")
    if particles.isStreamOpen():
        notes.append("The input set is still growing: what comes later is left out. Run when it is complete, or again "
                     "then.")
    if particles.isPhaseFlipped():
        notes.append("The particles are marked as phase-flipped: the CTF is applied without its sign. If they are not "
                     "flipped, import them again with 'Have data been phase-flipped' set to No.")
    microscopes = unlike_microscopes(particles) if particles.hasCTF() else []
    if microscopes:
        known = "; ".join(f"{kv:g} kV, {cs_mm:g} mm, {contrast:g}" for kv, cs_mm, contrast in microscopes)
        notes.append(f"The particles do not say which of their optics groups they are of, and the groups' microscopes "
                     f"differ ({known}): the first is taken for all, and the CTF of the others is wrong. Import each "
                     "group by itself, and join the sets.")
    if box_px and box_px % 2:
        notes.append(f"The particles' box is {box_px} px, an odd number. The engine takes it; RELION does not.")
    return notes
