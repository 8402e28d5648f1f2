"""``train2d`` and ``train3d``: the loop, from star file to checkpoints, read top to bottom."""
from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..contract import presets, result_files, run_json
from ..contract.errors import DataError, DivergedError, EngineError, OutOfMemoryError, StoppedError
from ..contract.prepared import file_sha256
from ..contract.settings import TrainRun
from ..contract.status import read_status, record_failure, update_status
from ..contract.wording import pose_free_note
from ..data.prepared_images import ParticleCache, open_cache
from ..networks.generators import match_amplitude
from ..networks.vae_gan import Frame
from ..physics.map_constraint import within
from ..physics.map_resize import working_box_px
from ..physics.shards import n_processes
from ..physics.space import PLANES
from ..runtime import compute, processes
from ..runtime.place import is_first
from ..runtime.progress import progress_bar
from ..runtime.stop_signals import stop_requests
from . import checkpoints
from .batch_parts import count_parts
from .batches import Batches, RowBatches
from .decoded import write_components
from .plane_images import with_frame
from .pose_watch import collapse_warning
from .posed_images import posed_particles
from .posed_trainer import PosedTrainer, circle_or_sphere
from .preview import PosedPreview, Preview
from .resume import check_resumed, check_same_particles, check_same_poses, forget_later, newest_for_all
from .signal_power import estimated_snr, signal_variance
from .trainer import Trainer

N_PREVIEW = 8


class Averages:
    """Sums of a tick's statistics on the device; read once per tick (a synchronisation)."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, stats: dict[str, Tensor]) -> None:
        for name, value in stats.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def run_train(run: TrainRun, out_dir: Path, resume: bool = False) -> None:
    """Train a run into ``out_dir``.

    Raises DataError, ConfigError, DivergedError, OutOfMemoryError or StoppedError; each leaves
    ``status.json`` with the reason, and the last good checkpoint.
    """
    presets.check(run)
    compute.work_in_parts(run.compute)
    device = compute.prepare_device(run.compute)
    with processes.joined(device):
        train(run, Path(out_dir), device, resume)


def train(run: TrainRun, out_dir: Path, device: torch.device, resume: bool) -> None:
    """The training, as one of the processes that share it: each holds all networks, the first writes."""
    if resume and is_first():
        check_resumed(run, out_dir)
    cache = processes.in_turn(partial(open_cache, run.data, out_dir / result_files.CACHE))
    if len(cache.images) < run.training.batch_size:
        run = replace(run, training=replace(run.training, batch_size=max(2, len(cache.images))))
    check_cache(run, cache)
    if resume and is_first():
        check_same_particles(cache, out_dir)
    source = run.training.continue_from
    begins = not resume and not (source and os.path.realpath(source) == os.path.realpath(out_dir))
    with (frame_put_back(out_dir / result_files.PLANE_POSES_CSV) if begins and is_first()
          else contextlib.nullcontext()):
        trainer, batches = made_for(run, cache, device, out_dir)
    if is_first() and resume and isinstance(trainer, PosedTrainer):
        check_same_poses(trainer.images.poses, out_dir)
    start(trainer, batches, cache, out_dir, resume)
    note_idle(trainer)
    print(f"{run.command}: {len(cache.images)} particles, {cache.box_px} px, "
          f"{cache.pixel_size_ang:.3f} A/px, on {compute.describe(device)}", flush=True)
    try:
        with stop_requests() as stops:
            loop(trainer, batches, out_dir, stops)
        if is_first():
            write_components(trainer.vae_gan, out_dir)
        processes.wait()
    except torch.cuda.OutOfMemoryError as error:
        problem = OutOfMemoryError(f"The GPU ran out of memory ({error}).",
                                   "Continue with --resume and a smaller batch_size, or train with a smaller "
                                   "box_px into a new folder.")
        fail(out_dir, problem)
        raise problem from error
    except EngineError as error:
        fail(out_dir, error)
        raise
    except OSError as error:
        unwritten = DataError(f"{error.filename or out_dir}: cannot be written ({error.strerror or error}).",
                              "Free disk space or choose another folder, then continue with --resume.")
        fail(out_dir, unwritten)
        raise unwritten from error
    if is_first():
        update_status(out_dir, state="finished", stage_seconds_left=0.0)


@contextlib.contextmanager
def frame_put_back(path: Path) -> Iterator[None]:
    """Without the in-plane frame of a training before, for one that begins; it comes back where that one cannot."""
    old = path.with_name(path.name + ".old")
    if path.exists():
        os.replace(path, old)
    try:
        yield
    except BaseException:
        if old.exists():
            os.replace(old, path)
        raise
    old.unlink(missing_ok=True)


def note_idle(trainer: Trainer | PosedTrainer) -> None:
    """Say so where there are more processes than parts of a batch: then every one of them makes all."""
    n, count = trainer.run.training.batch_size, n_processes()
    if isinstance(trainer, Trainer) and count_parts(n, trainer.device) < count:
        print(f"a batch of {n} images has {count_parts(n, trainer.device)} parts: {count} processes are not faster "
              "than one", flush=True)


def made_for(run: TrainRun, cache: ParticleCache, device: torch.device, out_dir: Path
             ) -> tuple[Trainer, Batches] | tuple[PosedTrainer, RowBatches]:
    """What trains on the particles of a cache, and the batches that its steps take.

    The results folder ``out_dir`` holds the in-plane frame of a 2D training with poses.
    """
    size, seed = run.training.batch_size, run.compute.seed
    if not run.data.posed:
        return (Trainer(run, cache.box_px, cache.pixel_size_ang, device),
                Batches(cache.images, cache.ctf, size, seed, device))
    if run.command == "train3d":
        images = posed_particles(run, cache, device)
    else:
        mask = circle_or_sphere(PLANES, working_box_px(run.training.band_shells, cache.box_px),
                                run.data.particle_radius_frac).to(device)
        images = with_frame(run, cache, within(mask), out_dir)
    return (PosedTrainer(run, Frame(cache.box_px, cache.pixel_size_ang), images, device),
            RowBatches(len(images), size, seed, device))


def check_cache(run: TrainRun, cache: ParticleCache) -> None:
    """Refuse particles that cannot be trained on."""
    if len(cache.images) < 2:
        raise DataError(f"{run.data.particles}: {len(cache.images)} particles are left to train on.",
                        "Give at least 2 particles.")


def start(trainer: Trainer | PosedTrainer, batches: Batches | RowBatches, cache: ParticleCache, out_dir: Path,
          resume: bool) -> None:
    """Continue from the newest checkpoint, or begin anew.

    What a training before has left goes before this one's settings are written and its first maps are made: stopped in
    the middle of that, nobody takes that one's networks for its own.
    """
    run = trainer.run
    stored = newest_for_all(out_dir) if resume else None
    if stored is not None:
        state = checkpoints.read(stored)  # on the CPU: there Adam's step counts can be read without waiting
        try:
            checkpoints.restore(trainer, state)
        except (RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{stored}: the checkpoint belongs to other settings ({error}).",
                            "Continue with the settings it was made with, or train into a new folder.") from error
        print(f"continuing from {stored.name}", flush=True)
        if is_first():
            forget_later(out_dir, trainer.images_seen)
    else:
        if run.training.continue_from:  # it may be this very folder
            taken = checkpoints.take_networks(trainer, Path(run.training.continue_from))
            print(f"starting with the networks of {taken}", flush=True)
        processes.wait()
        if is_first():
            forget_before(out_dir)
    if is_first():
        run_json.write_run(run, out_dir / result_files.RUN_JSON)
        update_status(out_dir, state="running", command=run.command, error=None)
    if stored is None and not run.training.continue_from:
        if isinstance(trainer, PosedTrainer):
            trainer.begin()
        else:
            assert isinstance(batches, Batches)
            start_from_scratch(trainer, batches, cache)
    if isinstance(trainer, PosedTrainer):
        trainer.refresh()
    if not is_first():
        return
    snr = None if run.data.posed or run.model.homogeneous else estimated_snr(cache.images, run.data)
    if snr is not None:
        print(pose_free_note(snr), flush=True)
    update_status(
        out_dir, state="running", command=run.command, device=compute.describe(trainer.device),
        seed=run.compute.seed, n_particles=len(cache.images), particles=cache.digest(),
        poses=trainer.images.poses if isinstance(trainer, PosedTrainer) else None, snr=snr,
        pixel_size_ang=cache.pixel_size_ang, box_px=cache.box_px,
        versions=compute.versions(),
        images_seen=trainer.images_seen, total_images=total_images(run), error=None)


def forget_before(out_dir: Path) -> None:
    """Take away the checkpoints and results of a training before, its status first: that names the newest one."""
    result_files.forget(out_dir, result_files.STATUS_JSON, result_files.LOG_JSONL, result_files.COMPONENTS_JSON,
                        f"{result_files.PREVIEWS}/tick_*.png", f"{result_files.MAPS}/component_[0-9]*.mrc")
    checkpoints.clear(out_dir)


def start_from_scratch(trainer: Trainer, batches: Batches, cache: ParticleCache) -> None:
    """Give the new generator the signal power of the particles."""
    real, table = batches.read(0)
    vae_gan = trainer.vae_gan
    z = vae_gan.sample_prior(len(real))
    rotations, _ = vae_gan.sample_poses(len(real))
    variance = signal_variance(cache.images, trainer.run.data)
    match_amplitude(vae_gan.generator, z, rotations, vae_gan.ctf(table), variance)
    vae_gan.generator_ema.load_state_dict(vae_gan.generator.state_dict())


def stages(run: TrainRun) -> list[tuple[str, int]]:
    """Name and last image of each stage (the encoder alone comes second); batches are whole."""
    config, batch = run.training, run.training.batch_size

    def whole(kimg: float) -> int:
        return math.ceil(kimg * 1000 / batch) * batch

    first = whole(config.total_kimg)
    ends: list[tuple[str, int]] = [(run.command, first)]
    if config.encoder_kimg > 0:
        ends.append((f"{run.command}, encoder", max(first, whole(config.total_kimg + config.encoder_kimg))))
    return ends


def total_images(run: TrainRun) -> int:
    """Images a whole training sees."""
    return stages(run)[-1][1]


@dataclass(frozen=True)
class UnderWay:
    """A training that runs: what trains on what, where it writes, and the signals that ask it to stop."""

    trainer: Trainer | PosedTrainer
    batches: Batches | RowBatches
    out_dir: Path
    stops: list[int]
    preview: Preview | PosedPreview


def loop(trainer: Trainer | PosedTrainer, batches: Batches | RowBatches, out_dir: Path, stops: list[int]) -> None:
    """Train to the end, stage by stage."""
    preview = trainer.preview(*(x[:N_PREVIEW] for x in batches.read(0)))
    start_image, this = 0, UnderWay(trainer, batches, out_dir, stops, preview)
    for name, end in stages(trainer.run):
        if trainer.images_seen < end:
            run_stage(this, name, start_image, end)
        start_image = end


def run_stage(this: UnderWay, name: str, start_image: int, end: int) -> None:
    """Train until ``end`` images were seen, with ticks, checkpoints and stops."""
    trainer, batches, out_dir, stops = this.trainer, this.batches, this.out_dir, this.stops
    config, seen = trainer.run.training, trainer.images_seen
    next_tick = seen + config.tick_kimg * 1000
    next_checkpoint = seen + config.checkpoint_kimg * 1000
    averages, tick_start, tick_seen = Averages(), time.monotonic(), seen
    with progress_bar(end - start_image, name, "img", initial=seen - start_image) as bar:
        while trainer.images_seen < end:
            batch = batches.read(trainer.images_seen)
            averages.add(trainer.step(*batch))
            bar.update(len(batch[0]))
            seen, stopped_by = trainer.images_seen, processes.largest(stops[0] if stops else 0)
            done = seen >= end or bool(stopped_by)
            if seen < next_tick and not done:
                continue
            means = averages.read()  # waits for the device
            rate = (seen - tick_seen) / max(time.monotonic() - tick_start, 1e-9)
            check_finite(means, trainer, out_dir)
            if is_first():
                tell(this, means, rate)
                update_status(out_dir, stage=name, images_seen=seen, images_per_second=round(rate, 1),
                              stage_seconds_left=round((end - seen) / max(rate, 1e-9), 1))
            if seen >= next_checkpoint or done:
                if is_first():
                    stored = checkpoints.save(trainer, out_dir)
                    update_status(out_dir, checkpoint=stored.name, networks=file_sha256(stored))
                next_checkpoint = seen + config.checkpoint_kimg * 1000
            next_tick = seen + config.tick_kimg * 1000
            tick_start, tick_seen = time.monotonic(), seen
            if stopped_by:
                signal_name = signal.Signals(stopped_by).name
                raise StoppedError(f"Stopped by {signal_name} after {seen} of {total_images(trainer.run)} images; "
                                   f"the checkpoint is kept.", "Continue with --resume.", stopped_by)


def tell(this: UnderWay, means: dict[str, float], rate: float) -> None:
    """Log and pictures of a tick."""
    row = log_row(this.trainer, means, rate)
    result_files.append_jsonl(this.out_dir / result_files.LOG_JSONL, row)
    watch_poses(row, this.out_dir)
    this.preview.write(this.out_dir / result_files.PREVIEWS / f"tick_{this.trainer.images_seen:010d}.png")


def log_row(trainer: Trainer | PosedTrainer, means: dict[str, float], rate: float) -> dict[str, float]:
    """One line of ``log.jsonl``."""
    row: dict[str, float] = {"kimg": trainer.images_seen / 1000, "images_per_second": round(rate, 1),
                           "lr_factor": round(trainer.lr_factor(trainer.images_seen), 6)}
    row.update({name: round(value, 6) for name, value in means.items()})
    if trainer.device.type == "cuda":
        row["peak_gb"] = round(torch.cuda.max_memory_allocated(trainer.device) / 2**30, 3)
    row.update(trainer.watched())
    return row


def watch_poses(row: dict[str, float], out_dir: Path) -> None:
    """Say once that the camera has collapsed, and keep it in ``status.json`` (``warning``; None when it recovers)."""
    if "scf" not in row:
        return
    warning = collapse_warning(row["scf"])
    if warning and not read_status(out_dir).warning:
        print(warning, file=sys.stderr, flush=True)
    update_status(out_dir, scf=row["scf"], warning=warning)


def check_finite(means: dict[str, float], trainer: Trainer | PosedTrainer, out_dir: Path) -> None:
    """Stop at a loss or a weight that is not a number; the checkpoint before it stays."""
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if not bad and not all(bool(torch.isfinite(p).all()) for p in trainer.vae_gan.generator.parameters()):
        bad = ["generator weights"]
    if bad:
        kept = checkpoints.newest(out_dir)
        raise DivergedError(
            f"{bad[0]} is not finite after {trainer.images_seen} images; "
            + (f"the last good checkpoint is {kept.name}." if kept else "no checkpoint was made yet."),
            "Continue from it with smaller learning rates, or raise gradient_penalty.")


def fail(out_dir: Path, error: EngineError) -> None:
    """Record why a run ended; of several processes the first does."""
    if is_first():
        print(str(error), file=sys.stderr, flush=True)
        record_failure(out_dir, error)
