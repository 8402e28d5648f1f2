"""``embed``: the encoder's mean z of every particle of a trained model."""
from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contract import result_files, run_json
from ..contract.errors import DataError
from ..contract.setting import check_settings
from ..contract.settings import EmbedRun
from ..contract.status import read_status, update_status
from ..contract.wording import pose_free_note
from ..data.prepared_images import ParticleCache, open_cache
from ..data.run_images import open_run_cache
from ..runtime.progress import progress_bar
from ..training.decoded import load_trained
from ..training.resume import check_same_poses
from ..training.trained_run import no_encoder


def run_embed(run: EmbedRun, out_dir: Path) -> None:
    """Encode particles and write ``latents.npz`` into ``out_dir``.

    Raises ConfigError or DataError.
    """
    out_dir = Path(out_dir)
    check_settings(run)
    training = read_status(run.run_dir)
    trained = load_trained(run.run_dir, run.compute)
    if trained.run.model.homogeneous:
        raise no_encoder(run.run_dir)
    cache = particles_of(run, trained, out_dir)
    if training.snr is not None:
        print(pose_free_note(training.snr), flush=True)
    result_files.forget(out_dir, result_files.LATENTS_NPZ)
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    update_status(out_dir, state="running", command=run.command, error=None)
    latents = latents_of(run, trained, cache)
    z = latents["z"]
    result_files.write_npz(out_dir / result_files.LATENTS_NPZ, **latents)
    print(f"embedded {len(z)} particles, z of {z.shape[1]} numbers", flush=True)
    update_status(out_dir, state="finished", command=run.command, error=None, n_particles=len(z), z_dim=z.shape[1],
                  ids_are_rows_of=cache.ids_are_rows_of, networks=training.networks)


def latents_of(run: EmbedRun, trained: Any, cache: ParticleCache) -> dict[str, np.ndarray]:
    """What ``latents.npz`` holds. With poses: of the particles that have one, and the inverse covariance of each z.

    Other particles than the run's own are taken at the poses in the run's folder, or at their own alignment. The run's
    own must have the poses that it was trained at: states that were run again lie in another frame, of which the
    networks know nothing. Raises ConfigError where they have others.
    """
    if not trained.run.data.posed:
        return {"particle_id": cache.particle_id.astype(np.int64), "z": encode_all(trained, cache, run.batch_size),
                "half_set": cache.half_set.astype(np.uint8)}
    data = trained.run.data
    if run.particles:
        data = replace(data, particles=run.particles)
    particles = trained.at_poses(replace(trained.run, data=data), cache)
    if is_own(run, trained):
        check_same_poses(particles.poses, Path(run.run_dir))
    posteriors = trained.posteriors(particles)
    check_finite(posteriors.z, posteriors.particle_id)
    return {"particle_id": posteriors.particle_id, "z": posteriors.z, "half_set": posteriors.half_set,
            "precision": posteriors.precision}


def particles_of(run: EmbedRun, trained: Any, out_dir: Path) -> ParticleCache:
    """Images of the run's own particles (its cache), or of others, prepared in the same way."""
    data = trained.run.data
    if is_own(run, trained):
        return open_run_cache(data, run.run_dir)
    data = replace(data, particles=run.particles, stack="", max_images=0, half_set=0, prepared_dir="")
    cache = open_cache(data, out_dir / result_files.CACHE)
    ratio = cache.pixel_size_ang / trained.pixel_size_ang
    if abs(ratio - 1) > 0.01:
        raise DataError(f"{run.particles}: the prepared images have {cache.pixel_size_ang:.3f} A/px, the model "
                        f"{trained.pixel_size_ang:.3f}; they may differ by 1 %.",
                        "Give particles of the same pixel size and box, or train on these.")
    return cache


def is_own(run: EmbedRun, trained: Any) -> bool:
    """Whether the particles to embed are those that the run was trained on."""
    return not run.particles or same_file(run.particles, trained.run.data.particles)


def same_file(a: str, b: str) -> bool:
    """Whether two paths name one file."""
    return os.path.realpath(a) == os.path.realpath(b)


def encode_all(trained: Any, cache: ParticleCache, batch_size: int) -> np.ndarray:
    """Mean z ``(n, k)`` float32 of all images of a cache, in its order. Raises DataError."""
    parts = []
    with progress_bar(len(cache.images), "embed", "images") as bar:
        for start in range(0, len(cache.images), batch_size):
            rows = slice(start, start + batch_size)
            images = torch.from_numpy(np.asarray(cache.images[rows], np.float32))
            ctf = torch.from_numpy(np.array(cache.ctf[rows], np.float32))
            parts.append(trained.encode(images, ctf).float().cpu().numpy())
            bar.update(len(parts[-1]))
    z = np.concatenate(parts)
    check_finite(z, cache.particle_id)
    return z


def check_finite(z: np.ndarray, particle_id: np.ndarray) -> None:
    """Refuse latents ``(n, k)`` that are not numbers. Raises DataError."""
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if len(bad):
        raise DataError(f"z of particle {particle_id[bad[0]]} is not finite ({len(bad)} such particles).",
                        "The model has diverged: train again with smaller learning rates.")
