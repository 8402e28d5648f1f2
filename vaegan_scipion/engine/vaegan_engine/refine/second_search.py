"""A second, finer pose search of images in all states' maps, once these have detail.

The search that states begin with is coarse (``starts.SEARCH_ROTATIONS`` at the resolution of the pose search). Where
noise is strong it puts some images into a wrong pose, and an image that is in a wrong pose in its own state and, by
chance, in a better one in another goes to the other. The maps that the states end with have more detail than those
that were searched, so all images are searched once more, on a finer grid, and keep the better of two poses.

At high SNR hardly any image changes, and a search of all costs minutes. So a sample is searched first.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band
from ..physics.rotations import rotation_distance_deg
from ..reconstruction.images import Images, low_passed, spread_rows
from ..reconstruction.least_squares import better_poses
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import search_all
from ..reconstruction.posed_images import Coefficients, PosedImages
from .assignment import class_log_posterior, cost_of
from .states import Assignment

ROTATIONS = 4608  # about 14 degrees apart
SHIFTS_PER_PERIOD = 3.0  # poses are refined afterwards, and the rotations are further apart than that
SAMPLE, MOST_CHANGED_FRAC = 500, 0.01  # the rest is searched where more of the sample than this has changed
MOVED_DEG = 10.0  # to another pose, not along the way of a refinement
_ITERATIONS = 4


def searched_again(data: Images, found: Assignment, rows: np.ndarray, band: Band, largest_shift_px: float,
                   mask: Tensor) -> Assignment:
    """The assignment with better poses and classes of some images, where a new search in all maps finds any."""
    made = _copy(found)
    _search(data, made, rows, band, largest_shift_px, mask)
    return made


def _copy(found: Assignment) -> Assignment:
    return replace(found, class_=found.class_.copy(), log_posterior=found.log_posterior.copy(), A=found.A.clone(),
                   shifts_px=found.shifts_px.clone())


def _search(data: Images, found: Assignment, rows: np.ndarray, band: Band, largest_shift_px: float, mask: Tensor,
            progress: Callable[[int], None] | None = None) -> None:
    """``searched_again`` in place."""
    model = MapMixture(low_passed(found.volumes, band.radius), found.noise, mask)
    tried = search_all(data, model, rows, band.radius, ROTATIONS, largest_shift_px, progress=progress,
                       shifts_per_period=SHIFTS_PER_PERIOD)
    source, precision = Coefficients(data, rows, band), band.weight / found.noise[band.shell]
    at, costs = torch.from_numpy(rows).to(found.A.device), []
    for c in range(found.n_classes):
        best, cost = better_poses(PosedImages(source, found.A[at, c], found.shifts_px[at, c]),
                                  PosedImages(source, tried.A[:, c], tried.shifts_px[:, c]), found.volumes[c],
                                  precision, _ITERATIONS)
        found.A[at, c], found.shifts_px[at, c] = best.A, best.shifts_px
        costs.append(cost_of(best, found.volumes[c], precision, data.contrast_spread, cost))
    found.log_posterior[rows] = class_log_posterior(costs, found.sizes())
    found.class_[rows] = found.log_posterior[rows].argmax(1)


def changed_frac(before: Assignment, after: Assignment, rows: np.ndarray) -> float:
    """Part of some images that have another class, or another pose in it (``MOVED_DEG``)."""
    own = after.class_[rows]
    moved = rotation_distance_deg(before.A[rows, own], after.A[rows, own]).cpu().numpy() > MOVED_DEG
    return float(np.mean((own != before.class_[rows]) | moved))


def all_searched_again(data: Images, found: Assignment, band: Band, largest_shift_px: float, mask: Tensor,
                       progress: Callable[[int], None] | None = None) -> tuple[Assignment, float]:
    """All images of states searched again, if a sample shows that it is worth it; the part of the sample that changed.

    Images that are set aside stay as they are.
    """
    rows, made = np.flatnonzero(~found.aside), _copy(found)
    sample = rows[spread_rows(len(rows), SAMPLE)]
    _search(data, made, sample, band, largest_shift_px, mask)
    changed, others = changed_frac(found, made, sample), np.setdiff1d(rows, sample)
    if changed > MOST_CHANGED_FRAC and len(others):
        _search(data, made, others, band, largest_shift_px, mask, progress)
    return made, changed
