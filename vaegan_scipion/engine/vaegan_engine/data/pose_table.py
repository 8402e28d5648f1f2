"""Poses of particles: of a folder of ``states`` (``particles.csv``) or of a star file's own alignment.

In the plane: turns and shifts of a folder of ``classes2d``, each with respect to the average of the particle's class.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import result_files
from ..contract.errors import ConfigError, DataError
from ..contract.fullres_records import FullresSummary
from ..contract.labels import UNASSIGNED
from ..contract.record import read_record
from ..contract.records import StatesSummary
from ..contract.settings import DataConfig
from ..contract.status import read_status
from ..contract.symmetry import NO_SYMMETRY, group_name
from .optics import pixel_size_ang
from .particles import particle_ids
from .run_images import check_row_ids
from .star_files import RelionTable, missing_columns, read_star

ANGLE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg")
SHIFT_COLUMNS = ("shift_x_ang", "shift_y_ang")
STAR_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
STAR_ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")
OLD_ORIGINS = ("rlnOriginX", "rlnOriginY")  # before RELION 3.1, in pixels
SYMMETRY = "rlnSymmetryGroup"  # a star column, one group for all particles


@dataclass(frozen=True)
class PoseTable:
    """Poses of n particles; rows are joined by ``particle_id``."""

    particle_id: np.ndarray  # (n,) int64
    angles_deg: np.ndarray  # (n, 3) RELION's rot, tilt, psi
    shifts_ang: np.ndarray  # (n, 2) of the particle's centre from the image's, x and y
    contrast: np.ndarray  # (n,) of the particle over the map; 1 where it is not known
    label: np.ndarray  # (n,) int64 state, UNASSIGNED = junk; 0 where there are no states
    half_set: np.ndarray | None = None  # (n,) uint8, 1 or 2, that the poses were refined in; of a folder of states
    symmetry: str = NO_SYMMETRY  # of the maps that the poses were found in

    def rows_of(self, particle_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ``particle_id`` that have a pose and are no junk, and their rows here."""
        order = np.argsort(self.particle_id, kind="stable")
        place = np.searchsorted(self.particle_id[order], particle_id).clip(max=len(order) - 1)
        here = order[place]
        usable = (self.particle_id[here] == particle_id) & (self.label[here] != UNASSIGNED)
        return np.flatnonzero(usable), here[usable]


def read_poses(data: DataConfig) -> PoseTable:
    """Poses that the settings name. Raises DataError."""
    if not data.input_poses:
        check_finished(Path(data.poses_dir))
        check_row_ids(data.poses_dir, data.particles)
    table = _star_poses(Path(data.particles)) if data.input_poses else _folder_poses(Path(data.poses_dir))
    _check_values(table, data.particles if data.input_poses else data.poses_dir)
    return table


def check_finished(folder: Path) -> None:
    """Refuse a folder whose command was begun again and has not finished: its poses are of the run before.

    Raises DataError.
    """
    state = read_status(folder).state
    if state not in (None, "finished"):
        raise DataError(f"{folder}: its run is {state}, so poses that lie there are of a run before it.",
                        "Let it finish (continue it with --resume), then take its poses.")


def _check_values(table: PoseTable, where: str) -> None:
    """Refuse poses that are no numbers, and particles with several."""
    values = np.concatenate((table.angles_deg, table.shifts_ang, table.contrast[:, None]), axis=1)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(f"{where}: the pose of particle {table.particle_id[bad[0]]} is not finite ({len(bad)} such "
                        "particles).", "Correct or remove these rows.")
    ids, counts = np.unique(table.particle_id, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{where}: particle {ids[counts > 1][0]} has {counts.max()} poses.",
                        "Give every particle one row.")


def read_plane_poses(data: DataConfig) -> PoseTable:
    """Turns (psi), shifts and classes of the folder of ``classes2d`` that the settings name. Raises DataError."""
    folder = Path(data.poses_dir)
    if not (folder / result_files.CLASSES2D_JSON).exists():
        raise DataError(f"{folder}: it has no {result_files.CLASSES2D_JSON}; a 2D training takes poses in the plane.",
                        "Give a finished results folder of classes2d, or use train3d.")
    check_finished(folder)
    check_row_ids(data.poses_dir, data.particles)
    path = folder / result_files.PARTICLES_CSV
    try:
        rows = result_files.read_csv(path)
        psi, shifts, contrast = (np.array([[float(row[name]) for name in names] for row in rows])
                                 for names in (("psi_deg",), SHIFT_COLUMNS, ("contrast",)))
        label = np.array([UNASSIGNED if row["junk"] == "1" else int(row["label"]) for row in rows], np.int64)
        table = PoseTable(np.array([int(row["particle_id"]) for row in rows], np.int64),
                          np.concatenate((np.zeros((len(rows), 2)), psi), 1), shifts, contrast[:, 0], label,
                          np.array([int(row["half_set"]) for row in rows], np.uint8))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: the poses cannot be read ({error}).", "Run classes2d again.") from error
    _check_values(table, str(folder))
    return table


def _folder_poses(folder: Path) -> PoseTable:
    path = folder / result_files.PARTICLES_CSV
    try:
        rows = result_files.read_csv(path)
        numbers = np.array([[float(row[name]) for name in (*ANGLE_COLUMNS, *SHIFT_COLUMNS)] for row in rows])
        table = PoseTable(np.array([int(row["particle_id"]) for row in rows], np.int64), numbers[:, :3], numbers[:, 3:],
                          np.array([float(row.get("contrast") or 1) for row in rows]),
                          np.array([int(row.get("label") or 0) for row in rows], np.int64),
                          np.array([int(row.get("half_set") or 0) for row in rows], np.uint8), _symmetry_of(folder))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: the poses cannot be read ({error}).",
                        f"Give a folder with particle_id, {', '.join((*ANGLE_COLUMNS, *SHIFT_COLUMNS))} in "
                        f"{result_files.PARTICLES_CSV}, as states writes it.") from error
    return table


def _star_poses(star: Path) -> PoseTable:
    """RELION moves an image by ``rlnOrigin`` to centre it: the particle's shift is its opposite.

    Origins in A count before those in pixels.
    """
    table = read_star(star)
    is_old = not any(map(table.has, STAR_ORIGINS)) and all(map(table.has, OLD_ORIGINS))
    origins = OLD_ORIGINS if is_old else STAR_ORIGINS
    missing = [name for name in (*STAR_ANGLES, *origins) if not table.has(name)]
    if missing:
        error = missing_columns(star, missing)
        raise DataError(error.message, "Give particles with an alignment, or poses with --poses.")
    n = len(table)
    unit_ang = pixel_size_ang(table, np.arange(n), ())[0] if is_old else 1.0
    return PoseTable(particle_ids(table), np.stack([table.numbers(name) for name in STAR_ANGLES], axis=1),
                     -unit_ang * np.stack([table.numbers(name) for name in origins], axis=1), np.ones(n),
                     np.zeros(n, np.int64),
                     symmetry=star_symmetry(table, star))


def star_symmetry(table: RelionTable, star: Path) -> str:
    """What the star file says of its poses; no symmetry, and a word of it, where it is no single group known here."""
    names = list(dict.fromkeys(table.text(SYMMETRY))) if table.has(SYMMETRY) else [NO_SYMMETRY]
    if len(names) > 1:
        print(f"{star}: {SYMMETRY} is {names[0]} and {names[1]}: not used, the poses are taken for {NO_SYMMETRY}.",
              flush=True)
    name = names[0] if len(names) == 1 else NO_SYMMETRY
    try:
        return group_name(name)
    except ConfigError as error:
        print(f"{star}: {SYMMETRY} is not used, the poses are taken for {NO_SYMMETRY}. {error.message}", flush=True)
        return NO_SYMMETRY


def _symmetry_of(folder: Path) -> str:
    """What ``states.json`` or ``fullres.json`` says; none where neither is there, as beside other programs' poses.

    Where ``states`` itself says that its poses are of no worth, a warning repeats it.
    """
    path = folder / result_files.STATES_JSON
    if path.exists():
        summary = read_record(StatesSummary, path, "states")
        if not summary.has_states:
            print(f"warning: {folder}: {summary.verdict}. What is made at these poses is worth no more", flush=True)
        return summary.symmetry
    path = folder / result_files.FULLRES_JSON
    return read_record(FullresSummary, path, "fullres").symmetry if path.exists() else NO_SYMMETRY
