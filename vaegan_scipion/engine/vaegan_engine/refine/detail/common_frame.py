"""All states in one frame and of one hand, so that their maps can be laid over each other.

Each state's map is found in a frame of its own, and its hand is anyone's. The map of every other state is aligned
to that of the largest (``map_alignment``: rotation, shift, mirror image), its poses are carried over and its maps are
made anew from the images at the new poses: nothing is interpolated. A state that fits the largest in both hands alike,
because they share too little, is aligned to those that lie in the frame already, and is laid on the one that it
resembles most. The hand of all of them together stays undetermined. A symmetric map is turned only so far as its axes
allow. States at poses that were given stay where they are: these are of one frame, and an alignment would follow what
moves.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ...physics.image_alignment import correlation
from ...physics.map_alignment import AlignedMap, align_map, carried, with_axes
from ...runtime.step_store import stored
from ..problem import Problem
from ..states import Assignment
from .half_maps import Halves, halves_at

HANDS_APART = 0.05  # correlation of the better hand less that of the other: below it nothing tells them apart


@stored
@dataclass(frozen=True)
class FrameFit:
    """How a state's map came into the common frame."""

    correlation: float  # with the map of the state that it was laid on, 1 for the largest state itself
    mirrored: bool
    onto: int  # the state that it was laid on
    other_hand: float | None = None  # the best correlation in the other hand, where both were tried
    hand_open: bool = False  # nothing tells its hand from the mirror image, or that of the state that it was laid on


class Alignment(NamedTuple):
    """A state's map aligned to that of the state ``onto``."""

    aligned: AlignedMap
    onto: int

    @property
    def hands_alike(self) -> bool:
        """Whether nothing tells its hand from the mirror image; False where one hand was tried."""
        return self.aligned.correlation - self.aligned.other_hand < HANDS_APART

    def fit(self, onto_open: bool) -> FrameFit:
        """How well it fits there; ``onto_open``: the hand of the state there is open."""
        one = self.aligned
        other_hand = None if math.isnan(one.other_hand) else float(one.other_hand)
        return FrameFit(float(one.correlation), bool(one.mirrored), self.onto, other_hand,
                        self.hands_alike or onto_open)


class Laid(NamedTuple):
    """A state in the common frame."""

    halves: Halves
    fit: FrameFit


def lay_in_one_frame(problem: Problem, assignment: Assignment, halves: list[Halves]
                     ) -> tuple[Assignment, list[Halves], list[FrameFit]]:
    """The assignment and the maps of all states in the frame of the largest one, or in that of the given poses."""
    largest = int(assignment.sizes().argmax())
    if problem.poses is not None:
        return assignment, halves, [FrameFit(correlation(one.full, halves[largest].full), False, largest)
                                    for one in halves]
    voxel_size_ang = problem.images.pixel_size_ang
    laid = {largest: Laid(halves[largest], FrameFit(1.0, False, largest))}
    direct = {state: Alignment(align_map(halves[state].full, halves[largest].full, voxel_size_ang), largest)
              for state in range(assignment.n_states) if state != largest}
    for state in sorted(direct, key=lambda state: (direct[state].hands_alike, -direct[state].aligned.correlation)):
        found = direct[state]
        if found.hands_alike:
            others = [Alignment(align_map(halves[state].full, one.halves.full, voxel_size_ang), other)
                      for other, one in laid.items() if other != largest]
            found = max([found, *others], key=lambda one: one.aligned.correlation)
        aligned = with_axes(found.aligned, problem.settings.symmetry)
        poses = carried(assignment.rotations[:, state], assignment.shifts_px[:, state], aligned, forward=False)
        assignment = assignment.with_state_poses(state, *poses)
        laid[state] = Laid(halves_at(problem, assignment, state, halves[state].shared_shell),
                           found.fit(laid[found.onto].fit.hand_open))
        assignment = assignment.with_map(state, torch.from_numpy(laid[state].halves.full).to(assignment.maps))
    in_order = [laid[state] for state in range(assignment.n_states)]
    return assignment, [one.halves for one in in_order], [one.fit for one in in_order]
