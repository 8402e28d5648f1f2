"""Detail from independent halves of a state, the band growing with their FSC.

Maps of a half set come only from that half's images and poses, after the joint maps were cut at the shell where the
halves begin (RELION's convention of a low-passed common start).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..physics.fourier_band import make_band
from ..physics.fsc import fourier_shell_correlation
from ..reconstruction.images import low_passed
from ..reconstruction.least_squares import residual_noise
from ..reconstruction.posed_images import Coefficients, PosedImages
from ..runtime.step_store import stored
from .assignment import state_map
from .problem import Problem
from .states import Assignment

HALF_SETS = 1, 2


def smaller_halves(assignment: Assignment, half_set: np.ndarray) -> np.ndarray:
    """Part of each state's images that are in its smaller half set ``(c,)``; ``half_set`` (n,) of 1 and 2."""
    second = np.array([np.mean(half_set[assignment.members(state)] == 2) for state in range(assignment.n_states)])
    return np.minimum(second, 1 - second)


@stored
@dataclass(frozen=True)
class Halves:
    """Maps of one state from two disjoint halves, and their FSC."""

    maps: np.ndarray  # (2, d, d, d) float32
    full: np.ndarray  # (d, d, d) float32, all images
    fsc: np.ndarray  # (d//2 + 1,)


def refine_halves(problem: Problem, assignment: Assignment, state: int) -> tuple[Halves, Assignment]:
    """Detail of one state: two halves refined apart, the band growing with their FSC; and their poses.

    The band of the next round reaches some shells past the FSC's fall below ``HalfMapTuning.min_fsc``, at most Nyquist.
    No round follows one at Nyquist, nor two of the same band.
    """
    tuning, nyquist = problem.tuning.half_maps, problem.box_px / 2
    start_shell = max_shell = problem.settings.state_shells
    before = 0.0
    members = [rows_of_half(problem, assignment, state, half) for half in HALF_SETS]
    maps = [low_passed(assignment.maps[state][None], start_shell)[0]] * 2
    for _ in range(tuning.rounds):
        band = make_band(problem.box_px, max_shell, problem.device)
        wide = make_band(problem.box_px, min(nyquist, max_shell + tuning.wider_shells), problem.device)
        made = []
        for rows, map_ in zip(members, maps, strict=True):
            images = PosedImages(Coefficients(problem.images, rows, band), *assignment.poses(rows))
            precision = band.weight / residual_noise(images, map_)[band.shell]
            refined, _ = images.refined(map_, precision, tuning.pose_iterations)
            assignment = assignment.with_state_poses(state, refined.rotations, refined.shifts_px, rows)
            made.append(state_map(problem, assignment, rows, wide, torch.ones_like(wide.weight))[0])
        maps = made
        fsc = fourier_shell_correlation(*(map_.cpu().numpy() for map_ in maps))
        reached = reached_shell(fsc, wide.radius, tuning.min_fsc)
        is_last = max_shell in (before, nyquist)
        before, max_shell = max_shell, float(min(nyquist, max(max_shell, reached + tuning.next_shells)))
        if is_last and max_shell == before:
            break
    return halves_at(problem, assignment, state), assignment


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


def halves_at(problem: Problem, assignment: Assignment, state: int) -> Halves:
    """Maps of one state at its poses as they are, to Nyquist."""
    rows = assignment.members(state)
    wide = make_band(problem.box_px, problem.box_px / 2, problem.device)
    flat = torch.ones_like(wide.weight)
    maps = [state_map(problem, assignment, rows_of_half(problem, assignment, state, half), wide, flat)[0].cpu().numpy()
            for half in HALF_SETS]
    full, _ = state_map(problem, assignment, rows[problem.half_set[rows] > 0], wide, flat)
    return Halves(np.stack(maps), full.cpu().numpy(), fourier_shell_correlation(*maps))
