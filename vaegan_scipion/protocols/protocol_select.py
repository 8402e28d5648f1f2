"""A subset of the original particles: clusters, states, classes, a range of a coordinate, or the ids of a file."""
import os
from enum import Enum
from importlib.util import find_spec
from typing import Any, Dict, List, Set, Tuple

import pyworkflow.protocol.params as params
from pwem.constants import ALIGN_3D, ALIGN_NONE
from pwem.objects import SetOfParticles, SetOfParticlesFlex
from pwem.protocols import EMProtocol, ProtFlexBase
from pyworkflow import BETA
from pyworkflow.object import Float, Integer

from ..constants import SELECTED_IDS_TXT, SELECTED_STAR
from ..convert.from_engine import class_ids, copy_particles, enabled_ids, read_clusters
from ..convert.result_columns import ids_in_range, of_groups, read_values
from ..convert.same_particles import why_others
from ..convert.selection import (
    SelectionError,
    ids_of_clusters,
    parse_cluster_labels,
    read_particle_ids,
    select,
)
from ..convert.to_engine import quoted, relion_groups
from .form_settings import OptionalNumber, optional
from .protocol_base import VaeganSaying, content_digest, groups_digest, set_digest
from .protocol_classes_2d import VaeganProtClasses2D
from .protocol_evaluate import GROUPED, citations_of
from .protocol_states import VaeganProtStates

BY_CLUSTERS, BY_FILE, BY_RANGE = 0, 1, 2
NO_CLASS = 0
KINDS = {VaeganProtStates: ("state", "the states of an expectation maximisation over poses"),
         VaeganProtClasses2D: ("class", "class averages of particles")}


class VaeganProtSelectOutputs(Enum):
    """Outputs of the protocol."""

    outputParticles = SetOfParticles


class VaeganProtSelect(VaeganSaying, EMProtocol, ProtFlexBase):
    """Select particles by cluster, state, class, range of a coordinate or file of ids, at their full resolution.

    The subset holds the original particles, not the small images that were trained on: ids, optics groups, CTFs and
    coordinates stay as they were, so that RELION, cryoSPARC and every other protocol can go on with them. Of states and
    classes they have the alignment and the half set that were found; of clusters those that the training was made at,
    or, without any, those that they came with. It can be written as RELION star file too.

    From a script or a viewer: set `inputClusters`, `selectBy` to BY_FILE and `selectionFile` to a text file of
    particle ids (the ids of the clustered set; parted by spaces, commas or new lines; # begins a comment line).
    The ids that were taken are kept in the run's extra/selected_ids.txt, one line, in the same format.
    """

    _label = "select and export"
    _devStatus = BETA
    _possibleOutputs = VaeganProtSelectOutputs

    @classmethod
    def validateInstallation(cls) -> List[str]:
        """Nothing is needed: the engine is not called."""
        return []

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputClusters", params.PointerParam, pointerClass=GROUPED, important=True,
                      label="Clusters, states or classes",
                      help="A finished run of embed and cluster, of find states and poses, or of classes 2D.")
        form.addParam("selectBy", params.EnumParam, default=BY_CLUSTERS,
                      choices=["clusters, states or classes", "file of ids", "range of a coordinate"],
                      label="Select by", help="clusters, states or classes: by their numbers. file of ids: what the "
                                              "lasso in the UMAP or the report has saved. range of a coordinate: of "
                                              "whatever is known of each particle.")
        form.addParam("clusterNumbers", params.StringParam, default="1", condition=f"selectBy == {BY_CLUSTERS}",
                      label="Clusters, states or classes to take",
                      help="Numbers as in the summary and the pictures: 1 3-5 takes four. The particles in no cluster "
                           "are 'unassigned', and so are those that were set aside from states and classes.")
        form.addParam("selectionFile", params.FileParam, default="", condition=f"selectBy == {BY_FILE}",
                      label="File of particle ids", help="Text: whole numbers parted by spaces, commas or new lines.")
        by_range = f"selectBy == {BY_RANGE}"
        form.addParam("rangeColumn", params.StringParam, default="probability", condition=by_range, label="Coordinate",
                      help="probability (of the cluster, state or class); of states contrast, motion (the place along "
                           "it, 0 to 1), motion_std; of classes 2D gain; of embed and cluster umap_1, z_1, z_1_std, "
                           "z_std (how unsure z is, as a whole); or a column of the particles: _ctfModel._defocusU.")
        form.addParam("rangeLow", OptionalNumber, default="", condition=by_range, label="From (empty: no limit)",
                      help="Particles with this value or a larger one are taken.")
        form.addParam("rangeHigh", OptionalNumber, default="", condition=by_range, label="To (empty: no limit)",
                      help="Particles with this value or a smaller one are taken. Those without a value never are, nor "
                           "those that were set aside from states or classes 2D: they are 'unassigned' by number.")
        form.addParam("invertSelection", params.BooleanParam, default=False, label="Take all others?",
                      help="Yes: take every particle that is not selected, to leave a cluster of junk out.")
        form.addParam("exportStar", params.BooleanParam, default=False, label="Write a RELION star file?",
                      help="Also writes extra/selected.star, with optics groups and known poses; image paths are "
                           "relative to the project. Needs scipion-em-relion.")
        form.addParam("minProbability", params.FloatParam, default=0.0, expertLevel=params.LEVEL_ADVANCED,
                      condition=f"selectBy == {BY_CLUSTERS}", label="Least membership",
                      help="Leaves out particles that belong to their cluster or state with less than this, 0 to 1. "
                           "0 = none.")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", allowsNull=True,
                      expertLevel=params.LEVEL_ADVANCED, label="Take them from other particles (optional)",
                      help="A set with the same ids, such as the particles before they were downsampled. "
                           "Empty = the clustered ones.")

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        chosen = self._selectionFile() if self.selectBy.get() == BY_FILE else ""
        digests = [set_digest(self.getParticlesPointer().get()), groups_digest(self.inputClusters.get()),
                   content_digest(chosen),
                   repr([self.selectBy.get(), self.clusterNumbers.get(), self.minProbability.get(),
                         self.rangeColumn.get(), self.rangeLow.get(), self.rangeHigh.get(),
                         self.invertSelection.get(), self.exportStar.get()])]
        self._insertFunctionStep(self.createOutputStep, *digests)

    # --------------------------- STEPS functions ---------------------------
    def createOutputStep(self, *digests: str) -> None:
        pointer = self.getParticlesPointer()
        particles = pointer.get()
        wanted, what = self._wantedIds()
        chosen = select(wanted, particles.getIdSet(), disabled_ids(particles), self.invertSelection.get(), what)
        self._checkSame(particles, chosen.ids)
        with open(self._getExtraPath(SELECTED_IDS_TXT), "w") as stream:
            stream.write(" ".join(map(str, chosen.ids)) + "\n")
        flexible = isinstance(particles, SetOfParticlesFlex)
        subset = self._createSetOfParticlesFlex() if flexible else self._createSetOfParticles()
        self._copyChosen(subset, particles, chosen.ids)
        self._defineOutputs(outputParticles=subset)
        self._defineTransformRelation(pointer, subset)
        self._writeStar(subset)
        self.info(f"{len(chosen.ids)} of {particles.getSize()} particles selected; {chosen.n_disabled} more are "
                  "disabled in the set and were left out")

    def _copyChosen(self, subset: Any, particles: Any, ids: List[int]) -> None:
        """The chosen particles, with the alignment that the states or classes have found where all of them have one.

        Their class, label and membership are of the groups they are selected from, not those that they came with, or
        of the states at whose poses a training was made.
        """
        run = self.inputClusters.get()
        alignments = run.readAlignments(particles.getSamplingRate())
        of_states = isinstance(run, tuple(KINDS))
        numbers = {i: placing.class_number for i, placing in alignments.items()} if of_states else {}
        members = {} if of_states else memberships(run)

        def set_class(particle: Any) -> None:
            particle_id = particle.getObjId()
            particle.setClassId(numbers.get(particle_id, NO_CLASS))
            if particle_id in members:
                number, label, probability = members[particle_id]
                particle.setClassId(number)
                particle._vaeganLabel, particle._vaeganProbability = Integer(label), Float(probability)

        def place(particle: Any) -> None:
            alignments[particle.getObjId()].align(particle)
            set_class(particle)

        unknown = [i for i in ids if i not in alignments]
        if alignments and not unknown:
            copy_particles(subset, particles, ids, place)
            subset.setAlignmentProj() if run.isVolumetric() else subset.setAlignment2D()
            return
        copy_particles(subset, particles, ids, set_class)
        if alignments:
            self.warning(f"particle {unknown[0]} has no alignment in '{run.getRunName()}' ({len(unknown)} have none): "
                         "the subset keeps the one that the particles came with")

    def _writeStar(self, subset: Any) -> None:
        star = self._getExtraPath(SELECTED_STAR)
        if os.path.exists(star):
            os.remove(star)
        if not self.exportStar:
            return
        from relion.convert import writeSetOfParticles

        numbers, text = relion_groups(subset)

        def complete(particle: Any, row: Any) -> None:
            row["vaeParticleId"] = particle.getObjId()
            row["rlnOpticsGroup"] = numbers[particle.getObjId()]
            row["rlnClassNumber"] = particle.getClassId()
            for name in ("rlnImageName", "rlnMicrographName"):
                if row.get(name):
                    row[name] = quoted(row[name].strip('"'))

        align, stored = subset.getAlignment(), subset.getAcquisition().opticsGroupInfo
        before = stored.get()
        stored.set(text)
        try:
            writeSetOfParticles(subset, star + ".tmp", postprocessImageRow=complete,
                                alignType=ALIGN_NONE if align == ALIGN_3D else align)
        finally:
            stored.set(before)
        os.replace(star + ".tmp", star)

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        clustering = self.inputClusters.get()
        if clustering is None:
            return []
        if not clustering.hasAttribute("outputClasses"):
            return [f"The run '{clustering.getRunName()}' has no classes. Finish it first."]
        particles = self.getParticlesPointer().get()
        if particles is None:
            return ["The clustered particles are gone. Give the particles here."]
        problems = []
        if self.selectBy.get() == BY_CLUSTERS and not 0 <= self.minProbability.get() <= 1:
            problems.append(f"Least membership is {self.minProbability.get():g}; use 0 to 1.")
        if self.exportStar and find_spec("relion") is None:
            problems.append("The star file needs scipion-em-relion. Install it, or set 'Write a RELION star "
                            "file?' to No.")
        try:
            wanted, what = self._wantedIds()
            chosen = select(wanted, particles.getIdSet(), disabled_ids(particles), self.invertSelection.get(), what)
            self._checkSame(particles, chosen.ids)
        except SelectionError as error:
            problems.append(str(error))
        return problems

    def _summary(self) -> List[str]:
        if not self.hasAttribute("outputParticles"):
            return ["No particles are selected yet."]
        lines = [f"{self._takenText(True)}, {self._selectionText()}",
                 f"{self.outputParticles.getXDim()} px, {self.outputParticles.getSamplingRate():.3f} Å/px"]
        if os.path.exists(self._getExtraPath(SELECTED_STAR)):
            lines.append(f"Star file: {self._getExtraPath(SELECTED_STAR)}")
        return lines

    def _methods(self) -> List[str]:
        if not self.hasAttribute("outputParticles"):
            return []
        return [f"{self._takenText(False)} were selected, {self._selectionText()}, from {self._kind()[1]}."]

    def _citations(self) -> List[str]:
        return citations_of(self.inputClusters.get())

    # --------------------------- UTILS functions ---------------------------
    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that the subset is taken from."""
        return (self.inputParticles if self.inputParticles.get() is not None
                else self.inputClusters.get().getParticlesPointer())

    def _wantedIds(self) -> Tuple[Set[int], str]:
        """Ids that the form names, and the name of the field. Raises SelectionError."""
        if self.selectBy.get() == BY_FILE:
            path = self._selectionFile()
            if not path:
                raise SelectionError("File of particle ids is empty. Choose the file.")
            return read_particle_ids(path), path
        if self.selectBy.get() == BY_RANGE:
            low, high, name = optional(self, "rangeLow"), optional(self, "rangeHigh"), self._rangeName()
            if low is not None and high is not None and low > high:
                raise SelectionError(f"'From' is {low:g} and 'To' is {high:g}. Give the smaller number first.")
            values = read_values(self.inputClusters.get(), name)
            if isinstance(self.inputClusters.get(), tuple(KINDS)):
                values = of_groups(values, read_clusters(self.inputClusters.get().getClustersDir()))
            wanted = ids_in_range(values, low, high)
            if not wanted:
                known = (f"the values go from {min(values.values()):g} to {max(values.values()):g}" if values
                         else "those that have a value were all set aside")
                raise SelectionError(f"No particle has '{name}' in this range; {known}.")
            return wanted, "Coordinate"
        clusters = read_clusters(self.inputClusters.get().getClustersDir())
        labels = parse_cluster_labels(self.clusterNumbers.get() or "", clusters.label)
        return ids_of_clusters(clusters, labels, self.minProbability.get()), "Clusters, states or classes to take"

    def _checkSame(self, particles: Any, ids: List[int]) -> None:
        """Refuse ids that name other particles than the clustered ones, where those are still there."""
        clustered = self.inputClusters.get().getParticlesPointer().get()
        why = why_others(clustered, particles, ids)
        if why:
            raise SelectionError(why)

    def _selectionFile(self) -> str:
        return (self.selectionFile.get() or "").strip()

    def _rangeName(self) -> str:
        return (self.rangeColumn.get() or "").strip()

    def _kind(self) -> Tuple[str, str]:
        """What a group of the input is called, and what the groups are."""
        run = self.inputClusters.get()
        known = next((words for kind, words in KINDS.items() if isinstance(run, kind)), None)
        return known or ("cluster", f"the clusters of the latent space of {run.inputTraining.get().getNetworkText()}")

    def _takenText(self, with_share: bool) -> str:
        """How many particles were taken, and of how many where those are still there."""
        taken, particles = self.outputParticles.getSize(), self.getParticlesPointer().get()
        if particles is None:
            return f"{taken} particles"
        total = particles.getSize()
        return f"{taken} of {total} particles" + (f" ({100 * taken / total:.1f} %)" if with_share else "")

    def _selectionText(self) -> str:
        taken = "all but" if self.invertSelection else "those of"
        if self.selectBy.get() == BY_FILE:
            return f"{taken} the ids in {os.path.basename(self._selectionFile())}"
        if self.selectBy.get() == BY_RANGE:
            low, high = optional(self, "rangeLow"), optional(self, "rangeHigh")
            limits = ("" if low is None else f" from {low:g}") + ("" if high is None else f" to {high:g}")
            return f"{taken} {self._rangeName()}{limits}"
        sure = f" with membership from {self.minProbability.get():g}" if self.minProbability.get() > 0 else ""
        return f"{taken} {self._kind()[0]} {self.clusterNumbers.get().strip()}{sure}"


def disabled_ids(particles: Any) -> Set[int]:
    """Ids of the particles of a set that are disabled."""
    return set(particles.getIdSet()) - set(enabled_ids(particles))


def memberships(run: Any) -> Dict[int, Tuple[int, int, float]]:
    """Particle id -> number of its class in the outputClasses of embed and cluster, label and membership."""
    clusters = read_clusters(run.getClustersDir())
    numbers, columns = class_ids(clusters.label), (clusters.particle_id, clusters.label, clusters.probability)
    return {i: (numbers[label], label, sure) for i, label, sure in zip(*(column.tolist() for column in columns))}
