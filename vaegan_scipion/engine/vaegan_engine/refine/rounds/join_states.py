"""Join states that are the same: two halves of the images must tell them apart, at equally good poses.

Two states may hold one molecule in two frames or two hands. An image then prefers the state in which its
pose happens to be better, whatever the maps are. So the maps of the most similar pairs are aligned first, and
each image tries its pose of one state, carried over, in the other.

With the alignment ``F_a(k) = F_b'(R k) exp(-2 pi i k.t / d)`` (``map_alignment``; b' is b or its mirror image in z),
a pose (A, s) in a is ``(A R^T, s + A_xy t)`` in b', and its mirror image turns the z components of the rows.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...contract.records import Separation
from ...physics.fourier_band import Band, make_band, shift_phases
from ...physics.map_alignment import align_map, carried, with_axes
from ...physics.slices import transform_of
from ...reconstruction.images import low_passed
from ...reconstruction.least_squares import better_poses, misfits, project
from ...reconstruction.posed_images import Coefficients, PosedImages, in_chunks
from ...stats.group_evidence import valley_evidence
from ..assignment import reassign, state_map
from ..problem import Problem
from ..states import Assignment
from ..tuning import TUNING, JoinTuning
from .separation import is_separate, separation

_LINE_NODES = 31  # from one map's place less to the other's plus the distance between them


def exchange_poses(problem: Problem, assignment: Assignment, pair: tuple[int, int], max_shell: float) -> Assignment:
    """The images of two states try their poses of one in the other and keep the better."""
    a, b = pair
    maps = low_passed(assignment.maps[[a, b]], max_shell).cpu().numpy()
    per_voxel = problem.box_px / maps.shape[-1]  # pixels of the images
    aligned = align_map(maps[1], maps[0], problem.images.pixel_size_ang * per_voxel)
    aligned = with_axes(aligned._replace(shift_px=aligned.shift_px * per_voxel), problem.settings.symmetry)
    rows = np.union1d(assignment.members(a), assignment.members(b))
    at = torch.from_numpy(rows).to(assignment.rotations.device)
    band = make_band(problem.box_px, max_shell, problem.device)
    source, precision = Coefficients(problem.images, rows, band), band.weight / assignment.noise[band.shell]
    own = {state: (assignment.rotations[at, state], assignment.shifts_px[at, state]) for state in (a, b)}
    carried_poses = {b: carried(*own[a], aligned, True), a: carried(*own[b], aligned, False)}
    for state in (b, a):
        best, _ = better_poses(PosedImages(source, *own[state]), PosedImages(source, *carried_poses[state]),
                               assignment.maps[state], precision, problem.tuning.join.pose_iterations)
        assignment = assignment.with_state_poses(state, best.rotations, best.shifts_px, rows)
    return assignment


def separate_pairs(problem: Problem, assignment: Assignment, max_shell: float, rng: torch.Generator
                   ) -> list[Separation]:
    """``separation.separation`` of every pair of states, by maps made from two halves of the images."""
    images, n_states = problem.images, assignment.n_states
    band = make_band(problem.box_px, max_shell, problem.device)
    source, precision = Coefficients(images, np.arange(len(images)), band), band.weight / assignment.noise[band.shell]
    half = (1 + torch.randperm(len(images), generator=rng).numpy() % 2)[problem.first_of_same]
    costs = np.empty((2, len(images), n_states), np.float32)
    maps = []
    for k in (0, 1):
        for state in range(n_states):
            rows = assignment.members(state)
            map_, _ = state_map(problem, assignment, rows[half[rows] == k + 1], band, precision)
            posed = PosedImages(source, assignment.rotations[:, state], assignment.shifts_px[:, state])
            costs[k, :, state] = misfits(posed, map_, precision, images.contrast_spread).cpu().numpy()
            maps.append(map_)
    pairs = []
    for a in range(n_states):
        for b in range(a + 1, n_states):
            rows = np.union1d(assignment.members(a), assignment.members(b))
            rows = rows[problem.distinct(rows)[0]]  # a copy is no evidence of its own
            odds = torch.from_numpy(costs[:, rows, a] - costs[:, rows, b])
            unseen = torch.where(torch.from_numpy(half[rows]) == 1, odds[1], odds[0])
            strength = images.strength(rows)
            unseen = unseen if strength is None else unseen / strength.cpu()
            apart = [map_differences(problem, assignment, (a, b), (maps[k * n_states + a], maps[k * n_states + b]),
                                     MapsBand(band, precision, rows)) for k in (0, 1)]
            told = line_evidence(torch.where(torch.from_numpy(half[rows]) == 1, odds[1], odds[0]).double().numpy(),
                                 np.where(half[rows] == 1, apart[1], apart[0]))
            numbers = separation(odds[0], odds[1], unseen, assignment.rotations[rows, a], problem.tuning.split)
            pairs.append(replace(numbers, states=[a, b], valley_evidence=told))
    return pairs


class MapsBand(NamedTuple):
    """Where maps are compared, and by which images."""

    band: Band
    precision: Tensor  # (p,)
    rows: np.ndarray


def map_differences(problem: Problem, assignment: Assignment, pair: tuple[int, int], maps: tuple[Tensor, Tensor],
                    where: MapsBand) -> np.ndarray:
    """``sum_k w |C (S_a[V_a] - S_b[V_b])|^2`` per image ``(n,)``: each map at the image's own pose in its state."""
    source, rows = Coefficients(problem.images, where.rows, where.band), torch.from_numpy(where.rows)
    sides = [PosedImages(source, assignment.rotations[rows, state], assignment.shifts_px[rows, state])
             for state in pair]
    map_fts = [transform_of(map_, where.band) for map_ in maps]

    def part(at: slice) -> Tensor:
        made = [project(side.rows(at), map_ft) * shift_phases(where.band, -side.shifts_px[at])
                for side, map_ft in zip(sides, map_fts, strict=True)]
        return (where.precision * (made[0] - made[1]).abs().square()).sum(1)

    return torch.cat(in_chunks(part, len(rows))).double().cpu().numpy()


def line_evidence(odds: np.ndarray, difference: np.ndarray) -> float:
    """Evidence of a valley between two maps, from log likelihood ratios ``(n,)`` and ``map_differences`` (n,).

    At ``V_a + t (V_b - V_a)`` the log likelihood of an image is ``b t - G t^2 / 2``, G the difference of the two
    slices and ``b = odds + G / 2``: a point on a line, known up to its uncertainty (``group_evidence``).
    """
    t = np.linspace(-1.0, 2.0, _LINE_NODES)
    log = (odds + 0.5 * difference)[:, None] * t - 0.5 * difference[:, None] * t ** 2
    likelihood = np.exp(log - log.max(1, keepdims=True)) + 1e-12
    return valley_evidence(likelihood, np.ones(len(odds)))


def doubtful_pairs(pairs: list[Separation], n_states: int, tuning: JoinTuning = TUNING.join) -> list[tuple[int, int]]:
    """Each state with the one that its images can best be mistaken for, unless the two are plainly apart."""
    doubtful = set()
    for state in range(n_states):
        nearest = min((pair for pair in pairs if state in pair.states), key=lambda pair: pair.median_preference)
        if nearest.agreement < tuning.sure_agreement or nearest.valley > tuning.sure_valley:
            doubtful.add((nearest.states[0], nearest.states[1]))
    return sorted(doubtful)


def join_same(problem: Problem, assignment: Assignment, max_shell: float, rng: torch.Generator,
              report: Callable[[Separation], None] | None = None) -> tuple[Assignment, list[Separation]]:
    """Join states that two halves of the images cannot tell apart. Returns the evidence of the pairs that stay."""
    while True:
        assignment = reassign(problem, assignment, max_shell)
        if assignment.n_states == 1:
            return assignment, []
        sizes = assignment.sizes()
        pairs = separate_pairs(problem, assignment, max_shell, rng)
        doubtful = doubtful_pairs(pairs, assignment.n_states, problem.tuning.join)
        for pair in doubtful:
            assignment = exchange_poses(problem, assignment, pair, max_shell)
        if doubtful:
            pairs = separate_pairs(problem, assignment, max_shell, rng)
        worst = min(pairs, key=lambda pair: (is_separate(pair, problem.tuning.split), pair.agreement))
        if is_separate(worst, problem.tuning.split):
            return assignment, pairs
        if report:
            report(worst)
        assignment = assignment.without(min(worst.states, key=lambda state: int(sizes[state])))
