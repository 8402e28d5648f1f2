"""Tables and star files with one row per particle."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import starfile

from ..contract import result_files
from ..contract.labels import NOISE
from ..data.particles import PARTICLE_ID
from ..data.prepared_images import ParticleCache
from ..data.star_files import OPTICS_GROUP, read_star
from ..physics.rotations import matrix_to_euler
from .states import Assignment

POSE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang")


def pose_table(assignment: Assignment, pixel_size_ang: float) -> np.ndarray:
    """``(n, 5)``: RELION's angles in degrees and the shift of the particle's centre in A (x, y)."""
    A, shifts_px = assignment.poses(np.arange(len(assignment.class_)))
    angles = matrix_to_euler(A.double().cpu())
    return np.stack([*(angle.numpy() for angle in angles),
                     *(pixel_size_ang * shifts_px.double().cpu().numpy()).T], 1)


@dataclass(frozen=True)
class Table:
    """What every particle gets, in the cache's order."""

    label: np.ndarray  # (n,) int64, NOISE = junk
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


def write_stars(source: str, cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """``particles.star``: the particles in a state; ``junk.star``: the others, where there are any."""
    aside = table.label == NOISE
    write_star(source, cache, table, ~aside, out_dir / result_files.PARTICLES_STAR)
    (out_dir / result_files.JUNK_STAR).unlink(missing_ok=True)
    if aside.any():
        write_star(source, cache, table, aside, out_dir / result_files.JUNK_STAR)


def write_star(source: str, cache: ParticleCache, values: Table, chosen: np.ndarray, path: Path) -> None:
    """The source's rows of some particles (mask) with poses: RELION moves an image by ``rlnOrigin`` to centre it.

    A 3.0 file (no optics block) gets its origins in pixels of the original images, as that format has it.
    """
    table = read_star(Path(source))
    ids = (table.numbers(PARTICLE_ID).astype(np.int64) if table.has(PARTICLE_ID)
           else np.arange(1, len(table) + 1, dtype=np.int64))
    at = {int(particle): row for row, particle in enumerate(ids)}
    wanted, poses = cache.particle_id[chosen], values.poses[chosen]
    frame = table.particles.iloc[[at[int(particle)] for particle in wanted]].copy()
    folder = Path(source).resolve().parent
    frame["rlnImageName"] = [_moved_name(name, folder, path.resolve().parent) for name in frame["rlnImageName"]]
    frame[PARTICLE_ID] = wanted
    for column, angle in zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), poses.T[:3], strict=True):
        frame[column] = np.round(angle, 5)
    unit = 1.0 if table.optics is not None else cache.original_pixel_size_ang
    suffix = "Angst" if table.optics is not None else ""
    for axis, shift in zip("XY", poses.T[3:], strict=True):
        frame[f"rlnOrigin{axis}{suffix}"] = np.round(-shift / unit, 5)
    frame["rlnClassNumber"] = values.label[chosen] + 1
    frame["rlnRandomSubset"] = cache.half_set[chosen]
    part = path.with_name(path.name + ".tmp")
    blocks = {"particles": frame} if table.optics is None else {"optics": table.optics, "particles": frame}
    if table.optics is not None and OPTICS_GROUP not in frame:
        frame[OPTICS_GROUP] = table.optics[OPTICS_GROUP].iloc[0]
    starfile.write(blocks, part)
    os.replace(part, path)


def _moved_name(name: str, old: Path, new: Path) -> str:
    """``000001@stack.mrcs`` relative to another folder, where the stack lies beside the star file."""
    number, at, stack = name.rpartition("@")
    target = old / stack
    return name if Path(stack).is_absolute() or not target.exists() else f"{number}{at}{os.path.relpath(target, new)}"
