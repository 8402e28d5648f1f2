"""Points known up to their own uncertainty, for the tests of mixtures."""
from __future__ import annotations

import numpy as np
from vaegan_engine.stats.uncertain_mixture import UncertainPoints


def points_of(z: np.ndarray, strength: float, rng: np.random.Generator) -> UncertainPoints:
    """Points whose likelihoods have their peak near ``z`` (n, K), with random information."""
    n, k = z.shape
    root = strength * rng.normal(size=(n, k, k + 2)) / np.sqrt(k + 2)
    information = root @ root.transpose(0, 2, 1)
    noise = np.einsum("nkl,nl->nk", root, rng.normal(size=(n, k + 2)))
    return UncertainPoints(information, np.einsum("nkl,nl->nk", information, z) + noise)
