"""Mistakes that users make, and the sentence that each gives: for docs/use/mistakes.rst and its test.

Every sentence is what the code says, on the phantom's project and the stand-in engine; nothing is written down here but
what the user does.
"""
import os
import re
from typing import Any, Callable, List, NamedTuple
from unittest.mock import patch

import numpy as np

from vaegan_scipion import Plugin
from vaegan_scipion.convert.columns import ColumnError, read_column
from vaegan_scipion.convert.from_engine import check_ids
from vaegan_scipion.engine.vaegan_engine.contract.settings import StatesRun
from vaegan_scipion.engine_run import EngineError, EngineRun, result_file
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES, OF_PARTICLES, OF_STATES
from vaegan_scipion.tests.phantom import environment, import_mask, import_phantom

PAGE_HEAD = """Mistakes, and what each says
============================

What a user does, and the sentence that the form, the run or the viewer answers. A test makes each mistake and compares
this page with what is said (``VAEGAN_WRITE_PAGE=1 bin/scipion3 tests vaegan_scipion.tests.test_mistakes`` writes it
anew). The numbers in the sentences are those of a small test project (66 particles of 32 px, 3.5 Å/px).
"""


class Mistake(NamedTuple):
    """What the user does, and who says what."""

    group: str
    what: str
    say: Callable[[], Any]  # -> a sentence, or several


def page_of(mistakes: List[Mistake]) -> str:
    """The page: a section per group, a row per mistake."""
    lines, group = [PAGE_HEAD], ""
    for number, mistake in enumerate(mistakes, start=1):
        if mistake.group != group:
            group = mistake.group
            lines.append(f"{group}\n{'-' * len(group)}\n")
        lines.append(f"{number}. **{mistake.what}**\n\n   {sentence_of(mistake)}\n")
    return "\n".join(lines)


def sentence_of(mistake: Mistake) -> str:
    """What is said, in one line, without the folders of one machine."""
    said = mistake.say()
    text = " ".join(said if isinstance(said, (list, tuple)) else [str(said)])
    text = re.sub(r"\s+", " ", text.replace(os.getcwd() + os.sep, "")).replace("*", "")
    text = re.sub(r"\x1b\[\d*m", "", text)
    text = re.sub(r"Runs/\d+_(\w+)", r"Runs/\1", text)
    text = re.sub(r"/[\w./-]*/fake env/", "/path/", re.sub(r"(\(id|run) \d+", r"\1 N", text))
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("_ ", "\\_ ")


def raised(work: Callable[[], Any], kind: Any = Exception) -> str:
    """The sentence of the error that `work` ends in."""
    try:
        work()
    except kind as error:
        return str(error)
    raise AssertionError("nothing was raised")


def typed(form: Any, name: str, text: str) -> Any:
    """A form in whose field a text was typed, as Scipion takes it."""
    try:
        getattr(form, name).set(text)
    except ValueError:
        getattr(form, name).set(None)
    return form


class Project:
    """Runs that mistakes are made with; `test` is a ProjectTest."""

    def __init__(self, test: Any) -> None:
        self.test = test
        self.particles = (test.imported, "outputParticles")
        self.plain = (import_phantom(test.proj, with_ctf=False), "outputParticles")
        self.other = (import_phantom(test.proj, defocus_offset_ang=5000.0), "outputParticles")
        self.aligned = (import_phantom(test.proj, poses=True), "outputParticles")
        self.small_mask = (import_mask(test.proj, np.ones((32, 32, 32)), 1.0), "outputMask")
        self.no_mask = (import_mask(test.proj, np.full((32, 32, 32), 7.5), 3.5), "outputMask")
        self.states = test.make(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        self.training = test.make(VaeganProtTrain3D, inputStates=self.states)
        self.flat = test.make(VaeganProtTrain2D, boxPx=16, inputParticles=self.particles)
        self.clustering = test.make(VaeganProtCluster, inputTraining=self.training, nNeighbors=5)
        self.flat_clusters = test.make(VaeganProtCluster, inputTraining=self.flat, nNeighbors=5)
        self.unfinished = test.filled(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        self.unfinished.setObjLabel("states, not run")
        test.proj.saveProtocol(self.unfinished)
        for name, text in (("words.txt", "one two\n"), ("empty.txt", "# nothing\n"), ("strange.txt", "3 999999\n"),
                           ("labels.csv", "particle,kind\n1,2\n")):
            with open(name, "w") as stream:
                stream.write(text)

    def form(self, kind: Any, **values: Any) -> Any:
        """A form, complete but for what is asked for."""
        given = {VaeganProtFullres: {}, VaeganProtConsensus: {},
                 VaeganProtStates: {"boxPx": 16, "inputParticles": self.particles},
                 VaeganProtTrain2D: {"boxPx": 16, "inputParticles": self.particles},
                 VaeganProtTrain3D: {"inputStates": self.states},
                 VaeganProtCluster: {"inputTraining": self.training, "nNeighbors": 5},
                 VaeganProtTraverse: {"inputClusters": self.clustering},
                 VaeganProtSelect: {"inputClusters": self.clustering},
                 VaeganProtEvaluate: {"inputClusters": self.clustering, "inputClasses": (self.states, "outputClasses")}}
        return self.test.filled(kind, **{**given[kind], **values})

    def says(self, kind: Any, **values: Any) -> Callable[[], List[str]]:
        """What a form says that is refused."""
        def problems() -> List[str]:
            with patch("vaegan_scipion.protocols.protocol_states.N_PARTICLES_MIN", 20):
                found = self.form(kind, **values).validate()
            assert found, (kind, values)
            return found[:1]

        return problems

    def says_typed(self, kind: Any, name: str, text: str, **values: Any) -> Callable[[], List[str]]:
        """What a form says of a text that was typed."""
        def problems() -> List[str]:
            with patch("vaegan_scipion.protocols.protocol_states.N_PARTICLES_MIN", 20):
                found = typed(self.form(kind, **values), name, text).validate()
            return [sentence for sentence in found if "should be" not in sentence][:1]

        return problems

    def ends(self, how: str, code: int) -> Callable[[], str]:
        """What a run says whose engine ends with a code."""
        def message() -> str:
            with environment(**{how: f"train3d:{code}"}):
                run = self.test.run_protocol(VaeganProtTrain3D, wait_ok=False, inputStates=self.states)
            return str(run.getErrorMessage())

        return message


def field_mistakes(p: Project) -> List[Mistake]:
    """Values that no run can take."""
    kinds = [
        ("states", VaeganProtStates, "box 20 px", {"boxPx": 20}),
        ("states", VaeganProtStates, "box 64 px of 32 px images", {"boxPx": 64}),
        ("states", VaeganProtStates, "particle diameter 500 Å", {"particleDiameterAng": 500}),
        ("states", VaeganProtStates, "particle diameter 2 Å", {"particleDiameterAng": 2}),
        ("states", VaeganProtStates, "particle diameter -3 Å", {"particleDiameterAng": -3}),
        ("states", VaeganProtStates, "a resolution of 10 Å where two pixels are 14", {"stateResolutionAng": 10}),
        ("states", VaeganProtStates, "resolutions that get coarser",
         {"startResolutionAng": 20, "stateResolutionAng": 25}),
        ("states", VaeganProtStates, "40 maps to start from", {"nMaps": 40}),
        ("states", VaeganProtStates, "no start to try", {"nStarts": 0}),
        ("states", VaeganProtStates, "a smallest state of 0.7 of all", {"smallestFrac": 0.7}),
        ("states", VaeganProtStates, "a largest shift of 0.9 of the box", {"maxShiftFrac": 0.9}),
        ("states", VaeganProtStates, "part of the box kept 2", {"cropFrac": 2.0}),
        ("states", VaeganProtStates, "a seed of -1", {"seed": -1}),
        ("states", VaeganProtStates, "no thread", {"numberOfThreads": 0}),
        ("train 3D", VaeganProtTrain3D, "finest detail 5 Å", {"resolutionAng": 5}),
        ("train 3D", VaeganProtTrain3D, "training box 33 px", {"boxPx": 33}),
        ("train 3D", VaeganProtTrain3D, "training length -1", {"totalKimg": -1}),
        ("train 3D", VaeganProtTrain3D, "batch of one", {"batchSize": 1}),
        ("train 3D", VaeganProtTrain3D, "another setting that does not exist", {"extraSettings": "model.nonsense=1"}),
        ("train 3D", VaeganProtTrain3D, "another setting without a value", {"extraSettings": "learning rate"}),
        ("train 3D", VaeganProtTrain3D, "3 particles to train on", {"maxImages": 3}),
        ("cluster", VaeganProtCluster, "more neighbours than particles", {"nNeighbors": 600}),
        ("cluster", VaeganProtCluster, "HDBSCAN samples 0", {"minSamples": 0}),
        ("cluster", VaeganProtCluster, "k-means with 1 cluster", {"method": 1, "nClusters": 1}),
        ("cluster", VaeganProtCluster, "a smallest cluster of more than half of all", {"minClusterSize": 900}),
        ("traverse", VaeganProtTraverse, "percentiles 90 and 10", {"lowPercentile": 90.0, "highPercentile": 10.0}),
        ("traverse", VaeganProtTraverse, "no point", {"nPoints": 0}),
        ("select", VaeganProtSelect, "cluster 9 of 3", {"clusterNumbers": "9"}),
        ("select", VaeganProtSelect, "clusters 'all'", {"clusterNumbers": "all"}),
        ("select", VaeganProtSelect, "least membership 2", {"minProbability": 2.0})]
    typing = [("states", VaeganProtStates, "maxImages", "all of them"), ("states", VaeganProtStates, "nMaps", "three"),
              ("train 3D", VaeganProtTrain3D, "totalKimg", "1,5"), ("cluster", VaeganProtCluster, "minDist", "")]
    return ([Mistake("Fields", f"{form}: {what}", p.says(kind, **values)) for form, kind, what, values in kinds]
            + [Mistake("Fields", f"{form}: '{text}' typed where a number is asked for" if text else
                       f"{form}: a number left out that must be given", p.says_typed(kind, name, text))
               for form, kind, name, text in typing])


def input_mistakes(p: Project) -> List[Mistake]:
    """Inputs that do not fit."""
    group = "Inputs"
    with_poses_that_are_none = p.says(VaeganProtTrain3D, posesFrom=OF_PARTICLES, boxPx=16, inputParticles=p.particles,
                                      inputStates=None)
    return [
        Mistake(group, "states: no particles", p.says(VaeganProtStates, inputParticles=(None, ""))),
        Mistake(group, "states: particles without a CTF", p.says(VaeganProtStates, inputParticles=p.plain)),
        Mistake(group, "states: an alignment that the particles do not have", p.says(VaeganProtStates,
                                                                                     useAlignment=True)),
        Mistake(group, "states: a symmetry that is none", p.says(VaeganProtStates, symmetry="octahedral")),
        Mistake(group, "states: 66 particles", lambda: p.form(VaeganProtStates).validate()[:1]),
        Mistake(group, "train 3D: poses of states, but none is given", p.says(
            VaeganProtTrain3D, posesFrom=OF_STATES, inputStates=(None, ""))),
        Mistake(group, "train 3D: states that were not run", p.says(VaeganProtTrain3D, inputStates=p.unfinished)),
        Mistake(group, "train 3D: poses of particles that have none", with_poses_that_are_none),
        Mistake(group, "train 3D without poses (a warning)", lambda: [
            note for note in p.form(VaeganProtTrain3D, posesFrom=NO_POSES, boxPx=16,
                                    inputParticles=p.particles).warnings() if "poses" in note]),
        Mistake(group, "cluster: a training that was not run", p.says(
            VaeganProtCluster, inputTraining=p.test.filled(VaeganProtTrain2D))),
        Mistake(group, "cluster: other particles after a training at the poses of states", p.says(
            VaeganProtCluster, inputParticles=p.other)),
        Mistake(group, "cluster: two halves after a 2D training", p.says(
            VaeganProtCluster, inputTraining=p.flat, doHalves=True)),
        Mistake(group, "states: clusters of a 2D training to start from", p.says(
            VaeganProtStates, inputClusters=p.flat_clusters)),
        Mistake(group, "select: particles of another import", lambda: raised(
            lambda: p.test.make(VaeganProtSelect, inputClusters=p.clustering, inputParticles=p.other))),
        Mistake(group, "states: a mask whose sampling rate was not set", p.says(
            VaeganProtStates, useAlignment=True, inputParticles=p.aligned, inputMask=p.small_mask)),
        Mistake(group, "full resolution: a map in place of a mask", p.says(
            VaeganProtFullres, inputStates=p.states, inputMask=p.no_mask)),
        Mistake(group, "compare runs: one run alone", p.says(VaeganProtConsensus, inputRuns=[p.states])),
        Mistake(group, "compare runs: one run given twice", p.says(VaeganProtConsensus,
                                                                   inputRuns=[p.states, p.states])),
        Mistake(group, "compare runs: clusters of a 2D training beside states", p.says(
            VaeganProtConsensus, inputRuns=[p.states, p.flat_clusters])),
        Mistake(group, "evaluate: nothing to compare with", p.says(VaeganProtEvaluate, labelsFrom=0)),
        Mistake(group, "evaluate: labels from classes, but none", p.says(VaeganProtEvaluate, inputClasses=(None, "")))]


def file_mistakes(p: Project) -> List[Mistake]:
    """Files that are not what they should be."""
    group = "Files"
    return [
        Mistake(group, "select: a file of ids that is not there", p.says(
            VaeganProtSelect, selectBy=1, selectionFile="none.txt")),
        Mistake(group, "select: a file of words", p.says(VaeganProtSelect, selectBy=1, selectionFile="words.txt")),
        Mistake(group, "select: a file without ids", p.says(VaeganProtSelect, selectBy=1, selectionFile="empty.txt")),
        Mistake(group, "select: ids of other particles", p.says(
            VaeganProtSelect, selectBy=1, selectionFile="strange.txt")),
        Mistake(group, "evaluate: a table with other columns", p.says(
            VaeganProtEvaluate, labelsFrom=2, labelsFile="labels.csv")),
        Mistake(group, "a result that was deleted", lambda: raised(
            lambda: result_file("extra/clusters", "clusters.csv"), EngineError)),
        Mistake(group, "particles added to the set after the run", lambda: raised(
            lambda: check_ids([1, 2, 3], [1, 2], "clusters.csv"), EngineError)),
        Mistake(group, "viewer: a column of the particles that is not there", lambda: raised(
            lambda: read_column(p.test.imported.outputParticles, "defocusU"), ColumnError))]


def device_mistakes(p: Project) -> List[Mistake]:
    """GPUs and the engine's environment."""
    group = "Devices and the engine's environment"

    def installation(activation: str) -> Callable[[], List[str]]:
        def problems() -> List[str]:
            with patch.object(Plugin, "getActivation", return_value=activation), \
                    patch.object(Plugin, "getHome", return_value="/path/vaegan"):
                return Plugin.validateInstallation()

        return problems

    return [
        Mistake(group, "GPU ID 'a'", p.says(VaeganProtStates, useGpu=True, gpuList="a")),
        Mistake(group, "GPU ID '0,1' of a traversal", p.says(VaeganProtTraverse, useGpu=True, gpuList="0,1")),
        Mistake(group, "GPU ID '0' and 2 processes (MPI)", p.says(VaeganProtStates, useGpu=True, gpuList="0",
                                                                  numberOfMpi=2)),
        Mistake(group, "Use GPU where there is no driver (a warning)", lambda: [
            note for note in p.form(VaeganProtStates, useGpu=True).warnings() if "nvidia-smi" in note]),
        Mistake(group, "the engine's environment was not installed", installation("")),
        Mistake(group, "an activation with 'source'", installation("source /path/env/bin/activate")),
        Mistake(group, "an activation file that is not there", installation(". /nowhere/bin/activate"))]


def stop_mistakes(p: Project) -> List[Mistake]:
    """Runs that end before they should."""
    group = "Runs that stop"
    engine = EngineRun(StatesRun(), "states.json", "nowhere")
    codes = [(4, "the training diverged"), (5, "the GPU's memory is full"), (6, "a process was lost"),
             (137, "the machine's memory is full"),
             (127, "the engine's program is gone"), (143, "Stop was pressed, or a queue's time limit")]
    return [Mistake(group, "the engine says why it stopped", p.ends("VAEGAN_FAKE_EXIT", 3)),
            *[Mistake(group, what, lambda code=code: engine.explain(code)) for code, what in codes],
            Mistake(group, "a job of a queue that ended without a word", lambda: raised(engine.ended, EngineError))]


def all_mistakes(test: Any) -> List[Mistake]:
    """Every mistake, in the order of the page."""
    p = Project(test)
    return (field_mistakes(p) + input_mistakes(p) + file_mistakes(p) + device_mistakes(p) + stop_mistakes(p))
