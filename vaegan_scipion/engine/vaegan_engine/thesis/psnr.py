"""``psnr``: reconstructions of particles against their clean images (simulated data).

The reconstruction is what the generator makes at the particle's z; in 3D the projection that resembles the noisy
particle most. Pose and scale of both are free, so it is first moved onto the clean projection (in-plane rotation,
shift, mirror image) and scaled by least squares, ``x -> a x + b``; the CTF is in neither. Then
``PSNR = 10 log10(range^2 / MSE)`` with the clean image's range.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract import result_files, run_json
from ..contract.errors import DataError
from ..contract.record import write_record
from ..contract.setting import check_settings, section, setting
from ..contract.settings import ComputeConfig, EmbedRun
from ..data.particle_tables import read_latents, rows_of
from ..data.run_images import check_row_ids
from ..evaluation.truth.reference_maps import read_references, references_of_states
from ..latent.counterpart import best_match, projections
from ..latent.embed import particles_of
from ..physics.image_alignment import align_image, correlation
from ..physics.projection import project
from ..physics.rotations import euler_to_matrix
from ..runtime.progress import progress_bar
from ..training.decoded import check_latents, load_trained

PSNR_CSV, PSNR_JSON = "psnr.csv", "psnr.json"


@dataclass(frozen=True)
class PsnrOptions:
    """Which training and embedding, the truth, how many particles."""

    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    embedding_dir: str = setting("", "Results folder of embed", path=True, required=True)
    truth_csv: str = setting("", "truth.csv of simulate", path=True, required=True)
    maps: tuple[str, ...] = setting((), "The simulated maps; a phantom needs none", path=True, metavar="MRC")
    n_images: int = setting(100, "Particles drawn at random", low=1)
    n_orientations: int = setting(2000, "3D: orientations tried per particle", low=1, high=10**5)
    compute: ComputeConfig = section(ComputeConfig)


def psnr_db(image: np.ndarray, clean: np.ndarray) -> float:
    """``10 log10(range^2 / MSE)`` after the least-squares fit ``a image + b`` of ``clean``; in dB.

    With r their correlation: ``MSE = var(clean) (1 - r^2)``.
    """
    mse = float(np.var(np.asarray(clean, np.float64))) * (1 - correlation(image, clean) ** 2)
    return float(10 * np.log10(float(np.ptp(clean)) ** 2 / max(mse, 1e-12 * float(np.ptp(clean)) ** 2)))


def clean_projections(options: PsnrOptions, ids: np.ndarray, box_px: int, pixel_size_ang: float) -> np.ndarray:
    """Clean, centred projections ``(n, d, d)`` of particles at their true poses, without CTF. Raises DataError."""
    rows = result_files.read_csv(options.truth_csv)
    references = read_references(list(options.maps), options.truth_csv, box_px, pixel_size_ang)
    if not references:
        raise DataError(f"{options.truth_csv}: it names maps, and none are given.",
                        "Give the simulated maps with --maps.")
    chosen = [rows[i] for i in rows_of(np.array([int(row["id"]) for row in rows]), ids, options.truth_csv)]
    state_names = {int(row["map"]): row["map_file"] for row in rows}
    states = sorted(state_names)
    at = references_of_states([state_names[state] for state in states], references)
    true_maps = [at[states.index(int(row["map"]))] for row in chosen]
    if None in true_maps:
        raise DataError(f"{options.truth_csv}: map {chosen[true_maps.index(None)]['map_file']} is not among --maps.",
                        "Give all the simulated maps.")
    angles = torch.tensor([[float(row[name]) for name in ("rot_deg", "tilt_deg", "psi_deg")] for row in chosen])
    maps = torch.from_numpy(np.stack([reference.map for reference in references]))
    return project(maps, torch.tensor(true_maps), euler_to_matrix(*angles.unbind(1))).numpy()


@dataclass(frozen=True)
class PsnrFigures:
    """``psnr.json``: means over the particles."""

    psnr_db: float
    psnr_db_std: float
    correlation: float
    n_images: int
    seed: int


def run_psnr(options: PsnrOptions, out_dir: Path) -> PsnrFigures:
    """Write ``psnr.csv`` and ``psnr.json``; returns what the JSON file holds. Raises ConfigError or DataError."""
    check_settings(options)
    out_dir = Path(out_dir)
    trained: Any = load_trained(options.run_dir, options.compute)
    latents = read_latents(options.embedding_dir)
    check_latents(trained, latents.z, options.embedding_dir, options.run_dir)
    embedded = run_json.read_run(Path(options.embedding_dir) / result_files.RUN_JSON)
    if not isinstance(embedded, EmbedRun):
        raise DataError(f"{options.embedding_dir}: its run.json is a '{embedded.command}', not an embedding.",
                        "Give the --out folder of embed.")
    cache = particles_of(embedded, trained, Path(options.embedding_dir))
    check_row_ids(options.embedding_dir, embedded.particles or trained.run.data.particles)
    rows = np.sort(np.random.default_rng(options.compute.seed).permutation(len(latents.z))[:options.n_images])
    ids = latents.particle_id[rows]
    clean = clean_projections(options, ids, trained.box_px, trained.pixel_size_ang)
    place = rows_of(cache.particle_id, ids, options.embedding_dir)
    made = []
    with progress_bar(len(ids), "PSNR", "particles") as bar:
        for index, row in enumerate(rows.tolist()):
            image = reconstruction(options, trained, latents.z[row], np.asarray(cache.images[place[index]], np.float32),
                                   np.array(cache.ctf[place[index]], np.float32))
            aligned = align_image(image, clean[index])
            made.append((psnr_db(aligned.image, clean[index]), aligned.correlation))
            bar.update(1)
    values = np.array(made)
    result_files.write_csv(out_dir / PSNR_CSV, ["particle_id", "psnr_db", "correlation"], (
        [int(i), f"{p:.4f}", f"{c:.4f}"] for i, (p, c) in zip(ids, values, strict=True)))
    figures = PsnrFigures(float(values[:, 0].mean()), float(values[:, 0].std()), float(values[:, 1].mean()), len(ids),
                          options.compute.seed)
    write_record(out_dir / PSNR_JSON, figures)
    print(f"PSNR {figures.psnr_db:.2f} dB (standard deviation {figures.psnr_db_std:.2f}), correlation "
          f"{figures.correlation:.3f}, {len(ids)} particles", flush=True)
    return figures


def reconstruction(options: PsnrOptions, trained: Any, z: np.ndarray, image: np.ndarray, ctf: np.ndarray) -> np.ndarray:
    """Image ``(d, d)`` without CTF that the generator makes of one particle."""
    from ..physics.ctf import ctf_2d

    made = torch.as_tensor(trained.decode(z[None]), dtype=torch.float32)[0]
    if made.ndim == 2:
        return made.numpy()
    half_plane = ctf_2d(torch.from_numpy(ctf)[None], trained.box_px, trained.pixel_size_ang)[0]
    candidates: Iterator[tuple[Tensor | None, Tensor]] = projections(made, options.n_orientations)
    max_shift_px = max(1.0, trained.run.model.max_shift_frac * trained.box_px)
    return best_match(torch.from_numpy(image), candidates, half_plane, max_shift_px).clean.numpy()
