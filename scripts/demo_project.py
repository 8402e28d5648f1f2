"""The Scipion part of the demo: a project with an import, states, a training at their poses, clusters, a traversal
and one state as a star file for RELION.

``bin/scipion3 python scripts/demo_project.py REQUEST.json``, where the request (written by ``demo.py``) names the
star file, the project, the settings of each protocol and the answer: a JSON file with the runs' folders.
"""
import json
import os
import sys
import threading
import time
from pathlib import Path

from pwem.protocols import ProtImportParticles
from pyworkflow.project import Manager

from vaegan_scipion.constants import SELECTED_STAR
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_train_3d import OF_STATES

POLL_S = 2.0


class Follower(threading.Thread):
    """Shows the newest progress line of a run's log while the run is waited for."""

    def __init__(self, log):
        super().__init__(daemon=True)
        self.log = Path(log).absolute()
        self.ended = threading.Event()

    def run(self):
        """Print each new last line, until the end."""
        shown = ""
        while not self.ended.wait(POLL_S):
            if not self.log.exists():
                continue
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if "%," in line]
            if lines and lines[-1] != shown:
                shown = lines[-1]
                print("   ", shown, flush=True)


def launch(project, protocol, label):
    """Run a protocol to its end, its progress shown; a stop with its error when it fails."""
    started = time.monotonic()
    print(f"{label} ...", flush=True)
    protocol.setObjLabel(label)
    if protocol.hasAttribute("useGpu"):
        protocol.useGpu.set(os.environ.get("VAEGAN_DEMO_GPU") == "1")
    problems = protocol.validate()
    if problems:
        sys.exit(f"{label}: " + " ".join(problems))
    project.saveProtocol(protocol)
    follower = Follower(os.path.join(protocol.getPath(), "logs", "run.stderr"))
    follower.start()
    try:
        project.launchProtocol(protocol, wait=True)
    finally:
        follower.ended.set()
    if not protocol.isFinished():
        sys.exit(f"{label} failed: {protocol.getErrorMessage()} Its log: {os.path.abspath(protocol.getLogPaths()[0])}")
    print(f"{label}: done in {time.monotonic() - started:.0f} s", flush=True)
    return protocol


def check_ids(particles):
    """The truth knows particles by their row; a set that numbers them otherwise cannot be compared."""
    for particle in particles:
        if particle.getObjId() != particle.getIndex():
            sys.exit(f"{particle.getFileName()}: image {particle.getIndex()} was imported as particle "
                     f"{particle.getObjId()}; the truth would be joined wrongly.")


def main():
    """Build the project."""
    request = json.loads(Path(sys.argv[1]).read_text())
    manager = Manager()
    if manager.hasProject(request["project"]):
        manager.deleteProject(request["project"])
    project = manager.createProject(request["project"])
    os.chdir(project.getPath())

    imported = launch(project, project.newProtocol(
        ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, starFile=request["star"],
        samplingRate=request["pixel_size_ang"], magnification=50000, haveDataBeenPhaseFlipped=False),
        "import particles")
    check_ids(imported.outputParticles)

    states = project.newProtocol(VaeganProtStates, **request["states"])
    states.inputParticles.set(imported)
    states.inputParticles.setExtended("outputParticles")
    launch(project, states, "find states and poses")

    training = project.newProtocol(VaeganProtTrain3D, posesFrom=OF_STATES, **request["train"])
    training.inputStates.set(states)
    launch(project, training, "train 3D")

    clustering = project.newProtocol(VaeganProtCluster, **request["cluster"])
    clustering.inputTraining.set(training)
    launch(project, clustering, "embed and cluster")

    traversal = project.newProtocol(VaeganProtTraverse, **request["traverse"])
    traversal.inputClusters.set(clustering)
    launch(project, traversal, "PCA traversal")

    selection = project.newProtocol(VaeganProtSelect, clusterNumbers="1", exportStar=True)
    selection.inputClusters.set(states)
    launch(project, selection, "select state 1")

    Path(request["answer"]).write_text(json.dumps({
        "project": os.path.abspath(project.getPath()),
        "run": os.path.abspath(training.getRunDir()),
        "clusters": os.path.abspath(clustering.getClustersDir()),
        "traverse": os.path.abspath(traversal._getExtraPath("traversal")),
        "states": os.path.abspath(states.getStatesDir()),
        "star": os.path.abspath(selection._getExtraPath(SELECTED_STAR)),
    }, indent=2) + "\n")


if __name__ == "__main__":
    main()
