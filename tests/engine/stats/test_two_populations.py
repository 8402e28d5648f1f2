"""Two populations: their densities, what the smaller one holds, and a tail that only one side has."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, multivariate_t
from vaegan_engine.stats.two_populations import (
    Population,
    TailLimits,
    TwoPopulations,
    hidden_tail,
    normal_of,
    two_populations,
)

LIMITS = TailLimits(2.0, 4.0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def marks_of(rng, n=4000, n_junk=1000, skew=0.0):
    """Log misfit and strength of particles and of junk that is worse explained and weaker; (marks, is junk)."""
    strength = rng.standard_normal(n)
    strength = strength - skew * strength ** 2
    particles = np.stack((0.1 * rng.standard_normal(n), strength), 1)
    junk = np.stack((0.3 + 0.15 * rng.standard_normal(n_junk), -2.2 + 0.7 * rng.standard_normal(n_junk)), 1)
    return np.concatenate((particles, junk)), np.arange(n + n_junk) >= n


@pytest.mark.parametrize("k", [1, 2, 3])
def test_densities_are_scipys(k, rng):
    a, mean, marks = rng.standard_normal((k, k)), rng.standard_normal(k), rng.standard_normal((50, k))
    covariance = a @ a.T + np.eye(k)
    np.testing.assert_allclose(Population(mean, covariance).log_density(marks),
                               multivariate_normal(mean, covariance).logpdf(marks))
    np.testing.assert_allclose(Population(mean, covariance, True).log_density(marks),
                               multivariate_t(mean, covariance, df=4).logpdf(marks))


def test_normal_of_weighted_marks(rng):
    marks, weight = rng.standard_normal((200, 2)), rng.random(200)
    found = normal_of(marks, weight)
    np.testing.assert_allclose(found.mean, np.average(marks, axis=0, weights=weight))
    np.testing.assert_allclose(found.covariance, np.cov(marks.T, aweights=weight, ddof=0), atol=1e-5)


def test_populations_are_recovered(rng):
    marks, junk = marks_of(rng)
    found = two_populations(marks, junk & (marks[:, 0] > 0.4))
    assert found.share == pytest.approx(0.2, abs=0.03)
    np.testing.assert_allclose(found.inside.mean, 0, atol=0.06)
    np.testing.assert_allclose(found.other.mean, [0.3, -2.2], atol=0.1)
    np.testing.assert_allclose(found.apart()[0] * np.sqrt(found.inside.covariance[0, 0]), 0.3, atol=0.03)


def test_a_mirror_image_is_on_the_other_side_at_the_same_misfit():
    inside = Population(np.array([1.0, 2.0]), np.array([[4.0, 2.0], [2.0, 3.0]]))
    marks = np.array([[1.0, 2.5], [3.0, 2.0]])
    mirrored = TwoPopulations(inside, inside, 0.5).mirrored(marks)
    np.testing.assert_allclose(mirrored, [[1.0, 1.5], [3.0, 4.0]])
    np.testing.assert_allclose(inside.squared_distance(mirrored), inside.squared_distance(marks))


def test_a_hidden_tail_is_found(rng):
    marks, junk = marks_of(rng)
    known = junk & (marks[:, 0] > 0.3)
    found = hidden_tail(marks, known, LIMITS)
    assert not (found & known).any()
    assert (found & junk).sum() > 0.7 * (junk & ~known).sum() and (found & ~junk).sum() < 0.01 * (~junk).sum()


def test_none_is_found_where_nothing_is_known(rng):
    marks, _ = marks_of(rng)
    assert not hidden_tail(marks, np.zeros(len(marks), bool), LIMITS).any()
    assert not hidden_tail(marks, np.ones(len(marks), bool), LIMITS).any()


@pytest.mark.parametrize("skew", [0.0, 0.1])  # -0.8 of skewness, as a normal contrast has beside log-normal ones
@pytest.mark.parametrize("n", [200, 4000, 30000])
def test_none_is_found_without_another_population(n, skew, rng):
    """Whatever was set aside by mistake: at random, the worst explained, the weakest."""
    marks, _ = marks_of(rng, n, 0, skew)
    for known in (rng.random(n) < 0.02, marks[:, 0] > 0.25, marks[:, 1] < -2.3):
        assert hidden_tail(marks, known, LIMITS).sum() <= 0.01 * n


def test_a_tail_that_both_sides_have_is_none(rng):
    """Badly explained images of every contrast are no reason to set the faint ones aside."""
    marks, junk = marks_of(rng)
    marks[junk, 1] = 1.5 * rng.standard_normal(junk.sum())
    assert not hidden_tail(marks, junk & (marks[:, 0] > 0.35), LIMITS).any()


def test_what_is_hidden_is_no_more_than_what_is_known(rng):
    """A few stragglers do not make a crowd like them junk."""
    marks, junk = marks_of(rng)
    known = np.zeros(len(marks), bool)
    known[np.flatnonzero(junk)[:100]] = True
    assert not hidden_tail(marks, known, LIMITS).any()
