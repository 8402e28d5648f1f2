"""Poses of particles: of a folder of ``states`` (``particles.csv``) or of a star file's own alignment.

In the plane: turns and shifts of a folder of ``classes2d``, each with respect to the average of the particle's class.
"""
from __future__ import annotations

from collections.abc import Sequence
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
from .star_files import OLD_ORIGINS, STAR_ORIGINS, RelionTable, missing_columns, read_star

ANGLE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg")
SHIFT_COLUMNS = ("shift_x_ang", "shift_y_ang")
STAR_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
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
    """Refuse tables without a pose, poses that are no numbers, and particles with several."""
    if not len(table.particle_id):
        raise DataError(f"{where}: the poses cannot be read (there are 0).", "Run the command that made them again.")
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
        rows = result_files.read_columns(path, {
            "particle_id": int, "label": int, "junk": int, "half_set": int,
            **dict.fromkeys(("psi_deg", *SHIFT_COLUMNS, "contrast"), float)})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the poses cannot be read ({error}).", "Run classes2d again.") from error
    psi_deg = rows["psi_deg"]
    table = PoseTable(rows["particle_id"], np.stack((np.zeros_like(psi_deg), np.zeros_like(psi_deg), psi_deg), 1),
                      _stacked(rows, SHIFT_COLUMNS), rows["contrast"],
                      np.where(rows["junk"] == 1, UNASSIGNED, rows["label"]), rows["half_set"].astype(np.uint8))
    _check_values(table, str(folder))
    return table


def _folder_poses(folder: Path) -> PoseTable:
    path = folder / result_files.PARTICLES_CSV
    try:
        rows = result_files.read_columns(
            path, {"particle_id": int, "label": int, "half_set": int,
                   **dict.fromkeys((*ANGLE_COLUMNS, *SHIFT_COLUMNS, "contrast"), float)},
            absent={"contrast": "1", "label": "0", "half_set": "0"})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the poses cannot be read ({error}).",
                        f"Give a folder with particle_id, {', '.join((*ANGLE_COLUMNS, *SHIFT_COLUMNS))} in "
                        f"{result_files.PARTICLES_CSV}, as states writes it.") from error
    return PoseTable(rows["particle_id"], _stacked(rows, ANGLE_COLUMNS), _stacked(rows, SHIFT_COLUMNS),
                     rows["contrast"], rows["label"], rows["half_set"].astype(np.uint8), _symmetry_of(folder))


def _stacked(rows: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Columns beside each other ``(n, k)``."""
    return np.stack([rows[name] for name in names], axis=1)


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
