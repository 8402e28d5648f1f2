"""Sums and maxima over the poses of images on a CPU, compiled; ``map_mixture`` holds the definitions.

Log likelihoods are arrays ``(n, s, c m)`` of n images, s shifts, c maps and m rotations, float32. Rows of one shift
and one class that lie far below the best pose are passed over.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..physics.compiled import compiled

_LANES = 16  # maxima that are taken side by side

@compiled
def _exponential(x: Any) -> Any:
    """``exp(x)`` for x from -30 to 0, to 3e-6 of itself: a polynomial at x / 32, squared five times."""
    one, x = np.float32(1.0), x * np.float32(1 / 32)
    y = one + x * (one + x * (np.float32(1 / 2) + x * (np.float32(1 / 6) + x * (
        np.float32(1 / 24) + x * (np.float32(1 / 120) + x * (np.float32(1 / 720) + x * np.float32(1 / 5040)))))))
    y = y * y
    y = y * y
    y = y * y
    y = y * y
    return y * y


@compiled
def finish_scores(scores: np.ndarray, power: np.ndarray, prior: Any, highest: np.ndarray) -> None:
    """Log likelihoods from the products B with templates of power P, in place, and the highest of every row.

    ``B - P / 2``, or ``1/2 max(B + l, 0)^2 / (P + l) - l / 2`` where the prior l is above 0. ``power`` (n, c m),
    ``highest`` (n, s, c).
    """
    n, n_shifts, n_maps = highest.shape
    m = scores.shape[2] // n_maps
    half, prior, nothing = np.float32(0.5), np.float32(prior), np.float32(0.0)
    lanes, own = np.empty(_LANES, np.float32), np.empty(m, np.float32)
    for i in range(n):
        for c in range(n_maps):
            if prior > 0:
                own[:] = half / (power[i, c * m:(c + 1) * m] + prior)
            else:
                own[:] = half * power[i, c * m:(c + 1) * m]
            for s in range(n_shifts):
                row = scores[i, s, c * m:(c + 1) * m]
                if prior > 0:
                    for j in range(m):
                        b = max(row[j] + prior, nothing)
                        row[j] = b * b * own[j] - half * prior
                else:
                    for j in range(m):
                        row[j] -= own[j]
                top, whole = row[0], m - m % _LANES
                lanes[:] = top
                for first in range(0, whole, _LANES):
                    for j in range(_LANES):
                        lanes[j] = row[first + j] if row[first + j] > lanes[j] else lanes[j]
                for j in range(_LANES):
                    top = max(top, lanes[j])
                for j in range(whole, m):
                    top = max(top, row[j])
                highest[i, s, c] = top


@compiled
def sum_poses(scores: np.ndarray, highest: np.ndarray, least: Any, best: np.ndarray, shift: np.ndarray,
              rotation: np.ndarray, sums: np.ndarray) -> None:
    """Best log likelihood per class ``(n, c)``, its shift and rotation, and the sum of ``exp(score - best)``.

    Scores more than ``-least`` below the best are left out.
    """
    n, n_shifts, n_maps = highest.shape
    m = scores.shape[2] // n_maps
    least = np.float32(least)
    for i in range(n):
        for c in range(n_maps):
            at = 0
            for s in range(1, n_shifts):
                if highest[i, s, c] > highest[i, at, c]:
                    at = s
            top = highest[i, at, c]
            best[i, c], shift[i, c] = top, at
            row = scores[i, at, c * m:(c + 1) * m]
            found = 0
            while found < m - 1 and row[found] != top:
                found += 1
            rotation[i, c] = found
            total: Any = 0.0
            for s in range(n_shifts):
                if highest[i, s, c] - top <= least:
                    continue
                row = scores[i, s, c * m:(c + 1) * m]
                part = np.float32(0.0)
                for j in range(m):
                    part += _exponential(max(row[j] - top, least))
                total += part
            sums[i, c] = total


@compiled
def _above(scores: np.ndarray, highest: np.ndarray, limit: np.ndarray, raised: float) -> Any:
    """How many scores (s, c m) of one image lie above the limit of their class (c,), all raised by the same."""
    n_shifts, n_maps = highest.shape
    m = scores.shape[1] // n_maps
    total: Any = 0
    for s in range(n_shifts):
        for c in range(n_maps):
            low = limit[c] + np.float32(raised)
            if highest[s, c] > low:
                row, here = scores[s, c * m:(c + 1) * m], np.int32(0)
                for j in range(m):
                    here += np.int32(row[j] > low)
                total += here
    return total


@compiled
def count_entries(scores: np.ndarray, highest: np.ndarray, limit: np.ndarray, counts: np.ndarray) -> None:
    """How many scores of each image lie above the limit of their class ``(n, c)``, into ``counts`` (n,)."""
    for i in range(len(scores)):
        counts[i] = _above(scores[i], highest[i], limit[i], 0.0)


@compiled
def raise_limits(scores: np.ndarray, highest: np.ndarray, limit: np.ndarray, best: np.ndarray, most: int,
                 counts: np.ndarray) -> None:
    """Raise the limits of images with more than ``most`` scores above them until so many are left, or more if equal."""
    for i in range(len(scores)):
        if counts[i] <= most:
            continue
        low, high = 0.0, np.float64((best[i] - limit[i]).max()) + 1.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            found = _above(scores[i], highest[i], limit[i], middle)
            if found >= most:
                low, counts[i] = middle, found
            else:
                high = middle
            if found == most or high - low < 1e-6 * high:
                break
        limit[i] += np.float32(low)


@compiled
def list_entries(scores: np.ndarray, highest: np.ndarray, limit: np.ndarray, best: np.ndarray, factor: np.ndarray,
                 image: np.ndarray, shift: np.ndarray, map_index: np.ndarray, rotation: np.ndarray, weight: np.ndarray
                 ) -> None:
    """Places and weights ``factor exp(score - best)`` of the scores that ``count_entries`` counts; of each image 1."""
    n, n_shifts, n_maps = highest.shape
    m = scores.shape[2] // n_maps
    at = 0
    for i in range(n):
        first, whole = at, 0.0
        for s in range(n_shifts):
            for c in range(n_maps):
                if highest[i, s, c] > limit[i, c]:
                    row, low = scores[i, s, c * m:(c + 1) * m], limit[i, c]
                    for j in range(m):
                        if row[j] > low:
                            image[at], shift[at], map_index[at], rotation[at] = i, s, c, j
                            value = factor[i, c] * math.exp(row[j] - best[i, c])
                            weight[at] = value
                            whole += value
                            at += 1
        for k in range(first, at):
            weight[k] /= whole


@compiled
def add_by_row(images: np.ndarray, squares: np.ndarray, phases: np.ndarray, image: np.ndarray, shift: np.ndarray,
               weight: np.ndarray, ends: np.ndarray, first: int, back: np.ndarray, power: np.ndarray) -> None:
    """Adds weighted images, their shift taken back, and squares to the templates that they were found at.

    ``images`` (n, 2, p) and ``phases`` (s, 2, p) hold real and imaginary parts, ``squares`` (n, p). Entries are in the
    order of their templates; those of template ``first + r`` end before ``ends[first + r + 1]``, and go to ``back[r]``
    (2, p) and ``power[r]`` (p,).
    """
    n_points = images.shape[2]
    for r in range(len(back)):
        for e in range(ends[first + r], ends[first + r + 1]):
            own, turn, square, w = images[image[e]], phases[shift[e]], squares[image[e]], weight[e]
            for k in range(n_points):
                back[r, 0, k] += w * (own[0, k] * turn[0, k] - own[1, k] * turn[1, k])
                back[r, 1, k] += w * (own[0, k] * turn[1, k] + own[1, k] * turn[0, k])
                power[r, k] += w * square[k]
