"""States, poses and maps beyond the clusters: the engine's refine, as classes that RELION and others go on with."""
import json
import os
from enum import Enum
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import FSC, SetOfClasses3D, SetOfFSCs, SetOfParticles, SetOfVolumes, Transform
from pyworkflow.object import Float, Integer

from ..constants import NOISE_LABEL, STATES_DIR
from ..convert.from_engine import Picture, enabled_ids, new_picture_item, set_location
from ..convert.poses import Pose, pose_matrix, read_poses
from ..engine.vaegan_engine.contract import result_files, run_json
from ..engine.vaegan_engine.contract.settings import StatesRun
from ..engine_run import EngineError, has_result, read_status, result_file
from .form_settings import add_setting, problems_of, values_of
from .protocol_base import VaeganProtBase, file_digest, set_digest

N_PARTICLES_MIN = 200  # the engine's limit
ADVANCED = ("n_tries", "start_shells", "search_shells", "class_shells", "start_steps", "search_steps", "batch_size")


class VaeganProtStatesOutputs(Enum):
    """Outputs of the protocol."""

    outputClasses = SetOfClasses3D
    outputVolumes = SetOfVolumes
    outputParticles = SetOfParticles
    outputFSCs = SetOfFSCs
    outputMotions = SetOfVolumes
    outputJunk = SetOfParticles


class VaeganProtStates(VaeganProtBase):
    """Find states, poses and maps of the training's particles by expectation maximisation over poses.

    Starts from the clusters' maps, or from random ones, divides states while two halves of the images agree on the
    division, joins those that cannot be told apart, and refines two halves of each state apart. A verdict says how
    many states there are, or that no structure was found. Images that no state explains (empty, aggregates, off
    centre, other molecules) are set aside.

    Outputs: classes whose particles carry class and projection alignment, maps with half maps, FSCs between the
    halves, and the particles of all states with their alignment: input for RELION's and cryoSPARC's refinements. Where
    there are any: the images that were set aside, and for states that vary continuously maps along the motion.
    """

    _label = "find states and poses"
    _possibleOutputs = VaeganProtStatesOutputs

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputTraining", params.PointerParam, pointerClass="VaeganProtTrain3D", important=True,
                      label="Training", help="A finished run of train 3D; its particles are refined, at its box.")
        form.addParam("inputClusters", params.PointerParam, pointerClass="VaeganProtCluster", allowsNull=True,
                      label="Clusters to start from",
                      help="Embed and cluster of that training: its maps are in the start. Empty = random maps alone.")
        add_setting(form, StatesRun, "n_starts")
        add_setting(form, StatesRun, "smallest_frac")
        for name in ADVANCED:
            add_setting(form, StatesRun, name, expertLevel=params.LEVEL_ADVANCED)
        self._defineComputeParams(form)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        training, clustering = self.inputTraining.get(), self.inputClusters.get()
        status = read_status(training.getRunDir())
        digest = json.dumps([
            run_json.to_dict(self._getSettings()), set_digest(training.inputParticles.get()), status.get("checkpoint"),
            file_digest(os.path.join(clustering.getClustersDir(), result_files.CLUSTERS_JSON)) if clustering else ""])
        self._insertFunctionStep(self.statesStep, digest)
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def statesStep(self, digest: str) -> None:
        self._runEngine(self._getSettings(), "states", STATES_DIR)

    def createOutputStep(self, digest: str) -> None:
        pointer, rate = self.inputTraining.get().inputParticles, self.inputTraining.get().getTrainingPixelSize()
        particles, poses = pointer.get(), read_poses(self.getStatesDir())
        strangers = sorted(set(poses) - set(enabled_ids(particles)))
        if strangers:
            raise EngineError(f"{result_files.PARTICLES_CSV}: particle {strangers[0]} is not in the input set "
                              f"({len(strangers)} such particles). Run again with Restart.")
        rows = {row["label"]: row for row in self.readClusterRows()}
        volumes = self._makeVolumes(rows, rate)
        classes = self._createSetOfClasses3D(pointer)
        self._fillClasses(classes, poses, rows, particles.getSamplingRate(), rate)
        made = {"outputClasses": classes, "outputVolumes": volumes, "outputFSCs": self._makeFSCs(rows)}
        kept = {i: pose for i, pose in poses.items() if pose.label != NOISE_LABEL}
        # the project keeps every output a run ever had: one that is not wanted any more is emptied
        for name, some in (("outputParticles", kept), ("outputJunk", {i: poses[i] for i in set(poses) - set(kept)})):
            if some or self.hasAttribute(name):
                made[name] = self._createSetOfParticles("" if some is kept else "_junk")
                self._fillParticles(made[name], particles, some)
        moving = [row for row in rows.values() if row["motion_files"]]
        if moving or self.hasAttribute("outputMotions"):
            made["outputMotions"] = self._makeMotions(moving, rate)
        self._defineOutputs(**made)
        for output in made.values():
            self._defineSourceRelation(pointer, output)

    def _makeVolumes(self, rows: Dict[int, Dict[str, Any]], rate: float) -> Any:
        volumes = self._createSetOfVolumes()
        volumes.setSamplingRate(rate)
        for label, row in sorted(rows.items()):
            volume = new_picture_item(True, Picture(0, self._path(row["file"])), rate, f"state {label + 1}",
                                      label=label, particles=row["n_particles"])
            volume.setHalfMaps([self._path(file) for file in row["files"]])
            volumes.append(volume)
        return volumes

    def _makeMotions(self, rows: List[Dict[str, Any]], rate: float) -> Any:
        volumes = self._createSetOfVolumes("_motion")
        volumes.setSamplingRate(rate)
        for row in sorted(rows, key=lambda row: row["label"]):
            for k, file in enumerate(row["motion_files"]):
                t = k / (len(row["motion_files"]) - 1)
                volumes.append(new_picture_item(True, Picture(0, self._path(file)), rate,
                                                f"state {row['label'] + 1}, t = {t:.1f}", label=row["label"]))
        return volumes

    def _fillClasses(self, classes: Any, poses: Dict[int, Pose], rows: Dict[int, Dict[str, Any]], particle_rate: float,
                     map_rate: float) -> None:
        def set_class(particle: Any, _row: Any) -> None:
            pose = poses.get(particle.getObjId())
            # 0, in no class: took no part in the training, or set aside
            particle.setClassId(0 if pose is None else pose.label + 1)
            if pose is not None:
                align(particle, pose, particle_rate)

        def set_representative(item: Any) -> None:
            label = item.getObjId() - 1
            item.setAlignmentProj()
            item.setObjLabel(f"state {label + 1}")
            item._vaeganLabel = Integer(label)
            item.getRepresentative().setSamplingRate(map_rate)
            set_location(item.getRepresentative(), Picture(0, self._path(rows[label]["file"])))

        classes.classifyItems(updateItemCallback=set_class, updateClassCallback=set_representative,
                              iterParams={"orderBy": "id"}, doClone=False)

    def _fillParticles(self, aligned: Any, particles: Any, poses: Dict[int, Pose]) -> None:
        aligned.copyInfo(particles)
        aligned.setHasCTF(particles.hasCTF())
        aligned.setAlignmentProj()
        rate = particles.getSamplingRate()
        for particle in particles.iterItems(orderBy="id", direction="ASC"):
            pose = poses.get(particle.getObjId())
            if pose is None or not particle.isEnabled():
                continue
            align(particle, pose, rate)
            particle.setClassId(pose.label + 1)
            aligned.append(particle)

    def _makeFSCs(self, rows: Dict[int, Dict[str, Any]]) -> Any:
        curves: Dict[int, List[List[float]]] = {}
        for row in result_files.read_csv(result_file(self.getStatesDir(), result_files.FSC_CSV)):
            frequency = float(row["spatial_frequency_per_ang"])
            if frequency > 0:
                curves.setdefault(int(row["cluster"]), []).append([frequency, float(row["fsc"])])
        fscs = self._createSetOfFSCs()
        for label in sorted(rows):
            frequencies, values = zip(*sorted(curves[label]))
            fsc = FSC(objLabel=f"state {label + 1}")
            fsc.setData(list(frequencies), list(values))
            fsc._vaeganLabel = Integer(label)
            fscs.append(fsc)
        return fscs

    # --------------------------- INFO functions ---------------------------
    def _validate(self) -> List[str]:
        problems, training, clustering = self._validateCompute(), self.inputTraining.get(), self.inputClusters.get()
        if training is None:
            return problems
        name = training.getRunName()
        if read_status(training.getRunDir()).get("state") != "finished":
            problems.append(f"The run '{name}' has no finished training. Finish it first.")
        elif read_status(training.getRunDir())["n_particles"] < N_PARTICLES_MIN:
            problems.append(f"The run '{name}' has {read_status(training.getRunDir())['n_particles']} particles; "
                            f"at least {N_PARTICLES_MIN} are needed for maps.")
        if training.inputParticles.get() is None:
            problems.append(f"The particles of the run '{name}' are gone. Train again.")
        if clustering is not None and not clustering.hasAttribute("outputClasses"):
            problems.append(f"The run '{clustering.getRunName()}' has no clusters. Finish it first.")
        if clustering is not None and clustering.inputTraining.get().getObjId() != training.getObjId():
            problems.append(f"The clusters of '{clustering.getRunName()}' were made with another training. Give "
                            f"those of '{name}', or none.")
        shells = [self.startShells.get(), self.searchShells.get(), self.classShells.get()]
        given = [value for value in shells if value]  # 0: chosen by the engine
        if given != sorted(given):
            problems.append(f"The shells are {shells[0]:g}, {shells[1]:g} and {shells[2]:g}; use rising numbers, or "
                            "0.")
        return problems + problems_of(StatesRun, self._getValues())

    def _warnings(self) -> List[str]:
        return self._warnCompute()

    def _summary(self) -> List[str]:
        if not self.hasAttribute("outputClasses") or not has_result(self.getStatesDir(), result_files.STATES_JSON):
            stage = read_status(self.getStatesDir()).get("stage")
            if not stage:
                return ["The states are not made yet."]
            return [f"Running: {stage}" if self.isActive() else f"Stopped at: {stage}. Continue goes on from there."]
        lines = [f"Verdict: {self._evidence().get('verdict', '')}"]
        for row in sorted(self.readClusterRows(), key=lambda row: row["label"]):
            resolution = row.get("resolution_0.143_ang")
            lines.append(f"state {row['label'] + 1}: {row['n_particles']} particles"
                         + (f", {resolution:.1f} A at FSC 0.143" if resolution else "")
                         + (", varies continuously" if row["motion_files"] else ""))
        return lines

    def _methods(self) -> List[str]:
        if not self.hasAttribute("outputClasses") or not has_result(self.getStatesDir(), result_files.STATES_JSON):
            return []
        return [f"States and poses of {self.outputParticles.getSize()} particles were found by expectation "
                f"maximisation over poses, starting from {'cluster' if self.inputClusters.get() else 'random'} maps: "
                f"{self._evidence().get('verdict', '')}."]

    def _citations(self) -> List[str]:
        return ["Scheres2012"]

    # --------------------------- UTILS functions ---------------------------
    def getStatesDir(self) -> str:
        """Results folder of the refinement."""
        return str(self._getExtraPath(STATES_DIR))

    def readClusterRows(self) -> List[Dict[str, Any]]:
        """Rows of its `clusters.json`."""
        return list(result_files.read_json(result_file(self.getStatesDir(), result_files.CLUSTERS_JSON)))

    def _evidence(self) -> Dict[str, Any]:
        return dict(result_files.read_json(result_file(self.getStatesDir(), result_files.STATES_JSON)))

    def _path(self, file: str) -> str:
        return str(result_file(self.getStatesDir(), file))

    def _getSettings(self) -> StatesRun:
        extra, clustering = self._getExtraPath(), self.inputClusters.get()
        return StatesRun(
            run_dir=os.path.relpath(self.inputTraining.get().getRunDir(), extra),
            clusters_dir=os.path.relpath(clustering.getClustersDir(), extra) if clustering is not None else "",
            **self._getValues(), compute=self._getCompute())

    def _getValues(self) -> Dict[str, Any]:
        return values_of(self, StatesRun, ("n_starts", "smallest_frac", *ADVANCED))


def align(particle: Any, pose: Pose, sampling_rate_ang: float) -> None:
    """Give a particle its projection alignment, class probability, half set and place along its state's motion."""
    particle.setTransform(Transform(pose_matrix(pose, sampling_rate_ang)))
    particle._vaeganProbability = Float(pose.probability)
    particle._vaeganContrast = Float(pose.contrast)
    particle._rlnRandomSubset = Integer(pose.half_set)
    particle._vaeganMotion = Float(pose.motion)
