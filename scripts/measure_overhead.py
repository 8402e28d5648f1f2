"""What the protocols of the road themselves cost on a large set: seconds and peak memory, the engine's time apart.

``bin/scipion3 python scripts/measure_overhead.py [--particles 130000]``. The set is generated (metadata with CTF,
optics groups, micrographs, coordinates and half sets; images of 16 px in a sparse stack that nobody reads) and the
engine is the stand-in of the tests, which writes results for every particle. Find states and poses, classes 2D, train
3D with the states' poses, embed and cluster, select: one line each; then every drawing of their viewers and the UMAP to
select in. Exit code 1 where a run takes more than 120 s of its own or 2 GiB, or a drawing 5 s (CPU time: what else the
machine does is not counted).
"""
import argparse
import os
import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import mrcfile
from pwem.objects import Acquisition, Coordinate, CTFModel, Particle
from pwem.protocols import ProtImportParticles
from pyworkflow.object import Integer
from pyworkflow.project import Manager
from pyworkflow.protocol import STATUS_FINISHED

from vaegan_scipion.constants import VAEGAN_ENV_ACTIVATION
from vaegan_scipion.convert.columns import read_column
from vaegan_scipion.convert.to_engine import write_particles_star
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain3D,
)
from vaegan_scipion.protocols.protocol_train_3d import OF_STATES
from vaegan_scipion.tests.phantom import make_fake_environment
from vaegan_scipion.viewers import VaeganClasses2DViewer, VaeganClusterViewer, VaeganStatesViewer

BOX_PX = 16
PIXEL_SIZE_ANG = 3.5
LIMIT_S = 120.0
LIMIT_GIB = 2.0
VIEWER_LIMIT_S = 5.0
MICROGRAPHS = 500
OPTICS = """data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnMicrographOriginalPixelSize
_rlnBeamTiltX
_rlnBeamTiltY
generated 1 300.0 2.7 0.1 1.1 0.1 -0.1
"""
OWN_STEPS = ("convertInputStep", "createOutputStep")


def timed(what, work):
    """Result of `work`, its seconds printed."""
    started = time.monotonic()
    made = work()
    print(f"{what}: {time.monotonic() - started:.1f} s", flush=True)
    return made


def import_particles(project, n_particles):
    """A finished import of generated particles, ids rising by seven: never row numbers, and in every group."""
    protocol = project.newProtocol(ProtImportParticles)
    project.saveProtocol(protocol)
    protocol.makePathsAndClean()
    stack = protocol._getExtraPath("generated.mrcs")
    with mrcfile.new_mmap(stack, shape=(n_particles, BOX_PX, BOX_PX), mrc_mode=2) as mrc:  # a hole in the file
        mrc.set_image_stack()
        mrc.voxel_size = PIXEL_SIZE_ANG
    microscope = Acquisition(magnification=50000.0, voltage=300.0, sphericalAberration=2.7, amplitudeContrast=0.1)
    particles = protocol._createSetOfParticles()
    particles.setSamplingRate(PIXEL_SIZE_ANG)
    microscope.opticsGroupInfo.set(OPTICS)
    particles.setAcquisition(microscope)
    particles.setHasCTF(True)
    for index in range(1, n_particles + 1):
        particle = Particle()
        particle.setObjId(7 * index)
        particle.setLocation(index, stack)
        particle.setSamplingRate(PIXEL_SIZE_ANG)
        particle.setAcquisition(microscope)
        defocus_ang = 10000.0 + index % 7000
        particle.setCTF(CTFModel(defocusU=defocus_ang, defocusV=defocus_ang - 100, defocusAngle=index % 180))
        coordinate = Coordinate(x=index * 37 % 4000, y=index * 61 % 4000)
        coordinate.setMicId(index % MICROGRAPHS + 1)
        coordinate.setMicName(f"micrograph_{index % MICROGRAPHS:04d}.mrc")
        particle.setCoordinate(coordinate)
        particle._rlnRandomSubset = Integer(index % 2 + 1)
        particles.append(particle)
    protocol._defineOutputs(outputParticles=particles)
    protocol.setStatus(STATUS_FINISHED)
    project._storeProtocol(protocol)
    return protocol


def launch(project, protocol):
    """Run to the end; stop with its error when it fails."""
    if protocol.hasAttribute("useGpu"):
        protocol.useGpu.set(False)
    started = time.monotonic()
    project.launchProtocol(protocol, wait=True)
    if not protocol.isFinished():
        sys.exit(f"{protocol.getRunName()} failed: {protocol.getErrorMessage()}")
    return time.monotonic() - started


def measure(project, name, protocol):
    """Run a protocol, print what it costs itself; whether that is within the limits."""
    timed(f"{name}: validate the form", protocol.validate)
    cpu_before = cpu_seconds()
    whole = launch(project, protocol)
    cpu, seconds = cpu_seconds() - cpu_before, step_seconds(protocol)
    own = whole - sum(value for step, value in seconds.items() if step not in OWN_STEPS)
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    timed(f"{name}: summary", protocol._summary)
    print(f"{name}: CPU with the stand-in engine's {cpu:.1f} s (limit {LIMIT_S:.0f}), on the clock {own:.1f} s, "
          + ", ".join(f"{step} {value:.1f} s" for step, value in seconds.items())
          + f"; peak so far {peak_gib:.2f} GiB (limit {LIMIT_GIB:g})", flush=True)
    return cpu < LIMIT_S and peak_gib < LIMIT_GIB


def open_drawings(viewer_class, project, protocol):
    """Draw what each button of a viewer draws, print the CPU seconds; whether all are within the limit."""
    viewer = viewer_class(project=project, protocol=protocol)
    viewer.setProtocol(protocol)
    slowest = 0.0
    buttons = viewer._getVisualizeDict()
    for name in [*viewer.DRAWINGS, *(["showUmap"] if "showUmap" in buttons else [])]:
        started = time.process_time()
        for view in buttons[name]():
            if hasattr(view, "getFigure"):
                view.getFigure().canvas.draw()
                view.close()
        seconds = time.process_time() - started
        slowest = max(slowest, seconds)
        print(f"{viewer_class._label}, {name}: {seconds:.1f} s (limit {VIEWER_LIMIT_S:g})", flush=True)
    return slowest < VIEWER_LIMIT_S


def cpu_seconds():
    """CPU time of all runs that ended: another program that is busy does not change it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def step_seconds(protocol):
    """Seconds of each step of a finished run."""
    return {step.funcName.get(): step.getElapsedTime().total_seconds() for step in protocol.loadSteps()}


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=130_000)
    parser.add_argument("--project", default="vaegan_overhead", help="name of the Scipion project, which is replaced")
    parser.add_argument("--profile", action="store_true", help="show where writing the star file spends its time")
    return parser.parse_args()


def main():
    """Build the project, run, print, judge."""
    args = parse()
    manager = Manager()
    if manager.hasProject(args.project):
        manager.deleteProject(args.project)
    project = manager.createProject(args.project)
    os.chdir(project.getPath())
    os.environ[VAEGAN_ENV_ACTIVATION] = make_fake_environment(Path("fake_env").absolute())
    imported = timed("generate the set", lambda: import_particles(project, args.particles))
    states = project.newProtocol(VaeganProtStates, boxPx=BOX_PX)
    states.inputParticles.set(imported)
    states.inputParticles.setExtended("outputParticles")
    classes = project.newProtocol(VaeganProtClasses2D, boxPx=BOX_PX)
    classes.inputParticles.set(imported)
    classes.inputParticles.setExtended("outputParticles")
    training = project.newProtocol(VaeganProtTrain3D, posesFrom=OF_STATES)
    training.inputStates.set(states)
    clustering = project.newProtocol(VaeganProtCluster)
    clustering.inputTraining.set(training)
    selection = project.newProtocol(VaeganProtSelect, clusterNumbers="1-2", exportStar=find_spec("relion") is not None)
    selection.inputClusters.set(clustering)
    fine = [measure(project, name, run) for name, run in (
        ("find states and poses", states), ("classes 2D", classes), ("train 3D", training),
        ("embed and cluster", clustering), ("select and export", selection))]
    fine += [open_drawings(viewer, project, run) for viewer, run in (
        (VaeganStatesViewer, states), (VaeganClasses2DViewer, classes), (VaeganClusterViewer, clustering))]
    timed("columns of the UMAP's colours", lambda: read_column(states.outputParticles, "_ctfModel._defocusU"))
    timed("crossing with the states", clustering.readCrossing)
    if args.profile:
        import cProfile
        import pstats
        profile = cProfile.Profile()
        profile.runcall(write_particles_star, imported.outputParticles, "profiled.star")
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
