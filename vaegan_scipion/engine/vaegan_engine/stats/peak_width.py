"""Where values of one kind lie, among others that all lie below: the peak of their density, and their width."""
from __future__ import annotations

import numpy as np

_MAD = 1.4826  # median absolute deviation to standard deviation of a normal distribution
_BINS = 400
_NO_SPREAD = 1e-3  # of the peak: below it the strengths are the values
_TURNS = 4
_SILVERMAN = 0.9  # of the width times n^-0.2: bandwidth of the kernel


def peak_and_width(values: np.ndarray) -> tuple[float, float]:
    """Highest point of the density of values ``(n,)``, and their standard deviation without what lies below them.

    The density is a sum of normal kernels (Silverman's bandwidth) on even bins. Half widths are ``1.4826`` times the
    medians of ``|v - peak|`` above and below. The squared width is the mean of their squares, that of the lower half
    never above that of the upper: what is skewed to high values keeps its width, what pulls values down, as junk and
    wrong poses do, adds none.
    """
    from scipy.ndimage import gaussian_filter1d

    low, middle, high = np.percentile(values, (1, 50, 99))
    deviation = _MAD * float(np.median(np.abs(values - middle)))
    if deviation <= 0:
        return float(middle), 0.0
    counts, edges = np.histogram(values, _BINS, (low, high))
    bandwidth = _SILVERMAN * deviation * len(values) ** -0.2
    density = gaussian_filter1d(counts.astype(np.float64), bandwidth * _BINS / (high - low), mode="constant")
    at = int(np.argmax(density))
    peak = float(0.5 * (edges[at] + edges[at + 1]))
    above, below = values[values > peak] - peak, peak - values[values < peak]
    upper, lower = (_MAD * float(np.median(half)) if len(half) else 0.0 for half in (above, below))
    return peak, (0.5 * (upper ** 2 + min(upper, lower) ** 2)) ** 0.5


def symmetric_strengths(values: np.ndarray, variance: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """``(n,)`` of values that scatter by a factor and by noise: ``y = arsinh(tau v / s) / tau``, v over their peak.

    Its slope is ``1 / sqrt(s^2 + tau^2 v^2)``: log-normal values of spread tau with noise of variance s^2, the median
    of ``variance`` (n,), have y of width about 1 and no skew. Without a spread of their own y is ``v / s``. Peak, tau
    and s are those of the ``typical`` ones (n,) bool; tau is changed until the width of their y is 1.
    """
    peak, width = peak_and_width(values[typical])
    noise = float(np.sqrt(np.median(variance[typical])))
    if peak <= 0:  # noise is all there is
        return values / noise
    tau = float(np.sqrt(max(width ** 2 - noise ** 2, 0.0))) / peak
    for _ in range(_TURNS):
        if tau < _NO_SPREAD:
            return values / noise
        strength = np.arcsinh(tau * values / noise) / tau
        tau *= peak_and_width(strength[typical])[1]
    return strength
