"""Log likelihood ratios of images at poses in the plane, and their sums, compiled.

Products ``B`` (s, m) of one image at s shifts with m templates (class by class, turn by turn) and powers ``P`` (m,)
give log likelihood ratios against an empty image, its contrast a integrated out (normal about 1, variance
``1 / prior``): ``((B + prior)^2 / (P + prior) - prior - log(1 + P / prior)) / 2``. The mean of a is
``(B + prior) / (P + prior)``; poses where it would be negative have none.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..physics.compiled import compiled


@compiled
def score_image(products: np.ndarray, power: np.ndarray, prior: Any, n_turns: int, highest: np.ndarray) -> None:
    """Log likelihood ratios in place of ``products`` (s, m), and the highest of every shift and class (s, c)."""
    half, nothing, prior = np.float32(0.5), np.float32(0.0), np.float32(prior)
    m = products.shape[1]
    factor, base = np.empty(m, np.float32), np.empty(m, np.float32)
    for j in range(m):
        factor[j] = half / (power[j] + prior)
        base[j] = -half * (prior + np.float32(math.log(1 + power[j] / prior)))
    for s in range(len(products)):
        row = products[s]
        for j in range(m):
            b = max(row[j] + prior, nothing)
            row[j] = b * b * factor[j] + base[j]
        for c in range(m // n_turns):
            top = row[c * n_turns]
            for j in range(c * n_turns + 1, (c + 1) * n_turns):
                top = max(top, row[j])
            highest[s, c] = top


@compiled
def sum_image(scores: np.ndarray, highest: np.ndarray, n_turns: int, least: float, of_class: np.ndarray,
              best: np.ndarray) -> float:
    """Logarithm of the sum of ``exp(score)``; that of every class into ``of_class`` (c,), its best template and shift
    into ``best`` (c, 2). Scores more than ``-least`` below the best of their class are left out."""
    top, total = highest.max(), 0.0
    for c in range(highest.shape[1]):
        own_top = highest[0, c]
        for s in range(1, len(scores)):
            own_top = max(own_top, highest[s, c])
        limit, own = own_top + least, 0.0
        best[c, 0] = -1
        for s in range(len(scores)):
            if highest[s, c] > limit:
                for j in range(c * n_turns, (c + 1) * n_turns):
                    score = scores[s, j]
                    if score > limit:
                        own += math.exp(score - own_top)
                        if score == own_top and best[c, 0] < 0:
                            best[c, 0], best[c, 1] = j, s
        of_class[c] = own_top + math.log(own)
        total += math.exp(of_class[c] - top)
    return top + math.log(total)


@compiled
def count_entries(scores: np.ndarray, highest: np.ndarray, n_turns: int, limit: float) -> int:
    """How many scores lie above ``limit``."""
    n = 0
    for s in range(len(scores)):
        for c in range(highest.shape[1]):
            if highest[s, c] > limit:
                for j in range(c * n_turns, (c + 1) * n_turns):
                    if scores[s, j] > limit:
                        n += 1
    return n


@compiled
def take_entries(scores: np.ndarray, highest: np.ndarray, n_turns: int, limit: float, entries: tuple) -> None:
    """Templates, shifts and scores of those above ``limit`` into the arrays ``entries``."""
    column, shift, score = entries
    n = 0
    for s in range(len(scores)):
        for c in range(highest.shape[1]):
            if highest[s, c] > limit:
                for j in range(c * n_turns, (c + 1) * n_turns):
                    if scores[s, j] > limit:
                        column[n], shift[n], score[n] = j, s, scores[s, j]
                        n += 1
