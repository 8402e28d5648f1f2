"""A valley is seen by many points together, and not where there is none."""
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from uncertain_points import points_of
from vaegan_engine.physics import shards
from vaegan_engine.stats import group_evidence
from vaegan_engine.stats.group_evidence import (
    LEAST_VALLEY,
    free_weights,
    intervals,
    joined,
    mixture_depth,
    valley_evidence,
)
from vaegan_engine.stats.uncertain_mixture import Groups, UncertainPoints, best_by_bic, grown, settled


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def line_likelihood(t, error, nodes):
    """Likelihoods (n, nodes) of numbers known up to a normal error."""
    return np.exp(-0.5 * ((t[:, None] - nodes) / error) ** 2)


def test_intervals_are_even_densities_from_the_peak(rng):
    likelihood = rng.random((4, 7))
    made = intervals(likelihood, 2)
    assert made.shape == (4, 7)
    np.testing.assert_allclose(made[:, 2], likelihood[:, 2])
    np.testing.assert_allclose(made[:, 6], likelihood[:, 2:7].mean(1))
    np.testing.assert_allclose(made[:, 0], likelihood[:, 0:2].mean(1))
    np.testing.assert_allclose(made[:, 1], likelihood[:, 1])


def test_weights_of_known_points_are_their_frequencies(rng):
    node = rng.choice(5, 400, p=[0.1, 0.2, 0.3, 0.4, 0.0])
    share, _ = free_weights(np.eye(5)[node] + 1e-12, np.ones(400))
    np.testing.assert_allclose(share, np.bincount(node, minlength=5) / 400, atol=1e-6)


def test_valley_evidence_grows_with_the_points(rng):
    """Two points 2 apart, each number known to +- 1: no single one can be told apart."""
    nodes = np.linspace(-2, 4, 25)
    found = []
    for n in (500, 2000, 8000):
        t = 2.0 * (rng.random(n) < 0.5) + rng.normal(size=n)
        found.append(valley_evidence(line_likelihood(t, 1.0, nodes), np.ones(n)))
    assert found[2] > LEAST_VALLEY and found[2] > 2 * found[1] > 0


@pytest.mark.parametrize("kind", ["even", "normal", "point"])
def test_one_peak_has_no_valley(rng, kind):
    n, nodes = 4000, np.linspace(-2, 4, 25)
    t = {"even": rng.uniform(0, 2, n), "normal": 1 + 0.5 * rng.normal(size=n), "point": np.full(n, 1.0)}[kind]
    likelihood = line_likelihood(t + 0.5 * rng.normal(size=n), 0.5, nodes)
    assert valley_evidence(likelihood, np.ones(n)) < 0.6 * LEAST_VALLEY


@pytest.mark.parametrize("error", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["even", "normal", "falling", "edge"])
def test_one_peak_has_no_valley_however_many_points_there_are(kind, error):
    """A million points whose frequencies are those of a density of one peak: nothing is left to chance."""
    nodes = np.linspace(-2, 2, 21)
    density = {"even": np.abs(nodes) < 1.1, "normal": np.exp(-nodes ** 2), "falling": np.exp(-nodes),
               "edge": np.where(nodes < -1, 1, 0.1)}[kind].astype(float)
    likelihood = line_likelihood(np.linspace(-2 - 6 * error, 2 + 6 * error, 600), error, nodes)
    seen = likelihood @ density
    assert valley_evidence(likelihood + 1e-12, 1e6 * seen / seen.sum()) < 1


def test_valley_evidence_holds_few_times_the_points(rng):
    likelihood = rng.random((20_000, 31))
    tracemalloc.start()
    valley_evidence(likelihood, np.ones(len(likelihood)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * likelihood.nbytes


def test_states_stay_and_an_even_line_is_joined(rng):
    corners = np.array([[1.2, 1.2, 0], [-1.2, 1.2, 0], [0, -1.2, 1.2], [0, -1.2, -1.2]])
    states = corners[rng.integers(0, 4, 2500)]
    line = np.concatenate((rng.uniform(-1.7, 1.7, (2500, 1)), 0.1 * rng.normal(size=(2500, 2))), 1)
    n_groups = []
    for z, expected in ((states, 4), (line, 1)):
        points = points_of(z, 3.0, rng)
        fit = best_by_bic(grown(points, 8))
        sets, pairs = joined(points, fit, [])
        n_groups.append(len(fit.groups))
        assert len(sets) == expected
        assert all(pair.valley >= LEAST_VALLEY and pair.two > 0 for pair in pairs)
    assert n_groups[1] > 1  # the mixture alone takes the line for several


def test_a_bent_way_is_joined(rng):
    """Even points along most of a circle: laid on a line more of them lie at its two ends than between these."""
    angle, length, error = 5.0, 6.0, 0.3
    turn = angle * (rng.random(2000) - 0.5)
    z = np.stack((length / angle * np.sin(turn), length / angle * np.cos(turn), 0.2 * rng.standard_normal(2000)), 1)
    seen = z - z.mean(0) + error * rng.standard_normal(z.shape)
    points = UncertainPoints(np.repeat(np.eye(3)[None] / error ** 2, 2000, 0), seen / error ** 2)
    fit = best_by_bic(grown(points, 8))
    assert len(fit.groups) > 3
    assert len(joined(points, fit, [], 20.0)[0]) == 1


def test_states_of_several_groups_are_not_linked_by_a_wide_one(rng):
    """Each state in two groups, and one wide group about both: it links nothing, nor do the halves of a state."""
    z = rng.normal(size=(600, 2))
    z[:, 0] = rng.choice([-1.5, 1.5], 600) + 0.3 * z[:, 0]
    around = 2.0 * rng.normal(size=(100, 2))
    points = points_of(np.concatenate((z, around)), 3.0, rng)
    places = np.array([[-1.5, -0.7], [-1.5, 0.7], [1.5, -0.7], [1.5, 0.7], [0.0, 0.0]])
    begun = Groups(np.full(5, 0.2), places, np.stack([*[0.3 * np.eye(2)] * 4, 4.0 * np.eye(2)]))
    fit = settled(points, begun, 1e-3 * np.eye(2), rounds=3)
    sets, _ = joined(points, fit, [], 20.0)
    assert sorted(len(own) for own in sets) == [2, 3]


def test_depth_of_two_normal_groups():
    apart = Groups(np.full(2, 0.5), np.array([[0.0, 0.0], [6.0, 0.0]]), np.stack([np.eye(2)] * 2))
    near = Groups(np.full(2, 0.5), np.array([[0.0, 0.0], [1.5, 0.0]]), np.stack([np.eye(2)] * 2))
    assert mixture_depth(apart) == pytest.approx(2 * np.exp(-4.5), rel=0.02)
    assert mixture_depth(near) == pytest.approx(1.0)


def test_one_peak_is_the_same_on_any_number_of_threads(rng):
    likelihood, weight = np.exp(-(rng.random((500, 1)) * 10 - np.arange(9)) ** 2) + 1e-9, rng.random(500)
    found = []
    for n in (1, 2):
        shards.use_threads(n)
        found.append(group_evidence.one_peak(likelihood, weight))
    shards.use_threads(1)
    assert found[0] == found[1]
