"""Log likelihoods at all in-plane angles, compiled; ``polar_search`` holds the equation."""
from __future__ import annotations

import numpy as np

from ..physics.compiled import compiled


@compiled
def join_half_turns(even: np.ndarray, odd: np.ndarray, scores: np.ndarray) -> None:
    """Products at angles psi and psi + pi: ``even + odd`` and ``even - odd``.

    ``even`` and ``odd`` (n_psi / 2, n s c v) are sums over even and over odd harmonics; ``scores`` (n s c, n_psi v).
    """
    half = len(even)
    n_views = scores.shape[1] // (2 * half)
    for i in range(len(scores)):
        row, at = scores[i], i * n_views
        for j in range(half):
            a, b = even[j, at:at + n_views], odd[j, at:at + n_views]
            first, second = row[j * n_views:(j + 1) * n_views], row[(half + j) * n_views:(half + j + 1) * n_views]
            for v in range(n_views):
                first[v] = a[v] + b[v]
            for v in range(n_views):
                second[v] = a[v] - b[v]
