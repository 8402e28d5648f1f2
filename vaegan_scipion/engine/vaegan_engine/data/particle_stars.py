"""Star files of particles with an alignment: every column as it was, new poses and classes, rows joined by id."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..contract import result_files
from ..contract.settings import DataConfig
from .particle_tables import rows_of
from .particles import PARTICLE_ID, RANDOM_SUBSET, particle_ids
from .prepared_images import ParticleCache
from .run_images import changed_star
from .star_files import RelionTable, read_star
from .star_subset import decimals, whole_numbers, write_rows

Columns = Callable[[RelionTable, np.ndarray], dict[str, np.ndarray]]


def write_stars(data: DataConfig, cache: ParticleCache, aside: np.ndarray, columns: Columns, out_dir: Path) -> None:
    """``particles.star``: the particles that are not ``aside`` (n,); ``junk.star``: the others, where there are any.

    ``columns``: what some particles (mask) get. Raises DataError where the star file is no longer the one that the
    images were prepared from.
    """
    source = read_star(Path(data.particles))
    if cache.ids_are_rows_of != ("" if source.has(PARTICLE_ID) else source.sha256):
        raise changed_star(data.particles, "the prepared images")
    (out_dir / result_files.JUNK_STAR).unlink(missing_ok=True)
    for chosen, name in ((~aside, result_files.PARTICLES_STAR), (aside, result_files.JUNK_STAR)):
        if chosen.any() or name == result_files.PARTICLES_STAR:
            rows = rows_of(particle_ids(source), cache.particle_id[chosen], data.particles)
            write_rows(source, rows, columns(source, chosen), out_dir / name, data.stack)


def aligned_columns(source: RelionTable, cache: ParticleCache, chosen: np.ndarray, angles_deg: np.ndarray,
                    shifts_ang: np.ndarray) -> dict[str, np.ndarray]:
    """Alignment of some particles (mask), their ids and half sets: RELION moves an image by ``rlnOrigin`` to centre it.

    ``angles_deg`` (n, 3) rot, tilt, psi; ``shifts_ang`` (n, 2) of all particles. A 3.0 file (no optics block) gets its
    origins in pixels of the original images, as that format has it.
    """
    unit, suffix = (1.0, "Angst") if source.optics is not None else (cache.original_pixel_size_ang, "")
    names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", f"rlnOriginX{suffix}", f"rlnOriginY{suffix}")
    values = np.concatenate((angles_deg[chosen], -shifts_ang[chosen] / unit), axis=1)
    return {PARTICLE_ID: whole_numbers(cache.particle_id[chosen]),
            **{name: decimals(column) for name, column in zip(names, values.T, strict=True)},
            RANDOM_SUBSET: whole_numbers(cache.half_set[chosen])}
