"""Who is where: one state, and the assignment of all images to states."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ..physics.map_resize import resized_maps
from ..runtime.step_store import stored


@stored
@dataclass(frozen=True)
class State:
    """One state: its images (row numbers of the data), their poses and its map."""

    rows: np.ndarray  # (n,) int64
    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    map: Tensor  # (d, d, d)

    def part(self, chosen: np.ndarray) -> State:
        """The same state with some of its images (mask)."""
        at = torch.from_numpy(np.flatnonzero(chosen)).to(self.rotations.device)
        return State(self.rows[chosen], self.rotations[at], self.shifts_px[at], self.map)


@stored
@dataclass(frozen=True)
class Assignment:
    """State of every image, its pose in every state, and the maps. Never changed: ``with_...`` make another one."""

    state_of: np.ndarray  # (n,) int64
    log_posterior: np.ndarray  # (n, c) float32, natural; probabilities would be 0 where two others must be compared
    rotations: Tensor  # (n, c, 3, 3)
    shifts_px: Tensor  # (n, c, 2)
    maps: Tensor  # (c, d', d', d') in the working box of their band
    noise: Tensor  # (d//2 + 1,) variance per coefficient
    aside: np.ndarray  # (n,) bool, images of no state (``junk``); their class is the most probable one

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.maps)

    @property
    def n_in_states(self) -> int:
        """Images that are not set aside."""
        return int((~self.aside).sum())

    def poses(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rotations and shifts of images in the frame of their own state."""
        at, own = torch.from_numpy(rows), torch.from_numpy(self.state_of[rows])
        return self.rotations[at, own], self.shifts_px[at, own]

    def members(self, state: int) -> np.ndarray:
        """Row numbers of the images of a state."""
        return np.flatnonzero((self.state_of == state) & ~self.aside)

    def may_belong(self, min_posterior: float) -> np.ndarray:
        """Whether each image may belong to each state ``(n, c)`` bool: its probability / that of the likeliest."""
        with np.errstate(divide="ignore"):
            return self.log_posterior >= self.log_posterior.max(1, keepdims=True) + np.log(min_posterior)

    def sizes(self) -> np.ndarray:
        """Images of each state ``(c,)``."""
        return np.bincount(self.state_of[~self.aside], minlength=self.n_states)

    def states(self) -> list[State]:
        """All states, each with its own images."""
        return [State(rows, *self.poses(rows), self.maps[state])
                for state, rows in enumerate(map(self.members, range(self.n_states)))]

    def with_poses(self, rows: np.ndarray, rotations: Tensor, shifts_px: Tensor) -> Assignment:
        """Some images at other poses in all states, ``(m, c, 3, 3)`` and ``(m, c, 2)``."""
        at = torch.from_numpy(rows).to(self.rotations.device)
        return replace(self, rotations=self.rotations.index_copy(0, at, rotations),
                       shifts_px=self.shifts_px.index_copy(0, at, shifts_px))

    def with_state_poses(self, state: int, rotations: Tensor, shifts_px: Tensor, rows: np.ndarray | None = None
                         ) -> Assignment:
        """Images, all or some, at other poses in one state, ``(m, 3, 3)`` and ``(m, 2)``."""
        at = slice(None) if rows is None else torch.from_numpy(rows).to(self.rotations.device)
        all_rotations, all_shifts_px = self.rotations.clone(), self.shifts_px.clone()
        all_rotations[at, state], all_shifts_px[at, state] = rotations, shifts_px
        return replace(self, rotations=all_rotations, shifts_px=all_shifts_px)

    def with_map(self, state: int, map_: Tensor) -> Assignment:
        """One state with another map, in whatever box."""
        maps = self.maps.clone()
        maps[state] = resized_maps(map_, maps.shape[-1])
        return replace(self, maps=maps)

    def with_states(self, rows: np.ndarray, log_posterior: np.ndarray) -> Assignment:
        """Some images in the states that are the most probable by ``log_posterior`` (m, c)."""
        of_all, state_of = self.log_posterior.copy(), self.state_of.copy()
        of_all[rows] = log_posterior
        state_of[rows] = of_all[rows].argmax(1)
        return replace(self, state_of=state_of, log_posterior=of_all)

    def with_junk(self, aside: np.ndarray) -> Assignment:
        """Images ``(n,)`` bool set aside, and no others."""
        return replace(self, aside=aside)

    def without(self, state: int) -> Assignment:
        """A state dissolved: its images go to the most probable of the others."""
        kept = [k for k in range(self.n_states) if k != state]
        log_posterior = self.log_posterior[:, kept]
        log_posterior = log_posterior - logsumexp(log_posterior, axis=1, keepdims=True)
        state_of = np.where(self.state_of == state, log_posterior.argmax(1), self.state_of - (self.state_of > state))
        return Assignment(state_of, log_posterior, self.rotations[:, kept], self.shifts_px[:, kept], self.maps[kept],
                          self.noise, self.aside)

    def without_small(self, min_state: int) -> Assignment:
        """States below ``min_state`` images dissolved, the least one first; one state always stays."""
        left = self
        while left.n_states > 1 and left.sizes().min() < min_state:
            left = left.without(int(left.sizes().argmin()))
        return left
