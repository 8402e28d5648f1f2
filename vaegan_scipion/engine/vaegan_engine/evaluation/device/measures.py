"""Figures of this code on one device: E step, trainings, a whole ``states``; ``scripts/device_check.py`` runs them.

All data is simulated from the built-in phantom. A measure reports every figure as soon as it has it, so that one that
is ended early leaves what it has.
"""
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...contract import presets, result_files
from ...contract.errors import StoppedError
from ...contract.record import read_record
from ...contract.settings import ComputeConfig, DataConfig, StatesRun, TrainRun
from ...data.prepared_images import open_cache
from ...physics.fsc import soft_sphere_mask
from ...physics.map_constraint import within
from ...reconstruction.images import image_power
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.pose_search import PoseGrid, search_all
from ...refine.refine import run_states
from ...refine.tuning import TUNING, RefineTuning, SearchTuning, StartTuning
from ...runtime import compute
from ...simulation.options import SimulateOptions, Simulation
from ...simulation.phantom import phantom_states
from ...simulation.simulate import STAR, TRUTH_CSV, run_simulate
from ...training.posed_trainer import PosedTrainer
from ...training.train import made_for
from ..benchmark.scores import label_scores
from . import kernels

Report = Callable[[str, float | int | str], None]
N_STATES = 3
WARM_STEPS, STEPS_TOGETHER = 3, 5  # before the clock starts; between two looks at the clock


@dataclass(frozen=True)
class Size:
    """How much is simulated and searched."""

    box_px: int = 64
    n_images: int = 6000  # of the trainings and the E step
    n_searched: int = 4096  # images of the E step, at most
    n_rotations: int = 4608
    snr: float = 0.2
    n_states_images: int = 30_000
    training: dict[str, dict[str, float]] = field(default_factory=dict)  # changes of the presets
    states: StatesRun = field(default_factory=StatesRun)
    tuning: RefineTuning = TUNING


FULL = Size()
TOY = Size(box_px=24, n_images=120, n_searched=32, n_rotations=60, snr=2.0, n_states_images=120,
           training={"training": {"batch_size": 4, "band_shells": 6.0, "start_rounds": 1},
                     "model": {"generator_width": 8, "critic_width": 4, "encoder_width": 4}},
           states=StatesRun(n_maps=1, n_starts=2, start_steps=3, search_steps=2, batch_size=32, start_shells=4.0,
                            search_shells=4.0, state_shells=5.0, max_shift_frac=0.05),
           tuning=replace(TUNING, min_state=20, start=StartTuning(n_rotations=60), search=SearchTuning(n_rotations=60)))


@dataclass(frozen=True)
class Place:
    """Where a measure runs: the device, its folder, its time, its size."""

    where: ComputeConfig
    folder: Path
    seconds: float
    size: Size = FULL

    @property
    def device(self) -> torch.device:
        """The device, ready."""
        compute.work_in_parts(self.where)
        return compute.prepare_device(self.where)


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def particles(place: Place, n_images: int) -> Path:
    """A star file of simulated particles."""
    size, folder = place.size, place.folder / f"particles_{n_images}"
    run_simulate(SimulateOptions(phantom=N_STATES, per_map=n_images // N_STATES, box_px=size.box_px, snr=size.snr,
                                 device=place.where.device, seed=place.where.seed), folder)
    return folder / STAR


def measure_kernels(place: Place, report: Report) -> None:
    """Every kernel on the device and on the CPU. Raises RuntimeError where they differ."""
    wrong = kernels.check(place.device, report)
    if wrong:
        raise RuntimeError("; ".join(wrong))


def measure_e_step(place: Place, report: Report) -> None:
    """Images per second of the search of ``states``: all shifts of 10 % of the box, 10 shells, one map and three."""
    device, size = place.device, place.size
    data = DataConfig(particles=str(particles(place, size.n_images)), box_px=size.box_px)
    cache = open_cache(data, place.folder / result_files.CACHE)
    radius = min(TUNING.shells.search, size.box_px / 2)
    images = cache.on(device).with_stored(radius)
    mask = torch.from_numpy(soft_sphere_mask(size.box_px, 0.45 * size.box_px, 2.0)).to(device)
    for n_maps in (1, N_STATES):
        maps = torch.from_numpy(phantom_states(n_maps, size.box_px, cache.pixel_size_ang)).to(device)
        model = MapMixture(maps, image_power(images), within(mask))
        model.fit_box(radius)
        grid = PoseGrid(radius, size.n_rotations, size.states.max_shift_frac * size.box_px)
        rows, done, began = np.arange(len(images))[:size.n_searched], 0, 0.0
        for part in (rows[:16], *np.array_split(rows, 8)):  # the first one compiles and warms up
            search_all(images, model, part, grid)
            wait_for(device)
            if not began:
                began = time.monotonic()
                continue
            done += len(part)
            if time.monotonic() - began > place.seconds / 4:
                break
        report(f"images_per_second_{n_maps}_maps", done / (time.monotonic() - began))
    report_memory(device, report)


def measure_fast(place: Place, report: Report) -> None:
    """Images per second of the training ``fast``."""
    measure_training(place, presets.build_run("train3d", "fast", place.size.training | {
        "data": training_data(place), "compute": asdict(place.where)}), report)


def measure_thesis_3d(place: Place, report: Report) -> None:
    """Images per second of the training ``thesis-3d``."""
    measure_training(place, presets.build_run("train3d", "thesis-3d", place.size.training | {
        "data": training_data(place), "compute": asdict(place.where)}), report)


def measure_posed(place: Place, report: Report) -> None:
    """The training with poses, likelihood alone: seconds until its first step, images per second of its steps."""
    data = training_data(place)
    poses = place.folder / "poses"
    write_poses(Path(data["particles"]).parent, poses, place.size.box_px)
    run = presets.build_run("train3d", "posed", place.size.training | {
        "data": {**data, "poses_dir": str(poses)}, "compute": asdict(place.where)})
    measure_training(place, run, report)


def training_data(place: Place) -> dict[str, Any]:
    """Simulated particles as the section ``data`` of a training."""
    return {"particles": str(particles(place, place.size.n_images).absolute()), "box_px": place.size.box_px}


def write_poses(simulated: Path, folder: Path, box_px: int) -> None:
    """The true poses as ``states`` would leave them."""
    pixel_size_ang = read_record(Simulation, simulated / "simulation.json", "simulate").pixel_size_ang
    header = ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang", "contrast"]
    result_files.write_csv(folder / result_files.PARTICLES_CSV, header, (
        [row["id"], 0, row["rot_deg"], row["tilt_deg"], row["psi_deg"], pixel_size_ang * float(row["shift_x_px"]),
         pixel_size_ang * float(row["shift_y_px"]), 1] for row in result_files.read_csv(simulated / TRUTH_CSV)))


def measure_training(place: Place, run: TrainRun, report: Report) -> None:
    """Seconds before the first step, and images per second of steps after the first few."""
    device = place.device
    cache = open_cache(run.data, place.folder / result_files.CACHE)
    began = time.monotonic()
    trainer, batches = made_for(run, cache, device, place.folder)
    if isinstance(trainer, PosedTrainer):
        trainer.begin()
        trainer.refresh()
    wait_for(device)
    report("seconds_before_steps", time.monotonic() - began)
    for _ in range(WARM_STEPS):
        trainer.step(*batches.read(trainer.images_seen))
    wait_for(device)
    first, began = trainer.images_seen, time.monotonic()
    while time.monotonic() - began < place.seconds / 3:
        for _ in range(STEPS_TOGETHER):
            trainer.step(*batches.read(trainer.images_seen))
        wait_for(device)
    report("images_per_second", (trainer.images_seen - first) / (time.monotonic() - began))
    report("batch", run.training.batch_size)
    report_memory(device, report)


def measure_states(place: Place, report: Report) -> None:
    """A whole ``states``; where its time ends before, what it reached, and when. Raises StoppedError."""
    size, out = place.size, place.folder / "states"
    began = time.monotonic()
    star = particles(place, size.n_states_images)
    report("simulate_seconds", time.monotonic() - began)
    report("images", N_STATES * (size.n_states_images // N_STATES))
    run = replace(size.states, data=DataConfig(particles=str(star.absolute()), box_px=size.box_px),
                  compute=place.where)
    left = place.seconds - (time.monotonic() - began)
    alarm = threading.Timer(max(1.0, left), os.kill, (os.getpid(), signal.SIGTERM))
    began = time.monotonic()
    alarm.start()
    try:
        summary = run_states(run, out, tuning=size.tuning)
        report("minutes", (time.monotonic() - began) / 60)
        report("states", summary.states if summary.has_states else 0)
        report("verdict", summary.verdict)
        for name, value in label_scores(out, star.parent / TRUTH_CSV).items():
            report(name, value)
    except StoppedError:
        report("minutes_until_stopped", (time.monotonic() - began) / 60)
        raise
    finally:
        alarm.cancel()
        report_stages(out, report)
        report_memory(place.device, report)


def report_stages(out: Path, report: Report) -> None:
    """When each kind of line first came into the log, in seconds from the beginning."""
    lines = result_files.read_jsonl(out / result_files.LOG_JSONL)
    for stage in dict.fromkeys(line["stage"] for line in lines if "stage" in line):
        seconds = next(line["seconds"] for line in lines if line.get("stage") == stage)
        report(f"seconds_to_{stage.replace(' ', '_')}", seconds)


def report_memory(device: torch.device, report: Report) -> None:
    """The most memory of the device that was held."""
    if device.type == "cuda":
        report("peak_gpu_gb", torch.cuda.max_memory_allocated(device) / 2 ** 30)


@dataclass(frozen=True)
class Measure:
    """A measure, and the seconds that it may take on a GPU, starting and data included."""

    run: Callable[[Place, Report], None]
    seconds: float
    usual: bool = True  # part of the whole check; others are asked for by name


MEASURES = {
    "kernels": Measure(measure_kernels, 40),
    "e-step": Measure(measure_e_step, 50),
    "train-fast": Measure(measure_fast, 50),
    "train-thesis-3d": Measure(measure_thesis_3d, 50),
    "train-posed": Measure(measure_posed, 50),
    "states-64px": Measure(measure_states, 225),
}
