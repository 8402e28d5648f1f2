"""From particles to refined maps of a state in RELION: the steps of docs/use/to-relion.rst as one Scipion project.

``bin/scipion3 python scripts/to_relion.py particles.star --pixel-size 1.6 --diameter 230 --project to_relion``

Import, *find states and poses*, *refine states at full resolution*, *select and export* one state, then RELION's own
reconstruction, 3D classification without alignment, mask, 3D auto-refine around our poses and post-processing. Every
step's minutes are printed, and what RELION's FSC says. Run again after a stop: finished steps are kept where they were
made with what is asked for now; another value, or another run before it, makes a step again, and the reason is said.
"""
import argparse
import math
import os
import sys
import time
from pathlib import Path

from demo_project import launch
from emtable import Table
from pwem.protocols import ProtImportParticles
from pyworkflow.object import Pointer
from pyworkflow.project import Manager
from relion.protocols import (
    ProtRelionClassify3D,
    ProtRelionCreateMask3D,
    ProtRelionPostprocess,
    ProtRelionReconstruct,
    ProtRelionRefine3D,
)

from vaegan_scipion.protocols import VaeganProtFullres, VaeganProtSelect, VaeganProtStates

SAMPLING_1_8_DEG = 4  # index in RELION's list of angular samplings
MICROSCOPE = {"rlnVoltage": "voltage", "rlnSphericalAberration": "sphericalAberration",
              "rlnAmplitudeContrast": "amplitudeContrast"}  # column of a star file -> field of the import
COMPUTE = ("numberOfThreads", "numberOfMpi", "doGpu")  # fields of which results do not depend
MASK_LOW_PASS_ANG = 15.0
MASK_THRESHOLD_FRAC = 0.15  # of the densest thousandth after the low pass
MASK_EXTENDED_ANG, MASK_EDGE_ANG = 10.0, 20.0
AROUND_OUR_POSES = {  # RELION's auto-refine: a leader and one process per half set, three pixels around our shifts
    "copyAlignment": True, "alignmentAsPriors": True, "solventFscMask": True, "angularSamplingDeg": SAMPLING_1_8_DEG,
    "localSearchAutoSamplingDeg": SAMPLING_1_8_DEG, "offsetSearchRangePix": 3, "isMapAbsoluteGreyScale": True,
    "doGpu": False, "numberOfMpi": 3, "numberOfThreads": 1}


def open_project(name):
    """The Scipion project of this name, made where there is none; its folder becomes the working folder."""
    manager = Manager()
    project = manager.loadProject(name) if manager.hasProject(name) else manager.createProject(name)
    os.chdir(project.getPath())
    return project


class Road:
    """One project and its runs by name; a run that is finished as it is asked for is not made again."""

    def __init__(self, project):
        self.project = project
        self.minutes = {}
        self.finished = [run for run in project.getRuns() if run.isFinished()]

    def step(self, label, protocol_class, pointers=None, **values):
        """The finished run of this label that has these inputs and values, run now where there is none.

        ``pointers``: name -> (run, output or ""). Threads, processes and GPU are not compared.
        """
        protocol = self.project.newProtocol(protocol_class, **values)
        for name, (run, output) in (pointers or {}).items():
            pointer = getattr(protocol, name)
            pointer.set(run)
            if output:
                pointer.setExtended(output)
        compared = [*(pointers or {}), *(name for name in values if name not in COMPUTE)]
        why = ""
        for before in reversed([run for run in self.finished if run.getObjLabel() == label]):
            other = difference(before, protocol, compared)
            if not other:
                print(f"{label}: finished before", flush=True)
                return before
            why = why or other
        if why:
            print(f"{label}: made again, as {why}", flush=True)
        started = time.monotonic()
        launch(self.project, protocol, label)
        self.minutes[label] = (time.monotonic() - started) / 60
        return protocol


def difference(before, asked, names):
    """Why a finished run is not what is asked for, of the fields ``names``; "" where it is."""
    if type(before) is not type(asked):
        return f"it was a run of {before.getClassName()}"
    for name in names:
        old, new = getattr(before, name), getattr(asked, name)
        if isinstance(new, Pointer):
            run = new.getObjValue()
            if old.getObjValue() is None or (old.getObjValue().getObjId(), old.getExtended()) != (
                    run.getObjId(), new.getExtended()):
                return f"'{run.getObjLabel()}' was made again"
            if run.endTime.get() and started_before(before, run.endTime.datetime().timestamp()):
                return f"'{run.getObjLabel()}' was run again after it"
        elif not same_value(old.get(), new.get()):
            return f"{name} was {old.get()} and is {new.get()} now"
        elif os.path.isfile(str(new.get())) and started_before(before, os.path.getmtime(str(new.get()))):
            return f"{new.get()} was written after it"
    return ""


def started_before(run, seconds):
    """Whether a run began before a time (seconds since 1970); False where it does not say when."""
    return bool(run.initTime.get()) and run.initTime.datetime().timestamp() < seconds


def same_value(old, new):
    """Whether two values of a field are one; numbers by their size, as a project stores them in its own way."""
    try:
        return math.isclose(float(old), float(new), rel_tol=1e-6)
    except (TypeError, ValueError):
        return str(old) == str(new)


def threshold(path, voxel_size_ang):
    """Density at which a mask's binary part ends, in a map after the low pass that the mask is made with.

    A share of the densest thousandth: of the largest voxel noise would have a say, and a threshold that noise reaches
    lets the mask fill the box, in which nothing is masked.
    """
    import numpy as np
    from pwem.emlib.image import ImageHandler

    values = np.squeeze(ImageHandler().read(path).getData())
    frequency = [np.fft.fftfreq(n, voxel_size_ang) for n in values.shape[:-1]]
    frequency.append(np.fft.rfftfreq(values.shape[-1], voxel_size_ang))
    per_ang = np.sqrt(sum(np.square(part) for part in np.meshgrid(*frequency, indexing="ij", sparse=True)))
    smooth = np.fft.irfftn(np.fft.rfftn(values) * (per_ang < 1 / MASK_LOW_PASS_ANG), values.shape, range(3))
    return MASK_THRESHOLD_FRAC * float(np.percentile(smooth, 99.9))


def microscope_of(star):
    """Voltage, Cs and amplitude contrast of a star file as the import's form names them: the form's own would win.

    Nothing for a star file without optics groups. Ends where groups differ: the form has room for one microscope.
    """
    with open(star) as stream:
        has_groups = any(line.split() == ["data_optics"] for line in stream)
    rows = list(Table(fileName=star, tableName="optics")) if has_groups else []
    found = {tuple(float(getattr(row, name)) for name in MICROSCOPE) for row in rows}
    if len(found) > 1:
        sys.exit(f"{star}: its {len(rows)} optics groups are of {len(found)} microscopes {sorted(found)}, and the "
                 "import takes one. Give a star file of each.")
    return {field: values[k] for values in found for k, field in enumerate(MICROSCOPE.values())}


def build(args):
    """All steps; returns minutes by step and the resolutions."""
    star = os.path.abspath(args.star)
    road = Road(open_project(args.project))
    imported = road.step("import particles", ProtImportParticles, magnification=50000, starFile=star,
                         importFrom=ProtImportParticles.IMPORT_FROM_RELION, samplingRate=args.pixel_size,
                         haveDataBeenPhaseFlipped=False, **microscope_of(star))
    ours = {"numberOfThreads": args.threads}
    states = road.step("find states and poses", VaeganProtStates, {"inputParticles": (imported, "outputParticles")},
                       boxPx=args.box, particleDiameterAng=args.diameter, **ours)
    full = road.step("refine states at full resolution", VaeganProtFullres, {"inputStates": (states, "")}, **ours)
    selected = road.step(f"select state {args.state}", VaeganProtSelect, {"inputClusters": (full, "")},
                         clusterNumbers=str(args.state), exportStar=True)
    of_state = f", state {args.state}"  # in the labels: another state is other runs
    particles = {"inputParticles": (selected, "outputParticles")}
    relion = {"doGpu": False, "copyAlignment": True, "maskDiameterA": round(args.diameter)}
    mean = road.step(f"RELION: reconstruct{of_state}", ProtRelionReconstruct, particles, numberOfMpi=1)
    reference = {"referenceVolume": (mean, "outputVolume")}
    road.step(f"RELION: 3D classification without alignment{of_state}", ProtRelionClassify3D,
              {**particles, **reference}, doImageAlignment=False, numberOfClasses=2,
              numberOfIterations=args.iterations, numberOfMpi=1, initialLowPassFilterA=args.low_pass,
              isMapAbsoluteGreyScale=True, numberOfThreads=args.threads, **relion)
    mask = road.step(f"RELION: mask{of_state}", ProtRelionCreateMask3D, {"inputVolume": (mean, "outputVolume")},
                     initialLowPassFilterA=MASK_LOW_PASS_ANG,
                     threshold=threshold(mean.outputVolume.getFileName(), args.pixel_size),
                     extend=round(MASK_EXTENDED_ANG / args.pixel_size), edge=round(MASK_EDGE_ANG / args.pixel_size))
    refined = road.step(
        f"RELION: 3D auto-refine{of_state}", ProtRelionRefine3D,
        {**particles, **reference, "referenceMask": (mask, "outputMask")},
        **{**AROUND_OUR_POSES, **relion, "initialLowPassFilterA": args.low_pass})
    road.step(f"RELION: post-processing{of_state}", ProtRelionPostprocess,
              {"protRefine": (refined, ""), "solventMask": (mask, "outputMask")})
    post = road.step(f"RELION: post-processing of our half maps{of_state}", ProtRelionPostprocess, {
        "inputVolume": (full, f"outputVolumes.{args.state}"), "solventMask": (mask, "outputMask")}, relionInput=False)
    return road.minutes, post


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("star", help="particles with CTF, as RELION writes them")
    parser.add_argument("--pixel-size", type=float, required=True, help="A")
    parser.add_argument("--diameter", type=float, required=True, help="of the particle, A")
    parser.add_argument("--project", default="to_relion", help="name of the Scipion project")
    parser.add_argument("--box", type=int, default=48, help="px, in which states are found")
    parser.add_argument("--state", type=int, default=1, help="the one that RELION refines")
    parser.add_argument("--low-pass", type=float, default=20.0, help="A, of RELION's references")
    parser.add_argument("--iterations", type=int, default=10, help="of the classification")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    os.environ.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")  # the leader of RELION's processes only waits
    if not Path(args.star).is_file():
        sys.exit(f"{args.star}: no such file. Give a star file of particles.")
    minutes, _ = build(args)
    for label, value in minutes.items():
        print(f"{value:8.1f} min  {label}")


if __name__ == "__main__":
    main()
