"""Half maps of a state that share nothing but the particle above a stated shell, the band growing with their FSC.

The poses that the rounds end with were found in maps of all images, so halves at these poses agree on the noise of
those maps too. So each half begins anew: with the joint map, cut at part of the shells of the pose search.
From there on it searches its poses over all rotations and refines them in its own maps alone, at last inside a mask
that is made of its own map: noise around the particle is the images' own, and draws their poses to it. What is common
to both is the cut map, which image is of which state, contrasts, and the noise spectrum at the first search.
Up to ``shared_shell`` the FSC of the halves says nothing of the particle; it is drawn, and called unproven.

The poses of a state that moves were searched along its motion, and poses that are given were found elsewhere. These are
refined from where they are; then all shells that the rounds used are shared.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...physics.fourier_band import make_band
from ...physics.fsc import fourier_shell_correlation
from ...physics.map_constraint import MapConstraint
from ...physics.map_resize import mask_in_box
from ...physics.masked_fsc import mask_of_map, masked_fsc
from ...physics.symmetry import distance_deg
from ...reconstruction.images import image_power, low_passed
from ...reconstruction.least_squares import better_poses, reconstruction, residual_noise
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.near_search import Placed, search_near
from ...reconstruction.pose_search import search_all
from ...reconstruction.posed_images import Coefficients, PosedImages
from ...runtime.step_store import stored
from ..assignment import at_poses, state_map
from ..problem import Problem
from ..states import Assignment

HALF_SETS = 1, 2


def smaller_halves(assignment: Assignment, half_set: np.ndarray) -> np.ndarray:
    """Part of each state's images that are in its smaller half set ``(c,)``; ``half_set`` (n,) of 1 and 2."""
    second = np.array([np.mean(half_set[assignment.members(state)] == 2) for state in range(assignment.n_states)])
    return np.minimum(second, 1 - second)


@stored
@dataclass(frozen=True)
class Halves:
    """Maps of one state from two disjoint halves."""

    maps: np.ndarray  # (2, d, d, d) float32, not masked
    full: np.ndarray  # (d, d, d) float32, all images, inside the mask
    shared_shell: int  # up to it the halves have more in common than the particle


def refine_halves(problem: Problem, assignment: Assignment, state: int, search: bool = True
                  ) -> tuple[Halves, Assignment]:
    """Detail of one state, its halves apart: from searches of their own, or without ``search`` from their poses."""
    if search and problem.poses is None:
        limit = problem.tuning.half_maps.shared_frac * problem.settings.search_shells
        assignment, maps = search_apart(problem, assignment, state, limit)
        assignment = refine_apart(problem, assignment, state, maps, problem.settings.search_shells)
    else:
        limit = problem.max_shell(1)
        start = low_passed(assignment.maps[state][None], problem.settings.state_shells)[0]
        assignment = refine_apart(problem, assignment, state, [start, start], problem.settings.state_shells)
    return halves_at(problem, assignment, state, shared_shell(problem, limit)), assignment


def shared_shell(problem: Problem, limit: float) -> int:
    """Last shell that two halves share, where their maps were the same up to ``limit`` shells.

    A mask spreads each shell into its neighbours, so ``HalfMapTuning.spread_shells`` are added: on pure noise what is
    left beyond them is below 0.1.
    """
    return min(int(np.ceil(limit - 0.5)) + problem.tuning.half_maps.spread_shells, problem.box_px // 2)


def search_apart(problem: Problem, assignment: Assignment, state: int, limit: float
                 ) -> tuple[Assignment, list[Tensor]]:
    """Poses of one state's images by global searches, each half in its own map; and the two maps.

    The first search is in the joint map within ``limit`` shells, and the poses before it are forgotten. The bands of
    the next ones grow to the shells of the pose search; an image keeps the better of two poses. In the last band the
    search is repeated while more than ``SearchTuning.max_changed_frac`` of the images go to another pose, at most
    ``HalfMapTuning.max_searches`` times.
    """
    tuning, last = problem.tuning, problem.settings.search_shells
    start = low_passed(assignment.maps[state][None], limit)[0]
    maps, noises, before = [start, start], [assignment.noise] * 2, assignment
    radii = [limit, (limit + last) / 2, *[last] * tuning.half_maps.max_searches]
    for number, radius in enumerate(radii):
        for k, half in enumerate(HALF_SETS):
            rows = rows_of_half(problem, assignment, state, half)
            model = MapMixture(low_passed(maps[k][None], radius), noises[k], problem.constraint)
            grid = problem.pose_grid(radius)
            if number == 0:
                tried = search_all(problem.images, model, rows, grid)
            else:  # near the shifts that this half has found
                placed = Placed(rows, assignment.poses(rows)[1][:, None])
                tried = search_near(problem.images, model, placed, grid)
            band = make_band(problem.box_px, radius, problem.device)
            source, precision = Coefficients(problem.images, rows, band), band.weight / noises[k][band.shell]
            new = PosedImages(source, tried.rotations[:, 0], tried.shifts_px[:, 0])
            if number == 0:
                better, _ = new.refined(maps[k], precision, tuning.half_maps.pose_iterations)
            else:
                better, _ = better_poses(PosedImages(source, *assignment.poses(rows)), new, maps[k], precision,
                                        tuning.half_maps.pose_iterations)
            assignment = assignment.with_state_poses(state, better.rotations, better.shifts_px, rows)
            maps[k], noises[k] = map_of_half(problem, assignment, rows, radius)
        if radius == last and changed_frac(problem, before, assignment, state) <= tuning.search.max_changed_frac:
            break
        before = assignment
    return assignment, maps


def map_of_half(problem: Problem, assignment: Assignment, rows: np.ndarray, radius: float) -> tuple[Tensor, Tensor]:
    """Map of some images, wider than ``radius`` shells, and their noise; beyond ``radius`` that is their own power."""
    wide = make_band(problem.box_px, min(problem.box_px / 2, radius + problem.tuning.half_maps.wider_shells),
                     problem.device)
    map_, noise = state_map(problem, assignment, rows, wide, torch.ones_like(wide.weight))
    shell = torch.arange(len(noise), device=noise.device)
    return map_, torch.where(shell <= radius, noise, image_power(problem.images))


def changed_frac(problem: Problem, before: Assignment, after: Assignment, state: int) -> float:
    """Part of one state's images whose rotation is more than ``SearchTuning.moved_deg`` from where it was."""
    rows = after.members(state)
    angle_deg = distance_deg(before.poses(rows)[0], after.poses(rows)[0], problem.constraint.group)
    return float((angle_deg > problem.tuning.search.moved_deg).float().mean())


def refine_apart(problem: Problem, assignment: Assignment, state: int, maps: list[Tensor], max_shell: float
                 ) -> Assignment:
    """Poses of one state, each half refined in its own map of ``maps`` from ``max_shell`` on.

    The band of the next round reaches some shells past the FSC's fall below ``HalfMapTuning.min_fsc``, at most Nyquist.
    No round follows one at Nyquist, nor two of the same band. Poses are refined in a half's map inside its own
    mask (``particle_masks``); the FSC is that inside the mask of both.
    """
    tuning, nyquist, before = problem.tuning.half_maps, problem.box_px / 2, 0.0
    whole = replace(problem, mask=torch.ones_like(problem.mask)).constraint
    masks = masks_of(problem, maps)
    for _ in range(tuning.rounds):
        band = make_band(problem.box_px, max_shell, problem.device)
        wide = make_band(problem.box_px, min(nyquist, max_shell + tuning.wider_shells), problem.device)
        made = []
        for half, map_, mask in zip(HALF_SETS, maps, masks[1:], strict=True):
            map_ = map_ * mask
            rows = rows_of_half(problem, assignment, state, half)
            images = PosedImages(Coefficients(problem.images, rows, band), *assignment.poses(rows))
            precision = band.weight / residual_noise(images, map_)[band.shell]
            refined, _ = images.refined(map_, precision, tuning.pose_iterations)
            assignment = assignment.with_state_poses(state, refined.rotations, refined.shifts_px, rows)
            made.append(reconstruction(at_poses(problem, assignment, rows, wide), torch.ones_like(wide.weight), whole))
        maps, masks = made, masks_of(problem, made)
        fsc = masked_fsc(torch.stack(maps).cpu().numpy(), masks[0].cpu().numpy(), draws=1).corrected
        reached = reached_shell(fsc, wide.radius, tuning.min_fsc)
        is_last = max_shell in (before, nyquist)
        before, max_shell = max_shell, float(min(nyquist, max(max_shell, reached + tuning.next_shells)))
        if is_last and max_shell == before:
            break
    return assignment


def masks_of(problem: Problem, maps: list[Tensor]) -> list[Tensor]:
    """``particle_masks`` of the maps of two halves, in the problem's mask."""
    own = mask_in_box(problem.mask, len(maps[0])).cpu().numpy()
    masks = particle_masks(torch.stack(maps).cpu().numpy(), own, bool(problem.settings.mask))
    return [torch.from_numpy(mask).to(maps[0]) for mask in masks]


def particle_masks(half_maps: np.ndarray, own: np.ndarray, is_given: bool) -> list[np.ndarray]:
    """Masks ``(d, d, d)`` about the particle of half maps ``(2, d, d, d)``: of their mean, and of each.

    They lie within ``own``, which they are where it is given. Of the other half map only the FSC counts in a half's
    mask: how far the map is low-passed before its mask is made.
    """
    if is_given:
        return [own] * 3
    fsc = fourier_shell_correlation(*half_maps)
    return [own * mask_of_map(map_ * own, fsc) for map_ in (half_maps.mean(0), *half_maps)]


def reached_shell(fsc: np.ndarray, radius: float, min_fsc: float) -> int:
    """First shell below ``min_fsc`` of maps of ``radius`` shells, or the last that they hold.

    Beyond it there is what their mask spreads of the shells within, which is alike in both halves.
    """
    held = fsc[1:int(radius) + 1]
    below = np.flatnonzero(held < min_fsc)
    return int(below[0]) + 1 if len(below) else len(held)


def rows_of_half(problem: Problem, assignment: Assignment, state: int, half: int) -> np.ndarray:
    """Row numbers of the images of a state that are in half set 1 or 2."""
    rows = assignment.members(state)
    return rows[problem.half_set[rows] == half]


def halves_at(problem: Problem, assignment: Assignment, state: int, shared: int) -> Halves:
    """Maps of one state at its poses as they are, to Nyquist."""
    rows = assignment.members(state)
    wide = make_band(problem.box_px, problem.box_px / 2, problem.device)
    whole = replace(problem, mask=torch.ones_like(problem.mask)).constraint

    def made(own: np.ndarray, constraint: MapConstraint) -> np.ndarray:
        map_: np.ndarray = reconstruction(at_poses(problem, assignment, own, wide), torch.ones_like(wide.weight),
                                          constraint).cpu().numpy()
        return map_

    return Halves(np.stack([made(rows_of_half(problem, assignment, state, half), whole) for half in HALF_SETS]),
                  made(rows[problem.half_set[rows] > 0], problem.constraint), shared)
