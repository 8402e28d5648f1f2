"""What half maps claim against what they deserve.

Two half maps that hold the same signal and noise of their own agree, shell by shell, by ``FSC = r / (1 + r)``, r being
their ratio of signal to noise power. Against the truth, which has no noise, each of them has ``C = sqrt(r / (1 + r))``
(Rosenthal and Henderson, J. Mol. Biol. 333, 721, 2003). So the FSC that half maps deserve is ``C^2``. What they claim
beyond it is noise, or an error of the poses, that both have in common.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...contract.records import ClaimedFigures
from ...physics.fsc import fourier_shell_correlation


@dataclass(frozen=True)
class ClaimedFsc:
    """The FSC of two half maps and the one that they deserve, both ``(d//2 + 1,)``."""

    claimed: np.ndarray
    deserved: np.ndarray
    shared_shell: int = 0  # up to it the half maps have something in common but the particle: nothing is claimed there

    @property
    def excess(self) -> float:
        """Largest ``claimed - deserved`` over the shells from 1 to Nyquist that something is claimed of."""
        return _largest(self.claimed - self.deserved, max(1, self.shared_shell + 1))

    @property
    def excess_all_shells(self) -> float:
        """The same over all shells from 1, those that are drawn as unproven too."""
        return _largest(self.claimed - self.deserved, 1)

    def figures(self) -> ClaimedFigures:
        """For ``evaluation.json``."""
        return ClaimedFigures([float(x) for x in self.claimed], [float(x) for x in self.deserved], self.excess,
                              self.excess_all_shells)


def _largest(excess: np.ndarray, first: int) -> float:
    """Largest value from shell ``first`` on, 0 where none is above it."""
    return float(max(0.0, excess[first:].max(initial=0.0)))


def deserved_fsc(half_maps: tuple[np.ndarray, np.ndarray], truth: np.ndarray | None, mask: np.ndarray) -> np.ndarray:
    """``C^2`` per shell ``(d//2 + 1,)``: the mean over both half maps of their FSC with the truth, squared.

    ``half_maps`` and ``truth`` ``(d, d, d)`` in one frame, all multiplied by ``mask``; a negative FSC counts as 0. Of
    images without a particle there is no truth (None), and nothing is deserved.
    """
    if truth is None:
        return np.zeros(len(mask) // 2 + 1)
    against = [fourier_shell_correlation(half * mask, truth * mask) for half in half_maps]
    deserved: np.ndarray = np.mean([np.clip(curve, 0, None) ** 2 for curve in against], 0)
    return deserved
