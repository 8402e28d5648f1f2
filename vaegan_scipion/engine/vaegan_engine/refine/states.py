"""Who is where: one state, and the assignment of all images to states."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..physics.map_resize import resized_maps
from ..runtime.step_store import stored


@stored
@dataclass(frozen=True)
class State:
    """One state: its images (row numbers of the data), their poses and its map."""

    rows: np.ndarray  # (n,) int64
    A: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    volume: Tensor  # (d, d, d)

    def part(self, chosen: np.ndarray) -> State:
        """The same state with some of its images (mask)."""
        at = torch.from_numpy(np.flatnonzero(chosen)).to(self.A.device)
        return State(self.rows[chosen], self.A[at], self.shifts_px[at], self.volume)


@stored
@dataclass(frozen=True)
class Assignment:
    """State of every image, its pose in every state, and the maps. Never changed: ``with_...`` make another one."""

    class_: np.ndarray  # (n,) int64
    log_posterior: np.ndarray  # (n, c) float32, natural; probabilities would be 0 where two others must be compared
    A: Tensor  # (n, c, 3, 3)
    shifts_px: Tensor  # (n, c, 2)
    volumes: Tensor  # (c, d', d', d') in the working box of their band
    noise: Tensor  # (d//2 + 1,) variance per coefficient
    aside: np.ndarray  # (n,) bool, images of no state (``junk``); their class is the most probable one

    @property
    def n_classes(self) -> int:
        """Number of states."""
        return len(self.volumes)

    def poses(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rotations and shifts of images in the frame of their own state."""
        at, own = torch.from_numpy(rows), torch.from_numpy(self.class_[rows])
        return self.A[at, own], self.shifts_px[at, own]

    def members(self, state: int) -> np.ndarray:
        """Row numbers of the images of a state."""
        return np.flatnonzero((self.class_ == state) & ~self.aside)

    def may_belong(self, min_posterior: float) -> np.ndarray:
        """Whether each image may belong to each state ``(n, c)`` bool: its probability / that of the likeliest."""
        with np.errstate(divide="ignore"):
            return self.log_posterior >= self.log_posterior.max(1, keepdims=True) + np.log(min_posterior)

    def sizes(self) -> np.ndarray:
        """Images of each state ``(c,)``."""
        return np.bincount(self.class_[~self.aside], minlength=self.n_classes)

    def states(self) -> list[State]:
        """All states, each with its own images."""
        return [State(rows, *self.poses(rows), self.volumes[state])
                for state, rows in enumerate(map(self.members, range(self.n_classes)))]

    def with_poses(self, rows: np.ndarray, A: Tensor, shifts_px: Tensor) -> Assignment:
        """Some images at other poses in all states, ``(m, c, 3, 3)`` and ``(m, c, 2)``."""
        at = torch.from_numpy(rows).to(self.A.device)
        return replace(self, A=self.A.index_copy(0, at, A), shifts_px=self.shifts_px.index_copy(0, at, shifts_px))

    def with_state_poses(self, state: int, A: Tensor, shifts_px: Tensor, rows: np.ndarray | None = None) -> Assignment:
        """Images, all or some, at other poses in one state, ``(m, 3, 3)`` and ``(m, 2)``."""
        at = slice(None) if rows is None else torch.from_numpy(rows).to(self.A.device)
        all_A, all_shifts_px = self.A.clone(), self.shifts_px.clone()
        all_A[at, state], all_shifts_px[at, state] = A, shifts_px
        return replace(self, A=all_A, shifts_px=all_shifts_px)

    def with_map(self, state: int, map_: Tensor) -> Assignment:
        """One state with another map, in whatever box."""
        volumes = self.volumes.clone()
        volumes[state] = resized_maps(map_, volumes.shape[-1])
        return replace(self, volumes=volumes)

    def with_states(self, rows: np.ndarray, log_posterior: np.ndarray) -> Assignment:
        """Some images in the states that are the most probable by ``log_posterior`` (m, c)."""
        of_all, class_ = self.log_posterior.copy(), self.class_.copy()
        of_all[rows] = log_posterior
        class_[rows] = of_all[rows].argmax(1)
        return replace(self, class_=class_, log_posterior=of_all)

    def with_junk(self, aside: np.ndarray) -> Assignment:
        """Images ``(n,)`` bool set aside, and no others."""
        return replace(self, aside=aside)

    def without(self, state: int) -> Assignment:
        """A state dissolved: its images go to the most probable of the others."""
        kept = [k for k in range(self.n_classes) if k != state]
        log_posterior = self.log_posterior[:, kept]
        class_ = np.where(self.class_ == state, log_posterior.argmax(1), self.class_ - (self.class_ > state))
        return Assignment(class_, log_posterior, self.A[:, kept], self.shifts_px[:, kept], self.volumes[kept],
                          self.noise, self.aside)

    def without_small(self, min_state: int) -> Assignment:
        """States below ``min_state`` images dissolved, the least one first; one state always stays."""
        left = self
        while left.n_classes > 1 and left.sizes().min() < min_state:
            left = left.without(int(left.sizes().argmin()))
        return left
