"""Each state alone: its motion, its half maps, its variation."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...data.particles import drawn_half_sets, with_copies_together
from ...physics.map_resize import resized_maps
from ...runtime.progress import progress_bar
from ..problem import Problem, Recorder
from ..states import Assignment
from .half_maps import HALF_SETS, Halves, refine_halves, rows_of_half, smaller_halves
from .motion import Motion, motion_of
from .moving_poses import follow_motion


def follow_motions(problem: Problem, assignment: Assignment, recorder: Recorder) -> tuple[Assignment, list[bool]]:
    """Poses and maps of the states that move, searched along their motion; and which states do."""
    max_shell = problem.max_shell(1)

    def report(agreement: float, n_changed: int) -> None:
        recorder.note(stage="follow", agreement=agreement, changed=n_changed)
        print(f"  motion: halves agree by {agreement:.2f}, {n_changed} images in another pose", flush=True)

    def of_state(before: Assignment, state: int) -> tuple[Tensor, Tensor, Tensor, bool]:
        after = follow_motion(problem, before, state, max_shell, report)
        return after.rotations[:, state], after.shifts_px[:, state], after.maps[state], after is not before

    moving = []

    recorder.stage("follow", f"{assignment.n_states} states: does one move?")
    with progress_bar(assignment.n_in_states, "motions", "images") as bar:
        for state in range(assignment.n_states):
            rotations, shifts_px, map_, moves = recorder.step(f"follow_{state:02d}",
                                                              partial(of_state, assignment, state))
            assignment = assignment.with_state_poses(state, rotations, shifts_px).with_map(state, map_)
            moving.append(moves)
            bar.update(len(assignment.members(state)))
    return assignment, moving


def half_sets_of_all(problem: Problem, assignment: Assignment) -> np.ndarray:
    """Half sets ``(n,)`` that every state has both of: drawn anew where those given go with a state.

    Rows of one image go into one half, that of the first of them.
    """
    half_set = with_copies_together(problem.half_set, problem.image_id)
    parts, min_frac = smaller_halves(assignment, half_set), problem.tuning.half_maps.min_half_frac
    if parts.min() >= min_frac:
        return half_set
    print(f"half sets of the particles: state {int(parts.argmin()) + 1} has {100 * parts.min():.1f} % of its images in "
          f"the smaller one, at least {100 * min_frac:g} % is asked for: NOT USED, both halves are drawn anew "
          "for all states", flush=True)
    return drawn_half_sets(problem.image_id)


def refine_details(problem: Problem, assignment: Assignment, moving: list[bool], recorder: Recorder
                   ) -> tuple[list[Halves], Assignment]:
    """Two halves of every state, refined apart; and their poses. Those of ``moving`` states (c,) are not searched."""

    def of_state(before: Assignment, state: int) -> tuple[Halves, Tensor, Tensor]:
        halves, after = refine_halves(problem, before, state, search=not moving[state])
        return halves, after.rotations[:, state], after.shifts_px[:, state]

    recorder.stage("detail", f"{assignment.n_states} states, two halves each")
    halves_of = []
    with progress_bar(assignment.n_in_states, "detail", "images") as bar:
        for state in range(assignment.n_states):
            halves, rotations, shifts_px = recorder.step(f"detail_{state:02d}", partial(of_state, assignment, state))
            assignment = assignment.with_state_poses(state, rotations, shifts_px)
            halves_of.append(halves)
            bar.update(len(assignment.members(state)))
    return halves_of, assignment


def find_motions(problem: Problem, assignment: Assignment, recorder: Recorder) -> list[Motion | None]:
    """Continuous variation of every state; None for small ones."""
    motions: list[Motion | None] = []
    recorder.stage("variation", f"{assignment.n_states} states")
    with progress_bar(assignment.n_in_states, "variation", "images") as bar:
        for state in range(assignment.n_states):
            n, motion = len(assignment.members(state)), None
            smaller = min(len(rows_of_half(problem, assignment, state, half)) for half in HALF_SETS)
            if smaller >= problem.tuning.motion.min_images:
                motion = recorder.step(f"motion_{state:02d}", partial(motion_of, problem, assignment, state,
                                                                      problem.max_shell(1)))
                motion = replace(motion, maps=resized_maps(torch.from_numpy(motion.maps), problem.box_px).numpy())
                recorder.note(stage="variation", state=state, n_images=n, agreement=motion.agreement)
            motions.append(motion)
            bar.update(n)
    return motions
