"""Prepared particles at the turns and shifts of ``classes2d``, all classes in one in-plane frame.

The frame is found once, when the training begins (``plane_frames``), and kept in ``plane_poses.csv``: the training's
checkpoints and embeddings are of that frame.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.settings import TrainRun
from ..data.pose_table import PoseTable, read_plane_poses
from ..data.prepared_images import ParticleCache
from ..data.stacks import read_header, read_images
from ..physics.map_constraint import MapConstraint
from ..runtime import processes
from ..runtime.place import is_first
from .plane_frames import InClasses, aligned
from .posed_images import PosedParticles, at_poses

HEAD = ("particle_id", "psi_deg")


def with_frame(run: TrainRun, cache: ParticleCache, constraint: MapConstraint, folder: Path) -> PosedParticles:
    """The particles of a cache in the frame that ``folder`` holds; where it holds none it is found and written.

    A training that goes on from another one's networks goes on in that one's frame. Raises DataError.
    """
    device, is_there = constraint.mask.device, processes.agreed((folder / result_files.PLANE_POSES_CSV).exists())
    if run.training.continue_from and not is_there:
        write_frame(read_frame(Path(run.training.continue_from)), folder)
        is_there = True
    if is_there:
        return in_frame(run, cache, folder, device)
    table = read_plane_poses(run.data)
    particles = at_poses(run, cache, table, device)
    _, here = table.rows_of(particles.particle_id)
    n_classes = len(np.unique(table.label[here]))
    print(f"one in-plane frame for {n_classes} classes of {len(particles)} particles", flush=True)
    averages = torch.from_numpy(class_averages(Path(run.data.poses_dir))).to(device)
    classes = InClasses(torch.from_numpy(table.label[here]).to(device), averages)
    particles = aligned(particles, classes, constraint, run.compute.seed, run.model.n_basis)
    psi_deg = torch.rad2deg(particles.psi_rad).cpu().numpy()
    write_frame(dict(zip(particles.particle_id.tolist(), psi_deg.tolist(), strict=True)), folder)
    return in_frame(run, cache, folder, device)


def in_frame(run: TrainRun, cache: ParticleCache, folder: Path, device: torch.device) -> PosedParticles:
    """The particles of a cache whose turns a folder holds. Raises DataError."""
    frame, table = read_frame(folder), read_plane_poses(run.data)
    known = np.isin(table.particle_id, np.fromiter(frame, np.int64))
    psi_deg = np.array([frame[i] for i in table.particle_id[known].tolist()])
    return at_poses(run, cache, some(table, known, psi_deg), device)


def some(table: PoseTable, rows: np.ndarray, psi_deg: np.ndarray) -> PoseTable:
    """Some rows of a table at other turns."""
    angles = np.concatenate((np.zeros((len(psi_deg), 2)), psi_deg[:, None]), 1)
    half = None if table.half_set is None else table.half_set[rows]
    return replace(table, particle_id=table.particle_id[rows], angles_deg=angles, shifts_ang=table.shifts_ang[rows],
                   contrast=table.contrast[rows], label=table.label[rows], half_set=half)


def class_averages(folder: Path) -> np.ndarray:
    """``(c, d, d)`` of a folder of ``classes2d``, by label. Raises DataError."""
    header = read_header(folder / result_files.MAPS / result_files.CLASSES_MRCS)
    return read_images([header], np.zeros(header.n_images, np.int64), np.arange(header.n_images))


def write_frame(psi_deg: dict[int, float], folder: Path) -> None:
    """Write ``plane_poses.csv``: the first process does, and the others wait for it."""
    if is_first():
        result_files.write_csv(folder / result_files.PLANE_POSES_CSV, HEAD,
                               [[i, f"{psi:.4f}"] for i, psi in psi_deg.items()])
    processes.wait()


def read_frame(folder: Path) -> dict[int, float]:
    """Turns in degrees by particle id. Raises DataError."""
    path = folder / result_files.PLANE_POSES_CSV
    try:
        rows = result_files.read_columns(path, {HEAD[0]: int, HEAD[1]: float})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the in-plane frame cannot be read ({error}).",
                        "Give the folder of a 2D training with poses, or train again.") from error
    return dict(zip(rows[HEAD[0]].tolist(), rows[HEAD[1]].tolist(), strict=True))
