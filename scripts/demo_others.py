"""The runs that the demo's road leaves out, in its project, so that every viewer can be looked at.

``bin/scipion3 python scripts/demo_others.py [TRUTH.csv]`` after ``make demo``: classes 2D, train 2D with its clusters
and their traversal, states at full resolution, and evaluate against the truth. Some minutes on free cores.
"""
import os
import sys
from pathlib import Path

from demo_project import launch
from pyworkflow.project import Manager

from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_evaluate import FROM_FILE

PROJECT = "vaegan_demo"
TRUTH = Path(__file__).resolve().parent.parent / "demo" / "data" / "truth.csv"
KIMG = 6  # of the 2D training: its pictures are looked at, not trusted


def main():
    """Add the runs."""
    truth = Path(sys.argv[1] if len(sys.argv) > 1 else TRUTH).absolute()
    project = Manager().loadProject(PROJECT)
    os.chdir(project.getPath())
    states = next(run for run in project.getRuns() if isinstance(run, VaeganProtStates))
    box_px = states.boxPx.get()

    def run(kind, label, **values):
        pointers = {name: value for name, value in values.items() if isinstance(value, tuple)}
        protocol = project.newProtocol(kind, **{name: value for name, value in values.items() if name not in pointers})
        for name, (other, output) in pointers.items():
            getattr(protocol, name).set(other)
            if output:
                getattr(protocol, name).setExtended(output)
        return launch(project, protocol, label)

    particles = (states.inputParticles.getObjValue(), states.inputParticles.getExtended())
    run(VaeganProtClasses2D, "classes 2D", boxPx=box_px, inputParticles=particles)
    run(VaeganProtEvaluate, "evaluate states", inputClusters=(states, ""), labelsFrom=FROM_FILE, labelsFile=str(truth))
    run(VaeganProtFullres, "full resolution", inputStates=(states, ""))
    training = run(VaeganProtTrain2D, "train 2D", boxPx=box_px, totalKimg=KIMG, inputParticles=particles)
    clusters = run(VaeganProtCluster, "clusters 2D", inputTraining=(training, ""))
    run(VaeganProtTraverse, "traversal 2D", inputClusters=(clusters, ""))


if __name__ == "__main__":
    main()
