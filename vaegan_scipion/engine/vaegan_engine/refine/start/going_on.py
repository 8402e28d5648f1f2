"""How long a start goes on: as many parts of its steps as unseen images say are worth it."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..tuning import TUNING, StartTuning


def is_plainly_better(first: Tensor, second: Tensor, tuning: StartTuning = TUNING.start) -> bool:
    """Whether log likelihoods (n,) of the same unseen images are better, by ``plain_errors`` errors of their mean."""
    gain = first - second
    return float(gain.mean()) > tuning.plain_errors * float(gain.std()) / len(gain) ** 0.5


def split_steps(n: int, n_parts: int) -> list[int]:
    """``n`` steps in at most so many parts, none of them empty."""
    edges = np.linspace(0, n, min(n_parts, n) + 1).round().astype(int)
    return [int(n_steps) for n_steps in np.diff(edges)]


@dataclass(frozen=True)
class GoingOn:
    """What goes on: its name, the part of the steps that was enough for one map, and what it must not be far behind."""

    name: str
    effort: float = 1.0
    rival: list[Tensor] = field(default_factory=list)  # (n,) of every unseen image after the same parts

    def is_enough(self, each: list[Tensor], tuning: StartTuning) -> bool:
        """Whether unseen images, after some parts, say that another one is not worth its time."""
        part = len(each) - 1
        if part < len(self.rival) and is_plainly_better(self.rival[part], each[part], tuning):
            return True
        if part == 0:
            return False
        gain = float((each[part] - each[part - 1]).mean())
        return (gain < tuning.min_part_gain * float(each[part].mean())
                or not is_plainly_better(each[part], each[part - 1], tuning))
