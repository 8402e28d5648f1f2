"""Poses of a state that moves: each image is searched in the maps along the motion, not in their mean.

Where the parts of a particle move further than the resolution, the mean map is a blur, and what differs most from it
gets wrong poses; with wrong poses the motion's ends are wrong in turn. So the motion is found (``motion``), all images
of the state are searched in the maps at its nodes, each keeps the better of two poses, and the motion is found anew;
again while two halves of the images agree on it more than before.

The steps before treat a state as rigid, so this comes after the states are settled. Rigid states are not touched: a
sample of their images tells that there is no motion.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...physics.fourier_band import make_band
from ...reconstruction.images import low_passed, spread_rows
from ...reconstruction.least_squares import misfits
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.pose_search import search_all
from ...reconstruction.posed_images import Coefficients, PosedImages
from ..assignment import state_map
from ..problem import Problem
from ..states import Assignment
from .half_maps import HALF_SETS
from .motion import motion_of


def search_at_nodes(problem: Problem, assignment: Assignment, state: int, maps: Tensor, max_shell: float
                    ) -> tuple[Assignment, int]:
    """Poses of one state by a search in ``maps`` (k, d, d, d) where they are better; and how many changed.

    An image's misfit at the pose it had is that in the map which explains it best.
    """
    images, rows, search_shells = problem.images, assignment.members(state), problem.settings.search_shells
    rotations, shifts_px = assignment.poses(rows)
    grid = problem.pose_grid(search_shells)
    band = make_band(problem.box_px, max_shell, problem.device)
    precision = band.weight / assignment.noise[band.shell]
    tried = search_all(images, MapMixture(low_passed(maps, search_shells), assignment.noise, problem.constraint), rows,
                       replace(grid, finer_shifts=max(grid.finer_shifts, problem.tuning.motion.finer_shifts)))
    nearest = torch.from_numpy(tried.log_evidence.argmax(1)).to(rotations.device)
    as_they_are = PosedImages(Coefficients(images, rows, band), rotations, shifts_px)
    before = torch.stack([misfits(as_they_are, map_, precision) for map_ in maps]).amin(0)
    rotations, shifts_px, n_changed = rotations.clone(), shifts_px.clone(), 0
    for node, map_ in enumerate(maps):
        own = torch.nonzero(nearest == node).squeeze(1)
        if len(own) == 0:
            continue
        source = Coefficients(images, rows[own.cpu().numpy()], band)
        new, cost = PosedImages(source, tried.rotations[own, node], tried.shifts_px[own, node]).refined(
            map_, precision, problem.tuning.motion.follow_pose_iterations)
        better = cost < before[own]
        rotations[own[better]], shifts_px[own[better]] = new.rotations[better], new.shifts_px[better]
        n_changed += int(better.sum())
    return assignment.with_state_poses(state, rotations, shifts_px, rows), n_changed


def moves(problem: Problem, assignment: Assignment, state: int, max_shell: float) -> bool:
    """Whether a sample of one state shows a motion that two halves agree on."""
    rows, tuning = assignment.members(state), problem.tuning.motion
    some = rows[spread_rows(len(rows), tuning.sample)]
    if min(np.count_nonzero(problem.half_set[some] == half) for half in HALF_SETS) < tuning.min_images:
        return False
    return motion_of(problem, assignment, state, max_shell, some).agreement >= tuning.min_agreement


def follow_motion(problem: Problem, assignment: Assignment, state: int, max_shell: float,
                  report: Callable[[float, int], None]) -> Assignment:
    """The assignment after one state's motion was followed, as it is where it has none.

    ``report(agreement, n_changed)`` is called after each turn.
    """
    if not moves(problem, assignment, state, max_shell):
        return assignment
    band = make_band(problem.box_px, max_shell, problem.device)
    precision = band.weight / assignment.noise[band.shell]
    best = tried = assignment
    motion = motion_of(problem, assignment, state, max_shell)
    for _ in range(problem.tuning.motion.max_follow_turns):
        tried, n_changed = search_at_nodes(problem, tried, state, torch.from_numpy(motion.maps).to(problem.device),
                                           max_shell)
        after = motion_of(problem, tried, state, max_shell)
        report(after.agreement, n_changed)
        if after.agreement < motion.agreement:
            break
        rise, motion = after.agreement - motion.agreement, after
        best = tried.with_map(state, state_map(problem, tried, tried.members(state), band, precision)[0])
        if rise < problem.tuning.motion.min_rise:
            break
    return best
