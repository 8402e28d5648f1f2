"""What ``train2d`` and ``train3d`` will take: their steps measured, and with poses their passes over all images."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from ...contract.records import Forecast
from ...contract.settings import TrainRun
from ...networks.vae_gan import Frame
from ...physics.fourier_band import make_band
from ...physics.map_resize import working_box_px
from ...reconstruction.posed_images import MOST_HELD, Coefficients
from ...runtime.memory import resident_gb
from ...runtime.place import place
from ...training.batch_parts import count_parts
from ...training.batches import IN_MEMORY_BYTES, Batches
from ...training.plane_frames import EM_ROUNDS, N_LOOKED_AT, NEAR_DEG, ROUNDS, in_plane
from ...training.posed_images import PosedParticles
from ...training.posed_trainer import N_HALF, N_LAST, PosedTrainer
from ...training.trainer import Trainer
from .measured import (
    GB,
    Span,
    count_images,
    divided,
    forecast_of,
    made_images,
    prepared_device,
    prepared_gb,
    seconds_of,
)


def training_forecast(run: TrainRun, n_made: int) -> Forecast:
    """Without the preparation of the images, which reads them once. Raises ConfigError or OSError.

    A training with poses is measured on ``n_made`` images.
    """
    n, device = count_images(run.data), prepared_device(run.compute)
    run = replace(run, training=replace(run.training, batch_size=max(2, min(run.training.batch_size, n))))
    stages = posed_stages(run, n, n_made, device) if run.data.posed else plain_stages(run, device)
    stages = divided(stages, ways(run, device))
    d, band = run.data.box_px, make_band(run.data.box_px, min(run.training.band_shells, run.data.box_px / 2))
    held = min(2 * n * d ** 2, IN_MEMORY_BYTES) * 2  # while it is put on the device
    if run.data.posed:
        held = 12 * min(n * len(band.index), MOST_HELD) + 8 * n * (run.model.n_basis + 1) ** 2
    return forecast_of(run.command, n, stages, resident_gb() + held / GB, prepared_gb(n, d))


def ways(run: TrainRun, device: torch.device) -> dict[str, float]:
    """Among how many processes each stage is divided: passes over images, and batches that have parts for all."""
    count = place().count
    if run.data.posed:
        return dict.fromkeys(("in-plane frame", "principal maps", "steps of the maps"), count)

    def of_batch(encoder_alone: bool) -> float:
        parts = count_parts(run.training.batch_size, device, encoder_alone)
        return count if device.type != "cpu" else parts / math.ceil(parts / count) if parts >= count else 1

    return {"networks": of_batch(False), "encoder": of_batch(True)}


def plain_stages(run: TrainRun, device: torch.device) -> dict[str, Span]:
    """Steps of the networks, and of the encoder alone."""
    size, d = run.training.batch_size, run.data.box_px
    images, _ = made_images(size, d, device)
    trainer = Trainer(run, d, images.pixel_size_ang, device)
    batch = Batches(np.asarray(images.images[np.arange(size)]), images.ctf, size, 0, device).read(0)
    stages = {"networks": steps_of(run.training.total_kimg, size, seconds_of(lambda: trainer.step(*batch), device))}
    if run.training.encoder_kimg:
        trainer.images_seen = int(1000 * run.training.total_kimg)
        stages["encoder"] = steps_of(run.training.encoder_kimg, size,
                                     seconds_of(lambda: trainer.step(*batch), device))
    return stages


def steps_of(kimg: float, batch: int, step_seconds: float) -> Span:
    """Seconds of as many steps as see so many thousand images."""
    seconds = 1000 * kimg / batch * step_seconds
    return Span(seconds, seconds)


def made_particles(run: TrainRun, d: int, n_made: int, device: torch.device) -> PosedParticles:
    """Made images of box ``d`` at their poses, in the band of a training: in 3D, or turned in the plane."""
    images, rotations = made_images(n_made, d, device)
    rows, radius = np.arange(n_made), run.training.band_shells
    if run.command == "train2d":
        rotations = in_plane(torch.arange(0, 360, 360 / n_made, device=device)[:n_made])
    return PosedParticles(
        Coefficients(images, rows, make_band(d, radius, device)), rotations, torch.zeros(n_made, 2, device=device),
        torch.zeros(n_made, device=device), make_band(working_box_px(radius, d), radius, device), rows,
        (1 + rows % 2).astype(np.uint8))


def posed_stages(run: TrainRun, n: int, n_made: int, device: torch.device) -> dict[str, Span]:
    """Principal maps to start from, steps, and steps of the maps at the end of every round."""
    training, d = run.training, run.data.box_px
    particles = made_particles(run, d, n_made, device)
    quick = replace(run, training=replace(training, start_rounds=1, batch_size=min(training.batch_size, n_made)))
    trainer = PosedTrainer(quick, Frame(d, particles.source.data.pixel_size_ang), particles, device)
    trainer.begin()
    trainer.refresh()
    moved = seconds_of(trainer._move_maps, device) / n_made  # a pass over the images, and what they say anew
    batch = torch.arange(quick.training.batch_size, device=device)
    step = seconds_of(lambda: trainer.step(batch), device)
    halves = 2 * min(N_HALF, n // 2)
    passes = training.start_rounds * (halves + halves / 3) + (N_LAST + 1) * n if training.start_rounds else n
    rounds = int(training.total_kimg // training.round_kimg) if trainer.likely else 0
    seconds = 0.5 * moved * passes, rounds * moved * n
    frame = {}
    if run.command == "train2d":  # without the few images of each class that its own turn is found with
        looked_at = min(n, N_LOOKED_AT)
        looks = sum(len(offsets) for offsets in NEAR_DEG) * ((ROUNDS - 1) * looked_at + n)
        whole = 0.5 * moved * (looks + ROUNDS * EM_ROUNDS * looked_at)
        frame = {"in-plane frame": Span(whole, whole)}
    return {**frame, "principal maps": Span(seconds[0], seconds[0]),
            "networks": steps_of(training.total_kimg, quick.training.batch_size, step),
            "steps of the maps": Span(seconds[1], seconds[1])}
