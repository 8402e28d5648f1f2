"""How unlike its class average an image is, over what is to be expected of a particle, and the limit of it.

A particle leaves over noise and what its view, state and pose have beyond the average. The latter is seen through the
image's own CTF and as strongly as its contrast r (1 = typical of the class): of a shell

    <|X - a C A|^2> = n + b sum w C^2 + c r^2 sum w C^2,    n, b, c >= 0,

both terms since at high signal the contrast follows the likeness: an image unlike its average has a lower one. The fit
has the least absolute deviations from all particles, so that the few that are none draw little.

The ratio to this, mean of the first shells, spreads by factors: views twice as far apart leave over four times as much.
So its logarithm is as wide above its median as below, where no junk is, and the limit is the median and some widths of
the lower side. What lies above it is left out and all is measured again.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from ..reconstruction.images import spread_rows

_LOWER_PERCENT = 15.87  # of a normal distribution lies more than one standard deviation below its middle
_PASSES, _FIT_ROUNDS, _FIT_IMAGES = 3, 12, 20_000
_LEAST_DEVIATION = 0.02  # of what is expected: nearer, deviations weigh as squares


class Unlike(NamedTuple):
    """Misfit ``(n,)`` over what is expected, and its limit."""

    misfit: np.ndarray
    limit: float


def compared(misfit: np.ndarray, power: np.ndarray, contrast: np.ndarray, plain: np.ndarray, widths: float) -> Unlike:
    """Misfit of n images from that of shells ``(n, s)``, ``sum w C^2`` ``(n, s)``, contrasts and which are plain (n,).

    ``widths`` of the lower side from the median to the limit.
    """
    used, ratio, limit = plain, np.ones(len(misfit)), np.inf
    for _ in range(_PASSES):
        ratio = (misfit / expected(misfit, power, contrast, used)).mean(1)
        low, middle = np.percentile(np.log(np.maximum(ratio[used], 1e-12)), (_LOWER_PERCENT, 50))
        limit = float(np.exp(middle + widths * (middle - low)))
        used = plain & (ratio <= limit)
    return Unlike(ratio, limit)


def expected(misfit: np.ndarray, power: np.ndarray, contrast: np.ndarray, used: np.ndarray) -> np.ndarray:
    """What particles have ``(n, s)``, by the module's equation fitted to some of them, ``used`` (n,)."""
    rows = np.flatnonzero(used)
    rows = rows[spread_rows(len(rows), _FIT_IMAGES)]
    made = np.empty(misfit.shape)
    for s in range(misfit.shape[1]):
        terms = np.stack((np.ones(len(misfit)), power[:, s], contrast ** 2 * power[:, s]), 1)
        made[:, s] = terms @ least_deviations(terms[rows], misfit[rows, s])
    return np.maximum(made, 1e-30)


def least_deviations(terms: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Factors ``(t,)``, none below 0, with the least sum of relative deviations of ``terms`` (n, t) from ``values``.

    Least squares in rounds, each weighted by the deviations that the last one left.
    """
    factors, weight = np.zeros(terms.shape[1]), np.ones(len(values))
    for _ in range(_FIT_ROUNDS):
        root = np.sqrt(weight)
        factors, _ = nnls(terms * root[:, None], values * root)
        made = np.maximum(terms @ factors, 1e-6 * np.median(values) + 1e-30)
        weight = 1 / (made * np.maximum(np.abs(values - made), _LEAST_DEVIATION * made))
        weight /= weight.max()
    return factors
