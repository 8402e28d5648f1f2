"""Compare several runs on the same particles: which groups come back, and which particles all runs agree on."""
import json
import os
from enum import Enum
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticles, SetOfParticlesFlex
from pwem.protocols import ProtFlexBase
from pyworkflow.object import Float, Integer

from ..constants import CONSENSUS_DIR
from ..convert.from_engine import fresh_items, read_clusters
from ..convert.same_particles import why_others
from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.analysis_records import COMMON_FRAC, ConsensusSummary
from ..engine.vaegan_engine.contract.labels import GROUPS, UNASSIGNED
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.settings import ConsensusRun
from ..engine_run import has_result, result_file
from .protocol_base import VaeganProtBase, groups_digest, set_digest
from .protocol_evaluate import groups_of
from .protocol_select import memberships

COMPARED = "VaeganProtCluster,VaeganProtStates"
N_RUNS_MIN = 2


class VaeganProtConsensusOutputs(Enum):
    """Outputs of the protocol."""

    outputParticles = SetOfParticles
    outputUndecided = SetOfParticles


class VaeganProtConsensus(VaeganProtBase, ProtFlexBase):
    """Compare several runs on the same particles: states or clusters found with other seeds, or with other settings.

    A single run can end in a wrong number of groups, and says so only in part. Groups that come back with other seeds
    can be believed; those of one run cannot. The run that agrees best with the others lends its groups, those of every
    other run are matched to them, and each particle goes where more than half of the runs put it (with two runs: both).
    Three runs or another odd number decide best.

    Outputs: the particles that all runs put in one group, with the group as class and the alignment of the run whose
    groups these are, and the particles on which they differ. The summary has the agreement of every two runs (ARI and
    NMI: 1 the same, ARI 0 by chance) and how often each group came back; the viewer has the report.
    """

    _label = "compare runs"
    _possibleOutputs = VaeganProtConsensusOutputs

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputRuns", params.MultiPointerParam, pointerClass=COMPARED, important=True,
                      minNumObjects=N_RUNS_MIN, maxNumObjects=100, label="Runs to compare",
                      help="Two or more finished runs of find states and poses, or of embed and cluster, on the same "
                           "particles. Runs that differ in their seed alone say what is by chance.")

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        runs = self.getRuns()
        digest = json.dumps([[groups_digest(run), set_digest(run.getParticlesPointer().get())]
                             for run in runs])
        self._insertFunctionStep(self.compareStep, digest)
        self._insertFunctionStep(self.createOutputStep, digest)

    # --------------------------- STEPS functions ---------------------------
    def compareStep(self, digest: str) -> None:
        self._runEngine(self._getSettings(), "consensus", CONSENSUS_DIR)

    def createOutputStep(self, digest: str) -> None:
        run, found = self.getChosen(), read_clusters(self.getConsensusDir())
        pointer = run.getParticlesPointer()
        share = dict(zip(found.particle_id.tolist(), found.probability.tolist()))
        label = dict(zip(found.particle_id.tolist(), found.label.tolist()))
        agreed = {i for i in share if share[i] == 1 and label[i] != UNASSIGNED}
        flexible, made = isinstance(pointer.get(), SetOfParticlesFlex), {}
        alignments = run.readAlignments(pointer.get().getSamplingRate())
        for name, suffix, ids in (("outputParticles", "", agreed),
                                  ("outputUndecided", "_undecided", set(share) - agreed)):
            if ids or self.hasAttribute(name):  # the project keeps every output that a run ever had
                made[name] = (self._createSetOfParticlesFlex(suffix=suffix) if flexible
                              else self._createSetOfParticles(suffix))
                self._fill(made[name], run, {i: (label[i], share[i]) for i in ids}, alignments)
        self._defineMade(pointer, made)

    def _fill(self, subset: Any, run: Any, chosen: Dict[int, Any], alignments: Dict[int, Any]) -> None:
        """Particles with their group and the share of the runs that agree on it, by id; aligned as in `run`."""
        particles = run.getParticlesPointer().get()
        aligned = bool(alignments) and not set(chosen) - set(alignments)
        members = memberships(run) if groups_of(run) == "clusters" else {}  # poses of states come with theirs
        subset.copyInfo(particles)
        subset.setHasCTF(particles.hasCTF())
        if aligned:
            subset.setAlignmentProj() if run.isVolumetric() else subset.setAlignment2D()
        for particle in fresh_items(particles):
            if particle.getObjId() not in chosen:
                continue
            label, share = chosen[particle.getObjId()]
            if aligned:
                alignments[particle.getObjId()].align(particle)
            if particle.getObjId() in members:
                particle._vaeganProbability = Float(members[particle.getObjId()][2])
            particle.setClassId(label + 1)  # 0: in no group of most runs
            particle._vaeganLabel, particle._vaeganAgreement = Integer(label), Float(share)
            subset.append(particle)

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        runs = self.getRuns()
        if len(runs) < N_RUNS_MIN:
            return [f"Runs to compare: {len(runs)} given, at least {N_RUNS_MIN} are needed. Add runs with other seeds."]
        if len({run.getObjId() for run in runs}) < len(runs):
            return ["Runs to compare: one run is given twice. Give each once."]
        problems = [f"The run '{run.getRunName()}' has no classes. Finish it first." for run in runs
                    if not run.hasAttribute("outputClasses")]
        flat = [run for run in runs if not run.isVolumetric()]
        if flat and len(flat) < len(runs):
            problems.append(f"'{flat[0].getRunName()}' is of a 2D training, others are 3D. Compare runs of one kind.")
        return problems or self._validateSame(runs)

    def _validateSame(self, runs: List[Any]) -> List[str]:
        """Why the runs are not on the same particles."""
        sets = [run.getParticlesPointer().get() for run in runs]
        if None in sets:
            return [f"The particles of '{runs[sets.index(None)].getRunName()}' are gone. Compare other runs."]
        ids = [particles.getIdSet() for particles in sets]
        common = set.intersection(*ids)
        for run, own in zip(runs, ids):
            if len(common) < COMMON_FRAC * len(own):
                return [f"'{run.getRunName()}' has {len(own)} particles, of which {len(common)} are in all runs. Give "
                        "runs on the same particles."]
        return list(filter(None, [why_others(sets[0], other, sorted(common)) for other in sets[1:]]))

    def _summary(self) -> List[str]:
        if not has_result(self.getConsensusDir(), result_files.CONSENSUS_JSON):
            return ["Nothing is compared yet."]
        made, names = self.readConsensus(), self.getRunNames()
        name = GROUPS[groups_of(self.getChosen())].name
        lines = [f"Verdict: {made.verdict}", f"{100 * made.agreed_frac:.1f} % of the particles are in the same group "
                 f"in all {len(made.runs)} runs"]
        lines += [f"{name(group.label)}: {group.n_particles} particles in most runs, found in {group.found_in} of "
                  f"{len(made.runs)} runs, overlap {group.stability:.2f}" for group in made.groups]
        lines += [f"'{names[pair.runs[0]]}' and '{names[pair.runs[1]]}': ARI {pair.ari:.2f}, NMI {pair.nmi:.2f}"
                  for pair in made.pairs]
        return lines

    def _methods(self) -> List[str]:
        if not has_result(self.getConsensusDir(), result_files.CONSENSUS_JSON):
            return []
        made = self.readConsensus()
        least = min(pair.ari for pair in made.pairs)
        return [f"{len(made.runs)} runs on the same particles were compared by the votes of matched groups [Fred2005]: "
                f"{made.verdict}. The least adjusted Rand index of two runs was {least:.2f}."]

    def _citations(self) -> List[str]:
        return ["Fred2005"]

    # --------------------------- UTILS functions ---------------------------
    def getRuns(self) -> List[Any]:
        """The runs that are compared, in the order of the form."""
        runs = [pointer.get() for pointer in self.inputRuns]
        return [run for run in runs if run is not None]

    def getRunNames(self) -> List[str]:
        """Their names, with the id where several have one name."""
        runs = self.getRuns()
        names = [str(run.getRunName()) for run in runs]
        return [name if names.count(name) == 1 else f"{name} (id {run.getObjId()})" for name, run in zip(names, runs)]

    def getConsensusDir(self) -> str:
        """Results folder of the comparison."""
        return str(self._getExtraPath(CONSENSUS_DIR))

    def readConsensus(self) -> ConsensusSummary:
        """Its `consensus.json`."""
        return read_record(ConsensusSummary, result_file(self.getConsensusDir(), result_files.CONSENSUS_JSON),
                           "consensus")

    def getChosen(self) -> Any:
        """The run whose groups the particles have: that which agrees best with the others."""
        made = self.readConsensus()
        return self.getRuns()[[run.folder for run in made.runs].index(made.chosen)]

    def getGroups(self) -> str:
        """What the groups are: "clusters" or "states"."""
        return groups_of(self.getChosen())

    def _getSettings(self) -> ConsensusRun:
        """The form as settings of the engine, paths relative to extra/."""
        return ConsensusRun(clusters=tuple(os.path.relpath(run.getClustersDir(), self._getExtraPath())
                                           for run in self.getRuns()))
