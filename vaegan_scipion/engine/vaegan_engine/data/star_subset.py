"""A star file with some of the particles of another, every column and every other block as it was written."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from .image_names import names_for
from .particles import PARTICLE_ID, particle_ids
from .star_files import IMAGE_NAME, OPTICS_GROUP, PARTICLES, RelionTable
from .star_text import StarBlock, write_blocks

# columns of a pose and of what RELION knows of one, which a new pose replaces
POSE_COLUMNS = tuple(f"rlnAngle{angle}{kind}" for angle in ("Rot", "Tilt", "Psi") for kind in ("", "Prior")) + tuple(
    f"rlnOrigin{axis}{kind}{unit}" for axis in "XYZ" for kind in ("", "Prior") for unit in ("", "Angst")) + (
    "rlnAnglePsiFlip", "rlnAnglePsiFlipRatio")


def write_subset(table: RelionTable, particle_id: np.ndarray, path: Path, stack: str = "") -> int:
    """Write the rows of ``table`` with these ids, in its order, to ``path``; returns how many.

    Image names are kept where they mean the same file from there, else written relative to the folder of ``path``.
    ``stack``: the one stack that holds the images, in place of those the star file names.
    """
    ids = particle_ids(table)
    rows = np.flatnonzero(np.isin(ids, particle_id))
    write_rows(table, rows, {PARTICLE_ID: whole_numbers(ids[rows])}, path, stack)
    return len(rows)


def write_rows(table: RelionTable, rows: np.ndarray, new: dict[str, np.ndarray], path: Path, stack: str = "") -> None:
    """Write some rows of ``table`` with columns replaced or added (``(n,)`` bytes) to ``path``.

    Where a pose is among the new columns, all older columns of poses are left out.
    """
    columns = {IMAGE_NAME: names_for(table, rows, path.parent, stack), **new}
    if table.optics is not None and OPTICS_GROUP not in table.particles:
        columns[OPTICS_GROUP] = np.repeat(table.optics.columns[OPTICS_GROUP][:1], len(rows))
    has_pose = any(name in POSE_COLUMNS for name in new)
    particles = table.particles.rows(rows).changed(columns, POSE_COLUMNS if has_pose else ())
    if table.optics is not None:
        particles = StarBlock(PARTICLES, particles.columns)
    write_blocks([particles if block is table.particles else block for block in table.blocks], path)


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """``(n,)`` bytes of whole numbers."""
    return np.array([b"%d" % value for value in values.tolist()], "S")


def decimals(values: np.ndarray) -> np.ndarray:
    """``(n,)`` bytes of numbers with five decimals."""
    return np.array([b"%.5f" % value for value in values.tolist()], "S")
