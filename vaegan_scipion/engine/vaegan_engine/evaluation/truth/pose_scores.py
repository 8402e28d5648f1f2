"""Poses against the truth. The frame and the hand of a map made without a reference are free, so both are fitted.

Of a symmetric molecule several poses show the same; any of them is right.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...contract import result_files
from ...contract.labels import UNASSIGNED
from ...data.particle_tables import JUNK, TRUTH_ID_COLUMNS, TRUTH_LABEL_COLUMNS, TRUTH_NAME_COLUMN
from ...physics.rotations import euler_to_matrix, rotation_distance_deg

_CANDIDATES = 200  # images whose own difference is tried as the frame
ANGLES = ("rot_deg", "tilt_deg", "psi_deg")


def median_pose_error_deg(rotations: Tensor, true: Tensor, group: Tensor | None = None) -> float:
    """Median angle in degrees between rotations ``(n, 3, 3)`` after the best global rotation, of either hand.

    Map frames differ by one rotation F, ``true_i S_i = found_i F`` with S_i any rotation of the ``group`` (g, 3, 3) of
    the true map (None: none but the identity); F is the best of ``found_i^T true_i`` over some images i, or the mean of
    ``found_i^T true_i S_i`` of those that agree with it. The other hand sees the same image along ``Z A Z`` with
    ``Z = diag(1, 1, -1)``.
    """
    group = torch.eye(3).to(true)[None] if group is None else group.to(true)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=rotations.dtype, device=rotations.device))
    n = len(rotations)
    picked = torch.from_numpy(np.unique(np.linspace(0, n - 1, min(n, _CANDIDATES)).astype(int)))
    errors = []
    for hand in (rotations, mirror @ rotations @ mirror):
        own = hand.transpose(1, 2) @ true
        tried = [_nearest_copies(hand @ own[i], true, group) for i in picked]
        near, turn = min(tried, key=lambda one: float(one[0].median()))
        alike = (own @ group[turn])[near <= near.median()]
        u, _, v = torch.linalg.svd(alike.mean(0))  # chordal mean of the frames that agree
        errors += [float(near.median()), float(_nearest_copies(hand @ (u @ v), true, group)[0].median())]
    return min(errors)


def _nearest_copies(A: Tensor, true: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Angle in degrees ``(n,)`` to the nearest of ``true_i S``, S of the group, and which S it is ``(n,)``."""
    least = torch.stack([rotation_distance_deg(A, true @ turn) for turn in group]).min(0)
    return least.values, least.indices


def true_angles_deg(truth_csv: str | Path) -> dict[int, tuple[float, float, float]]:
    """rot, tilt and psi by particle id of the rows of a ``truth.csv`` with three finite angles that are no junk."""
    made = {}
    for row in result_files.read_csv(truth_csv):
        ids = next((row[name] for name in TRUTH_ID_COLUMNS if name in row), None)
        try:
            rot, tilt, psi = (float(row[name]) for name in ANGLES)
        except (KeyError, TypeError, ValueError):
            continue
        labels = {row.get(name) for name in (TRUTH_NAME_COLUMN, *TRUTH_LABEL_COLUMNS)}
        if ids is not None and np.isfinite((rot, tilt, psi)).all() and JUNK not in labels:
            made[int(ids)] = rot, tilt, psi
    return made


def pose_errors(folder: Path, truth_csv: Path, group: Tensor | None = None) -> dict[int, float]:
    """Median pose error in degrees of every state of a folder of ``states``, of the particles that have a true pose.

    Truth: angles in ``truth.csv`` by id; {} where the folder or the truth has no angles.
    """
    truth = true_angles_deg(truth_csv)
    if not (folder / result_files.PARTICLES_CSV).exists() or not truth:
        return {}
    rows = [row for row in result_files.read_csv(folder / result_files.PARTICLES_CSV)
            if int(row["label"]) != UNASSIGNED and int(row["particle_id"]) in truth]
    if not all(set(ANGLES) <= set(row) for row in rows):
        return {}
    errors = {}
    for label in sorted({int(row["label"]) for row in rows}):
        mine = [row for row in rows if int(row["label"]) == label]
        rotations, true = (euler_to_matrix(*torch.tensor(angles).T) for angles in (
            [[float(row[name]) for name in ANGLES] for row in mine], [truth[int(row["particle_id"])] for row in mine]))
        errors[label] = median_pose_error_deg(rotations, true, group)
    return errors
