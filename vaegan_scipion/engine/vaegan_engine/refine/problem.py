"""What a refinement is given, and where it writes what it does: the two arguments of almost everything here."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..contract.settings import StatesRun
from ..physics.map_constraint import MapConstraint
from ..physics.symmetry import group_of
from ..reconstruction.images import Images
from ..reconstruction.pose_search import PoseGrid
from ..runtime.journal import Journal
from ..runtime.step_store import Checkpoints
from .costs import STEP, StepClock
from .tuning import TUNING, RefineTuning

T = TypeVar("T")


@dataclass(frozen=True)
class GivenPoses:
    """Poses that the particles came with; row i of both is one image."""

    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)

    def part(self, rows: np.ndarray) -> GivenPoses:
        """Those of some images."""
        at = torch.from_numpy(rows).to(self.rotations.device)
        return GivenPoses(self.rotations[at], self.shifts_px[at])


@dataclass(frozen=True)
class Problem:
    """Images and all that is asked of them. What is found out on the way (contrast, mask) makes a new Problem."""

    images: Images
    settings: StatesRun  # every resolution given
    mask: Tensor  # (d, d, d) of all maps
    half_set: np.ndarray  # (n,) of 1 and 2
    particle_radius_frac: float  # of the box, of the circle around the particle
    max_shift_px: float  # from the centre, along x and y
    tuning: RefineTuning = TUNING
    poses: GivenPoses | None = None  # where they are given, they are refined and not searched
    twin_id: np.ndarray | None = None  # (n,) the same of all rows of one image; None: no image has two

    def __len__(self) -> int:
        return len(self.images)

    @property
    def constraint(self) -> MapConstraint:
        """What every map is held to: the mask, and the symmetry that was asked for."""
        return MapConstraint(self.mask, group_of(self.settings.symmetry).to(self.device))

    @property
    def min_state(self) -> int:
        """Images of the smallest state."""
        return int(self.settings.smallest_frac * len(self.images))

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.settings.compute.seed

    @property
    def box_px(self) -> int:
        """Side of the images."""
        return self.images.box_px

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.images.device

    @property
    def image_id(self) -> np.ndarray:
        """Of every row a number ``(n,)`` that all rows of its image have."""
        return np.arange(len(self)) if self.twin_id is None else self.twin_id

    @property
    def first_of_same(self) -> np.ndarray:
        """Of every image the first row ``(n,)`` that has it: its own, where no image has two."""
        _, first, group = np.unique(self.image_id, return_index=True, return_inverse=True)
        return np.asarray(first[group])

    def distinct(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in ``rows`` (m,) that hold an image for the first time ``(k,)``, and of every row its place in these.

        Copies of an image are one piece of evidence.
        """
        _, first, group = np.unique(self.image_id[rows], return_index=True, return_inverse=True)
        order = np.argsort(first)
        return first[order], np.argsort(order)[group]

    def pose_grid(self, radius: float) -> PoseGrid:
        """The poses that a search within ``radius`` shells tries."""
        search = self.tuning.search
        return PoseGrid(radius, search.n_rotations, self.max_shift_px, search.finer_shifts)

    def max_shell(self, round_number: int) -> float:
        """Band in which states are told apart in a round: finer from the second on, at most Nyquist."""
        finer = self.tuning.rounds.finer_shells if round_number else 0.0
        return min(self.settings.state_shells + finer, self.box_px / 2)

    def with_contrast(self, contrast: np.ndarray | None, spread: float) -> Problem:
        """The same with contrasts ``(n,)`` of the particles and their standard deviation."""
        return replace(self, images=replace(self.images, contrast=contrast, contrast_spread=spread))

    def part(self, rows: np.ndarray) -> Problem:
        """Some of the images, in memory."""
        return replace(self, images=self.images.part(rows), half_set=self.half_set[rows],
                       poses=None if self.poses is None else self.poses.part(rows),
                       twin_id=None if self.twin_id is None else self.twin_id[rows])


@dataclass(frozen=True)
class Recorder:
    """Where a refinement writes: its journal for people and its finished steps for going on after a stop."""

    journal: Journal
    steps: Checkpoints
    clock: StepClock = field(default_factory=StepClock)

    def stage(self, name: str, text: str) -> None:
        """A new stage begins."""
        self.journal.stage(name, text)

    def note(self, **values: Any) -> None:
        """One line of ``log.jsonl``."""
        self.journal.note(**values)

    def step(self, name: str, make: Callable[[], T], rng: torch.Generator | None = None) -> T:
        """The value of a step, read where it was finished before, else made and stored (``Checkpoints.step``)."""

        def measured() -> T:
            value, cost = self.clock.measured(make)
            self.note(stage=STEP, step=name, took_seconds=round(cost.seconds, 3), image_poses=cost.image_poses)
            return value

        return self.steps.step(name, measured, rng)
