"""Outliers by place and marks: found where there are some, none where there are none."""
from __future__ import annotations

import numpy as np
import pytest
from uncertain_points import points_of
from vaegan_engine.stats.outliers import outliers
from vaegan_engine.stats.uncertain_mixture import best_by_bic, grown


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def made(rng, n_junk):
    z = np.concatenate((np.array([[1.2, 0, 0], [-1.2, 0.5, 0]])[rng.integers(0, 2, 1500)],
                        1.5 * rng.normal(size=(n_junk, 3))))
    junk = np.arange(len(z)) >= 1500
    marks = np.stack((0.08 * rng.normal(size=len(z)) + 0.35 * junk * rng.random(len(z)),
                      1 + 0.25 * rng.normal(size=len(z)) - 0.4 * junk), 1)
    points = points_of(z, 3.0, rng)
    return outliers(points, best_by_bic(grown(points, 6)), marks), junk


def test_junk_is_outside(rng):
    found, junk = made(rng, 350)
    assert found.aside[junk].mean() > 0.7
    assert found.aside[~junk].mean() < 0.02
    assert found.apart > 2


def test_without_junk_none_is_outside(rng):
    found, _ = made(rng, 0)
    assert not found.aside.any() and found.groups == []
