"""Tables and star files with one row per particle."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import result_files
from ..contract.labels import UNASSIGNED
from ..contract.settings import DataConfig
from ..data.particle_tables import rows_of
from ..data.particles import PARTICLE_ID, RANDOM_SUBSET, particle_ids
from ..data.prepared_images import ParticleCache
from ..data.run_images import changed_star
from ..data.star_files import RelionTable, read_star
from ..data.star_subset import decimals, whole_numbers, write_rows
from ..physics.rotations import matrix_to_euler
from .states import Assignment

POSE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang")


def pose_table(assignment: Assignment, pixel_size_ang: float) -> np.ndarray:
    """``(n, 5)``: RELION's angles in degrees and the shift of the particle's centre in A (x, y)."""
    rotations, shifts_px = assignment.poses(np.arange(len(assignment.state_of)))
    angles = matrix_to_euler(rotations.double().cpu())
    return np.stack([*(angle.numpy() for angle in angles),
                     *(pixel_size_ang * shifts_px.double().cpu().numpy()).T], 1)


@dataclass(frozen=True)
class Table:
    """What every particle gets, in the cache's order."""

    label: np.ndarray  # (n,) int64, UNASSIGNED = junk
    probability: np.ndarray  # (n,)
    poses: np.ndarray  # (n, 5), POSE_COLUMNS
    t: np.ndarray  # (n,) place along its state's motion, NaN where there is none
    contrast: np.ndarray  # (n,) of the particle over its state's map


def write_tables(cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """Write ``particles.csv`` and ``clusters.csv``."""
    head = ["particle_id", "label", "probability"]
    common = [[int(i), int(k), f"{p:.6g}"]
              for i, k, p in zip(cache.particle_id, table.label, table.probability, strict=True)]
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, head, common)
    result_files.write_csv(
        out_dir / result_files.PARTICLES_CSV,
        [*head, *POSE_COLUMNS, "half_set", "motion", "contrast"],
        (
            [*row, *(f"{x:.5f}" for x in pose), int(half), "" if np.isnan(t) else f"{t:.5f}", f"{a:.4f}"]
            for row, pose, half, t, a in zip(common, table.poses, cache.half_set, table.t, table.contrast, strict=True)
        ),
    )


def write_stars(data: DataConfig, cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """``particles.star``: the particles in a state; ``junk.star``: the others, where there are any.

    Raises DataError where the star file is no longer the one that the images were prepared from.
    """
    source = read_star(Path(data.particles))
    if cache.ids_are_rows_of != (None if source.has(PARTICLE_ID) else source.sha256):
        raise changed_star(data.particles, "the prepared images")
    aside = table.label == UNASSIGNED
    (out_dir / result_files.JUNK_STAR).unlink(missing_ok=True)
    for chosen, name in ((~aside, result_files.PARTICLES_STAR), (aside, result_files.JUNK_STAR)):
        if chosen.any() or name == result_files.PARTICLES_STAR:
            rows = rows_of(particle_ids(source), cache.particle_id[chosen], data.particles)
            write_rows(source, rows, pose_columns(source, cache, table, chosen), out_dir / name, data.stack)


def pose_columns(source: RelionTable, cache: ParticleCache, made: Table, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """What some particles (mask) get in a star file: RELION moves an image by ``rlnOrigin`` to centre it.

    A 3.0 file (no optics block) gets its origins in pixels of the original images, as that format has it.
    """
    poses = made.poses[chosen]
    unit, suffix = (1.0, "Angst") if source.optics is not None else (cache.original_pixel_size_ang, "")
    names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", f"rlnOriginX{suffix}", f"rlnOriginY{suffix}")
    values = np.concatenate((poses[:, :3], -poses[:, 3:] / unit), axis=1)
    return {PARTICLE_ID: whole_numbers(cache.particle_id[chosen]),
            **{name: decimals(column) for name, column in zip(names, values.T, strict=True)},
            "rlnClassNumber": whole_numbers(made.label[chosen] + 1),
            RANDOM_SUBSET: whole_numbers(cache.half_set[chosen])}
