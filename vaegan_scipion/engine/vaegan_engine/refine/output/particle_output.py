"""Tables and star files with one row per particle."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ...contract import result_files
from ...contract.labels import UNASSIGNED
from ...contract.settings import DataConfig
from ...contract.symmetry import NO_SYMMETRY, is_symmetric
from ...data import particle_stars
from ...data.pose_table import SYMMETRY
from ...data.prepared_images import ParticleCache
from ...data.star_files import RelionTable
from ...data.star_subset import whole_numbers
from ...data.star_text import encoded
from ...physics.rotations import matrix_to_euler
from ..states import Assignment

POSE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang")


def pose_table(assignment: Assignment, pixel_size_ang: float) -> np.ndarray:
    """``(n, 5)``: RELION's angles in degrees and the shift of the particle's centre in A (x, y)."""
    return pose_columns(*assignment.poses(np.arange(len(assignment.state_of))), pixel_size_ang)


def pose_columns(rotations: Tensor, shifts_px: Tensor, pixel_size_ang: float) -> np.ndarray:
    """``(n, 5)`` of rotations ``(n, 3, 3)`` and shifts ``(n, 2)``: RELION's angles in degrees, shifts in A."""
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
    junk_reason: list[str] | None = None  # (n,) why it was set aside, "" = it was not; None: not judged here
    symmetry: str = NO_SYMMETRY  # of the maps that the poses stand in
    t_std: np.ndarray | None = None  # (n,) of the posterior of t, NaN where there is none; None: of no particle


def write_tables(cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """Write ``particles.csv`` and ``clusters.csv``."""
    head = ["particle_id", "label", "probability"]
    common = [[int(i), int(k), f"{p:.6g}"]
              for i, k, p in zip(cache.particle_id, table.label, table.probability, strict=True)]
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, head, common)
    reasons = table.junk_reason or [""] * len(common)
    spreads = np.full(len(common), np.nan) if table.t_std is None else table.t_std
    result_files.write_csv(
        out_dir / result_files.PARTICLES_CSV,
        [*head, *POSE_COLUMNS, "half_set", "motion", "motion_std", "contrast", "junk_reason"],
        (
            [*row, *(f"{x:.5f}" for x in pose), int(half), *("" if np.isnan(x) else f"{x:.5f}" for x in (t, std)),
             f"{a:.4f}", why]
            for row, pose, half, t, std, a, why in zip(common, table.poses, cache.half_set, table.t, spreads,
                                                       table.contrast, reasons, strict=True)
        ),
    )


def symmetry_column(source: RelionTable, symmetry: str, n: int) -> dict[str, np.ndarray]:
    """A star file's column of the symmetry of n poses; of C1 only where the particles came with one."""
    return {SYMMETRY: encoded([symmetry] * n)} if is_symmetric(symmetry) or source.has(SYMMETRY) else {}


def write_stars(data: DataConfig, cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """``particles.star``: the particles in a state; ``junk.star``: the others (``particle_stars``)."""
    def columns(source: RelionTable, chosen: np.ndarray) -> dict[str, np.ndarray]:
        columns = particle_stars.aligned_columns(source, cache, chosen, table.poses[:, :3], table.poses[:, 3:])
        columns.update(symmetry_column(source, table.symmetry, int(chosen.sum())))
        return {**columns, "rlnClassNumber": whole_numbers(table.label[chosen] + 1)}

    particle_stars.write_stars(data, cache, table.label == UNASSIGNED, columns, out_dir)
