"""All states in one frame and of one hand, so that their maps can be laid over each other.

Each state's map is found in a frame of its own, and its hand is anyone's. The map of every other state is aligned
to that of the largest (``map_alignment``: rotation, shift, mirror image), its poses are carried over and its maps are
made anew from the images at the new poses: nothing is interpolated. The hand of all of them together stays
undetermined. A symmetric map is turned only so far as its axes allow. States at poses that were given stay where they
are: these are of one frame, and an alignment would follow what moves.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch

from ...physics.image_alignment import correlation
from ...physics.map_alignment import align_map, carried, with_axes
from ...runtime.step_store import stored
from ..problem import Problem
from ..states import Assignment
from .half_maps import Halves, halves_at


@stored
@dataclass(frozen=True)
class FrameFit:
    """How a state's map came into the frame of the largest state."""

    correlation: float  # of the two maps, 1 for the largest state itself
    mirrored: bool


def lay_in_one_frame(problem: Problem, assignment: Assignment, halves: list[Halves]
                     ) -> tuple[Assignment, list[Halves], list[FrameFit]]:
    """The assignment and the maps of all states in the frame of the largest one, or in that of the given poses."""
    largest = int(assignment.sizes().argmax())
    if problem.poses is not None:
        return assignment, halves, [FrameFit(correlation(one.full, halves[largest].full), False) for one in halves]
    halves_there, fits = list(halves), [FrameFit(1.0, False)] * assignment.n_states
    for state in range(assignment.n_states):
        if state == largest:
            continue
        aligned = align_map(halves[state].full, halves[largest].full, problem.images.pixel_size_ang)
        aligned = with_axes(aligned, problem.settings.symmetry)
        poses = carried(assignment.rotations[:, state], assignment.shifts_px[:, state], aligned, forward=False)
        assignment = assignment.with_state_poses(state, *poses)
        halves_there[state] = halves_at(problem, assignment, state, halves[state].shared_shell)
        assignment = assignment.with_map(state, torch.from_numpy(halves_there[state].full).to(assignment.maps))
        fits[state] = FrameFit(float(aligned.correlation), bool(aligned.mirrored))
    return assignment, halves_there, fits
