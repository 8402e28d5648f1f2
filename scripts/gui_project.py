"""The small project that ``gui_session.py`` looks at where none is named: runs of the tests' stand-in engine."""
import os
import sys

from pyworkflow.project import Manager

from vaegan_scipion.constants import VAEGAN_ENV_ACTIVATION
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtStates,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES
from vaegan_scipion.tests.phantom import ProjectTest, import_phantom, make_fake_environment

PROJECT = "vaegan_gui"


def make_project():
    """A project with a run of each kind, made by the stand-in engine of the tests."""
    manager = Manager()
    if manager.hasProject(PROJECT):
        manager.deleteProject(PROJECT)
    project = manager.createProject(PROJECT)
    os.chdir(project.getPath())
    os.environ[VAEGAN_ENV_ACTIVATION] = make_fake_environment(os.path.abspath("stand-in engine"))
    imported = import_phantom(project)

    def run(protocol_class, label, **values):
        protocol = project.newProtocol(protocol_class, **values)
        protocol.setObjLabel(label)
        if protocol.hasAttribute("useGpu"):
            protocol.useGpu.set(False)
        return protocol

    training = run(VaeganProtTrain3D, "train 3D", posesFrom=NO_POSES, boxPx=16, nCategories=4)
    training.inputParticles.set(imported)
    training.inputParticles.setExtended("outputParticles")
    clustering = run(VaeganProtCluster, "embed and cluster", nNeighbors=5, doHalves=True)
    clustering.inputTraining.set(training)
    traversal = run(VaeganProtTraverse, "PCA traversal")
    traversal.inputClusters.set(clustering)
    evaluation = run(VaeganProtEvaluate, "evaluate")
    evaluation.inputClusters.set(clustering)
    evaluation.inputClasses.set(clustering)
    evaluation.inputClasses.setExtended("outputClasses")
    evaluation.inputReferences.set(training)
    evaluation.inputReferences.setExtended("outputVolumes")
    for protocol in (training, clustering, traversal, evaluation):
        project.launchProtocol(protocol, wait=True)
        if not protocol.isFinished():
            sys.exit(f"gui: {protocol.getObjLabel()} failed: {protocol.getErrorMessage()}")
    small = type("Small", (ProjectTest,), {"proj": project})  # the set has fewer particles than these forms take
    particles = (imported, "outputParticles")
    small.make(VaeganProtClasses2D, boxPx=16, inputParticles=particles)
    states = [small.make(VaeganProtStates, boxPx=16, seed=seed, inputParticles=particles) for seed in (1, 0)]
    small.make(VaeganProtConsensus, inputRuns=states)
    small.make(VaeganProtFullres, inputStates=states[-1])
    return project.getPath()
