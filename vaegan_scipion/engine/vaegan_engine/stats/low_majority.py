"""Two groups of values of which the lower one is the larger: what a median and a width about it do not see."""
from __future__ import annotations

import numpy as np

from .density_valley import valley_ratio

MAX_VALLEY = 0.4  # density between the groups / at them; one group, skewed too, has 0.7 to 1
LEAST_POINTS, LEAST_FRAC = 20, 0.1  # of the upper group: fewer are stragglers of one


def best_cut(values: np.ndarray) -> float:
    """Where values ``(n,)`` are cut into two groups of least variance within (Otsu 1979): between two values.

    The variance between k low values of sum S_k and the n - k others is ``k (n - k) (S_k / k - (S - S_k) / (n - k))^2``
    over n^2, the largest one is taken.
    """
    ordered = np.sort(values)
    n, low = len(ordered), np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    between = low * (n - low) * (sums[:-1] / low - (sums[-1] - sums[:-1]) / (n - low)) ** 2
    at = int(np.argmax(between))
    return float(0.5 * (ordered[at] + ordered[at + 1]))


def low_majority(values: np.ndarray) -> np.ndarray:
    """The lower of two groups of values ``(n,)`` bool, where more than half are in it and a valley parts them."""
    if len(values) < 2 * LEAST_POINTS or np.ptp(values) <= 0:
        return np.zeros(len(values), bool)
    is_low: np.ndarray = values < best_cut(values)
    n_high = int((~is_low).sum())
    is_larger = n_high < 0.5 * len(values) and n_high >= max(LEAST_POINTS, LEAST_FRAC * len(values))
    if not is_larger or valley_ratio(values[is_low][:, None], values[~is_low][:, None]) > MAX_VALLEY:
        return np.zeros(len(values), bool)
    return is_low
