"""Who is where: one state, and the assignment of all images to states."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..runtime.step_store import stored


@stored
@dataclass
class State:
    """One class: its images (row numbers of the data), their poses and its map."""

    rows: np.ndarray  # (n,) int64
    A: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    volume: Tensor  # (d, d, d)

    def part(self, chosen: np.ndarray) -> State:
        """The same state with some of its images (mask)."""
        at = torch.from_numpy(np.flatnonzero(chosen)).to(self.A.device)
        return State(self.rows[chosen], self.A[at], self.shifts_px[at], self.volume)


@stored
@dataclass
class Assignment:
    """Class of every image, its pose in every class, and the maps."""

    class_: np.ndarray  # (n,) int64
    log_posterior: np.ndarray  # (n, c) float32, natural; probabilities would be 0 where two others must be compared
    A: Tensor  # (n, c, 3, 3)
    shifts_px: Tensor  # (n, c, 2)
    volumes: Tensor  # (c, d, d, d)
    noise: Tensor  # (d//2 + 1,) variance per coefficient
    aside: np.ndarray  # (n,) bool, images of no state (``junk``); their class is the most probable one

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.volumes)

    def poses(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rotations and shifts of images in the frame of their own class."""
        at, own = torch.from_numpy(rows), torch.from_numpy(self.class_[rows])
        return self.A[at, own], self.shifts_px[at, own]

    def members(self, c: int) -> np.ndarray:
        """Row numbers of class c."""
        return np.flatnonzero((self.class_ == c) & ~self.aside)

    def sizes(self) -> np.ndarray:
        """Images of each class ``(c,)``."""
        return np.bincount(self.class_[~self.aside], minlength=self.n_classes)

    def without(self, c: int) -> Assignment:
        """Class c dissolved: its images go to the most probable of the others."""
        kept = [k for k in range(self.n_classes) if k != c]
        log_posterior = self.log_posterior[:, kept]
        class_ = np.where(self.class_ == c, log_posterior.argmax(1), self.class_ - (self.class_ > c))
        return Assignment(class_, log_posterior, self.A[:, kept], self.shifts_px[:, kept], self.volumes[kept],
                          self.noise, self.aside)

    def without_small(self, smallest: int) -> Assignment:
        """Classes below ``smallest`` images dissolved, the least one first; one class always stays."""
        found = self
        while found.n_classes > 1 and found.sizes().min() < smallest:
            found = found.without(int(found.sizes().argmin()))
        return found
