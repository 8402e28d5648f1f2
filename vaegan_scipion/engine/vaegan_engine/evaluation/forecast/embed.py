"""What ``embed`` will take: a pass of the trained encoder over the particles."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...contract.records import Forecast
from ...contract.run_json import read_training
from ...contract.settings import EmbedRun
from ...runtime import compute
from ...runtime.memory import resident_gb
from ...training.decoded import load_trained
from ...training.trained_run import no_encoder
from .measured import GB, count_images, equal, forecast_of, made_images, prepared_gb, seconds_of
from .train import made_particles


def count_embedded(run: EmbedRun) -> int:
    """Particles that are encoded: all of another star file, else those of the training. Raises DataError or OSError."""
    data = read_training(run.run_dir).data
    if run.particles:
        data = replace(data, particles=run.particles, max_images=0, half_set=0)
    return count_images(data)


def embed_forecast(run: EmbedRun, n_made: int) -> Forecast:
    """Without the preparation of other particles, which reads them once; measured on ``n_made`` images.

    Raises ConfigError, DataError or OSError.
    """
    trained, n = load_trained(run.run_dir, run.compute), count_embedded(run)
    if trained.run.model.homogeneous:
        raise no_encoder(run.run_dir)
    device, n_made = compute.prepare_device(run.compute), min(n_made, run.batch_size)
    seconds = seconds_of(encoding(trained, n_made, device), device) * n / n_made
    posed = trained.run.data.posed
    of_particle = 4 * trained.z_dim * (1 + posed * trained.z_dim)
    return forecast_of("embed", n, {"encoder": equal(seconds)}, resident_gb() + 2 * n * of_particle / GB,
                       (prepared_gb(n, trained.box_px) if run.particles else 0.0) + n * of_particle / GB)


def encoding(trained: Any, n_made: int, device: torch.device) -> Callable[[], object]:
    """The work of encoding ``n_made`` made images of the training's box, with poses or without."""
    if trained.run.data.posed:
        particles = made_particles(trained.run, trained.box_px, n_made, device)
        return lambda: trained.posteriors(particles)
    made, _ = made_images(n_made, trained.box_px, device)
    images = torch.from_numpy(np.asarray(made.images[np.arange(n_made)], np.float32))
    ctf = torch.from_numpy(made.ctf)
    return lambda: trained.encode(images, ctf)
