"""``decode``: maps (2D: images) at any points of the landscape of a trained model, as a series for ChimeraX."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..contract import chimerax, result_files
from ..contract.errors import ConfigError, DataError
from ..contract.setting import check_settings, section, setting
from ..contract.settings import ComputeConfig
from ..data.particle_tables import Latents, read_latents, rows_of
from ..training.decoded import Decoded, check_latents, check_z, load_trained, write_decoded
from .density_paths import density_path
from .traverse import to_simplex

DECODED_CSV, SERIES_CXC = "decoded.csv", "series.cxc"
_WHERE = "points"


@dataclass(frozen=True)
class DecodeOptions:
    """Which model, and where."""

    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    z_csv: str = setting("", "Text file, a latent a line, its numbers apart by commas or blanks", path=True,
                         metavar="FILE", option="z", required=True, group=_WHERE)
    particles: str = setting("", "Particle ids, apart by commas: at the latent of each", metavar="IDS", required=True,
                             group=_WHERE)
    path: str = setting("", "Two particle ids: along a way between them that keeps to where particles are",
                        metavar="A,B", required=True, group=_WHERE)
    n_points: int = setting(10, "Along the path", low=2, high=1000)
    embedding_dir: str = setting("", "Results folder of embed, where the particles' latents are", path=True)
    compute: ComputeConfig = section(ComputeConfig)


class Support(NamedTuple):
    """The particle next to a point, and how far it is: a map far from every particle is made up."""

    particle_id: int
    distance_z: float


def run_decode(options: DecodeOptions, out_dir: Path) -> None:
    """Write maps, ``decoded.csv`` and, of maps, ``series.cxc`` into ``out_dir``. Raises ConfigError or DataError."""
    out_dir = Path(out_dir)
    check(options)
    latents = read_latents(options.embedding_dir) if options.embedding_dir else None
    decoder = load_trained(options.run_dir, options.compute)
    if latents is not None:
        check_latents(decoder, latents.z, options.embedding_dir, options.run_dir)
    z = points_of(options, latents, decoder.run.model.n_categories)
    check_z(decoder, z, options.z_csv or options.embedding_dir)
    names = [f"decoded_{number:03d}" for number in range(1, len(z) + 1)]
    result_files.forget(out_dir, DECODED_CSV, SERIES_CXC, f"{result_files.MAPS}/decoded_*.mrc")
    made = write_decoded(decoder, z.astype(np.float32), names, out_dir)
    support = [None] * len(z) if latents is None else support_of(z, latents)
    write_table(z, made, support, out_dir)
    if decoder.is_3d:
        series = chimerax.series_commands([str(out_dir / one.file) for one in made])
        (out_dir / SERIES_CXC).write_bytes(os.fsencode(series))
        print(f"open {out_dir / SERIES_CXC} in ChimeraX", flush=True)


def check(options: DecodeOptions) -> None:
    """Refuse what cannot be run. Raises ConfigError."""
    check_settings(options)
    given = [name for name in ("z_csv", "particles", "path") if getattr(options, name)]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'Neither z, particles nor path'} is given.",
                          "Give one of z, particles and path.")
    if not options.z_csv and not options.embedding_dir:
        raise ConfigError(f"{given[0]} is {getattr(options, given[0])}, but no embedding_dir is given.",
                          "Give the --out folder of embed, which has the latents of the particles.")


def points_of(options: DecodeOptions, latents: Latents | None, n_categories: int) -> np.ndarray:
    """The latents ``(n, k)`` that are asked for. Raises ConfigError or DataError."""
    if options.z_csv:
        return read_points(Path(options.z_csv))
    assert latents is not None
    ids = ids_of(options.particles or options.path)
    rows = rows_of(latents.particle_id, ids, f"{options.embedding_dir}/{result_files.LATENTS_NPZ}")
    if options.particles:
        return latents.z[rows]
    if len(ids) != 2 or ids[0] == ids[1]:
        raise ConfigError(f"path is {options.path}.", "Name two different particles, as 12,345.")
    return to_simplex(density_path(latents.z, (int(rows[0]), int(rows[1])), options.n_points, options.compute.seed),
                      n_categories)


def ids_of(text: str) -> np.ndarray:
    """Particle ids of a text such as "3,17". Raises ConfigError."""
    try:
        return np.array([int(part) for part in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise ConfigError(f"{text!r} are no particle ids.", "Write whole numbers, apart by commas, as 3,17.") from None


def read_points(path: Path) -> np.ndarray:
    """Latents ``(n, k)`` of a text file; lines that begin with # do not count. Raises DataError."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
        z = np.array([[float(number) for number in re.split(r"[\s,;]+", line.strip(" \t,;"))] for line in lines])
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the latents cannot be read ({error}).",
                        "Write a latent a line, all of as many numbers, apart by commas or blanks.") from error
    if z.ndim != 2 or not np.isfinite(z).all():
        raise DataError(f"{path}: there is no latent, or one that is not finite.", "Write finite numbers.")
    return z


def support_of(z: np.ndarray, latents: Latents) -> list[Support]:
    """The nearest particle of every point."""
    from scipy.spatial import cKDTree

    distance, row = cKDTree(latents.z).query(z)
    return [Support(int(latents.particle_id[i]), float(far)) for i, far in zip(row, distance, strict=True)]


def write_table(z: np.ndarray, made: list[Decoded], support: list[Support] | list[None], out_dir: Path) -> None:
    """``decoded.csv``: a row per point, and the same in words."""
    head = ["point", "file", "index", "nearest_particle_id", "distance_z", *(f"z_{i + 1}" for i in range(z.shape[1]))]
    rows = []
    for number, (point, one, near) in enumerate(zip(z, made, support, strict=True), start=1):
        told = ["", ""] if near is None else [near.particle_id, f"{near.distance_z:.7g}"]
        rows.append([number, one.file, one.index, *told, *(f"{x:.7g}" for x in point)])
        beside = "" if near is None else f", particle {near.particle_id} at {near.distance_z:.3f} in z is next to it"
        print(f"point {number}: {one.file}{beside}", flush=True)
    result_files.write_csv(out_dir / DECODED_CSV, head, rows)
