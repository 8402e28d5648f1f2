"""A second, finer pose search of images in all states' maps, once these are sharp.

The search that states begin with is in blurred maps. Where noise is strong it puts some images into a wrong pose, and
an image that is in a wrong pose in its own state and, by chance, in a better one in another goes to the other. So all
images are searched once more, in the maps that the states end with, and keep the better of two poses.

At high SNR hardly any image changes, and a search of all costs minutes. So a sample is searched first.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ...physics.fourier_band import Band
from ...physics.symmetry import distance_deg
from ...reconstruction.images import low_passed, spread_rows
from ...reconstruction.least_squares import better_poses
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.near_search import Placed, search_near
from ...reconstruction.posed_images import Coefficients, PosedImages
from ..assignment import cost_of, state_log_posterior
from ..problem import Problem
from ..states import Assignment


def search_again(problem: Problem, assignment: Assignment, rows: np.ndarray, band: Band,
                 progress: Callable[[int], None] | None = None) -> Assignment:
    """The assignment with better poses and states of some images, where a new search in all maps finds any.

    A grid of twice as many rotations as the first search's is searched in ``band``, and what it finds is refined.
    """
    tuning = problem.tuning.search
    model = MapMixture(low_passed(assignment.maps, band.radius), assignment.noise, problem.constraint)
    at = torch.from_numpy(rows).to(assignment.rotations.device)
    tried = search_near(problem.images, model, Placed(rows, assignment.shifts_px[at], tuning.second_sample),
                        replace(problem.pose_grid(band.radius), n_rotations=tuning.second_n_rotations), progress)
    source, precision = Coefficients(problem.images, rows, band), band.weight / assignment.noise[band.shell]
    rotations, shifts_px, costs = assignment.rotations[at], assignment.shifts_px[at], []
    for state, map_ in enumerate(assignment.maps):
        best, cost = better_poses(PosedImages(source, rotations[:, state], shifts_px[:, state]),
                                  PosedImages(source, tried.rotations[:, state], tried.shifts_px[:, state]), map_,
                                  precision, tuning.second_pose_iterations)
        rotations[:, state], shifts_px[:, state] = best.rotations, best.shifts_px
        costs.append(cost_of(best, map_, precision, problem.images.contrast_spread, cost))
    log_posterior = state_log_posterior(costs, assignment.sizes())
    return assignment.with_poses(rows, rotations, shifts_px).with_states(rows, log_posterior)


def changed_frac(problem: Problem, before: Assignment, after: Assignment, rows: np.ndarray) -> float:
    """Part of some images that have another state, or a pose in it that is more than ``SearchTuning.moved_deg`` off."""
    own = after.state_of[rows]
    angle_deg = distance_deg(before.rotations[rows, own], after.rotations[rows, own], problem.constraint.group)
    moved = angle_deg.cpu().numpy() > problem.tuning.search.moved_deg
    return float(np.mean((own != before.state_of[rows]) | moved))


def search_all_again(problem: Problem, assignment: Assignment, band: Band,
                     progress: Callable[[int], None] | None = None) -> tuple[Assignment, float]:
    """All images of states searched again, if a sample shows that it is worth it; the part of the sample that changed.

    Images that are set aside stay as they are.
    """
    rows, tuning = np.flatnonzero(~assignment.aside), problem.tuning.search
    sample = rows[spread_rows(len(rows), tuning.second_sample)]
    after = search_again(problem, assignment, sample, band)
    changed, others = changed_frac(problem, assignment, after, sample), np.setdiff1d(rows, sample)
    if changed > tuning.max_changed_frac and len(others):
        after = search_again(problem, after, others, band, progress)
    return after, changed
