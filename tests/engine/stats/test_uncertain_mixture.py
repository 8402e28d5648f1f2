"""Mixtures over uncertain points: against the closed form of normal distributions, and what they find."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from uncertain_points import points_of
from vaegan_engine.physics import shards
from vaegan_engine.stats import uncertain_mixture
from vaegan_engine.stats.uncertain_mixture import (
    Groups,
    UncertainPoints,
    best_by_bic,
    expectation,
    grown,
    one_group,
    one_more,
    settled,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_evidence_and_moments_are_those_of_normal_distributions(rng):
    points = points_of(rng.normal(size=(30, 3)), 2.0, rng)
    groups = Groups(np.array([0.3, 0.7]), rng.normal(size=(2, 3)),
                    np.stack([np.diag([0.5, 1.0, 2.0]), np.eye(3) + 0.3]))
    fit, (size, first, second) = expectation(points, groups)
    expected = np.empty((30, 2))
    moments = np.zeros((2, 3)), np.zeros((2, 3, 3))
    each = []
    for i, (information, linear) in enumerate(zip(points.information, points.linear, strict=True)):
        own = np.linalg.inv(information)
        peak = own @ linear
        # the likelihood is a normal density in z times a factor: at z = 0 it is 1
        factor = np.log(groups.share) - multivariate_normal.logpdf(np.zeros(3), peak, own)
        for g in range(2):
            total = own + groups.covariance[g]
            expected[i, g] = factor[g] + multivariate_normal.logpdf(peak, groups.mean[g], total)
            gain = groups.covariance[g] @ np.linalg.inv(total)
            mean = groups.mean[g] + gain @ (peak - groups.mean[g])
            each.append((i, g, mean, groups.covariance[g] - gain @ groups.covariance[g]))
    evidence = np.logaddexp.reduce(expected, 1)
    np.testing.assert_allclose(fit.log_evidence, evidence, rtol=1e-8)
    np.testing.assert_allclose(fit.responsibility, np.exp(expected - evidence[:, None]), atol=1e-7)
    for i, g, mean, covariance in each:
        moments[0][g] += fit.responsibility[i, g] * mean
        moments[1][g] += fit.responsibility[i, g] * (covariance + np.outer(mean, mean))
    np.testing.assert_allclose(size, fit.responsibility.sum(0))
    np.testing.assert_allclose(first, moments[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(second, moments[1], rtol=1e-6, atol=1e-9)


def test_a_pass_in_parts_is_one_over_all_by_any_number_of_threads(rng, monkeypatch):
    points = points_of(rng.normal(size=(500, 3)), 2.0, rng)
    groups = Groups(np.array([0.3, 0.7]), rng.normal(size=(2, 3)), np.stack([np.eye(3), np.eye(3) + 0.3]))
    weight = rng.random(500)
    whole = expectation(points, groups, weight)
    monkeypatch.setattr(uncertain_mixture, "_PART_POINTS", 64)
    made = []
    for n_threads in (2, 1):
        shards.use_threads(n_threads)
        made.append(expectation(points, groups, weight))
    for one, two, all_ in zip(*((fit.responsibility, fit.log_evidence, *sums) for fit, sums in (*made, whole)),
                              strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, all_, rtol=1e-12, atol=1e-12)


def test_a_group_found_from_a_near_one_is_the_same(rng):
    points = points_of(rng.normal(size=(300, 2)) * [1.0, 3.0] + [2.0, 0.0], 1.0, rng)
    alone, _ = one_group(points)
    moved, _ = one_group(points.moved(np.full((300, 2), 0.1)))
    near, _ = one_group(points, moved.groups)
    assert abs(near.total - alone.total) < 0.2
    np.testing.assert_allclose(near.groups.mean, alone.groups.mean, atol=0.05)


def test_expectation_maximisation_never_loses(rng):
    points = points_of(rng.normal(size=(300, 2)), 1.0, rng)
    groups = Groups(np.full(2, 0.5), rng.normal(size=(2, 2)), np.stack([np.eye(2)] * 2))
    totals = [settled(points, groups, np.zeros((2, 2)), rounds).total for rounds in range(6)]
    assert (np.diff(totals) >= -1e-6).all()


def test_moved_points_have_the_same_likelihood_elsewhere(rng):
    points, offset = points_of(rng.normal(size=(5, 3)), 1.0, rng), rng.normal(size=(5, 3))
    z = rng.normal(size=(5, 3))

    def log_likelihood(of, at):
        return (of.linear * at).sum(1) - 0.5 * np.einsum("nk,nkl,nl->n", at, of.information, at)

    np.testing.assert_allclose(log_likelihood(points.moved(offset), z - offset),
                               log_likelihood(points, z) - log_likelihood(points, offset))


def test_points_that_say_nothing_change_nothing(rng):
    points = points_of(rng.normal(size=(200, 2)) * [3, 1], 2.0, rng)
    blank = UncertainPoints(np.concatenate((points.information, np.zeros((100, 2, 2)))),
                            np.concatenate((points.linear, np.zeros((100, 2)))))
    alone, with_blank = one_group(points)[0], one_group(blank)[0]
    assert with_blank.total == pytest.approx(alone.total, abs=0.5)
    np.testing.assert_allclose(with_blank.groups.covariance, alone.groups.covariance, rtol=0.1)


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_one_normal_group_is_one(rng, strength):
    fits = grown(points_of(rng.normal(size=(1500, 4)), strength, rng), 6)
    assert len(best_by_bic(fits).groups) == 1


def test_groups_that_no_point_tells_apart_are_found_by_many(rng):
    """Two groups 2 apart, each point known to +- 1.4: 300 points are one group, 6,000 are two with the right share."""
    def found(n):
        z = np.where(rng.random((n, 1)) < 0.3, 1.4, -0.6) * np.eye(3)[0] + 0.05 * rng.normal(size=(n, 3))
        return best_by_bic(grown(points_of(z, 1.0, rng), 4))

    assert len(found(300).groups) == 1
    many = found(6000)
    assert len(many.groups) == 2
    assert min(many.groups.share) == pytest.approx(0.3, abs=0.06)
    assert np.ptp(many.groups.mean[:, 0]) == pytest.approx(2.0, abs=0.3)


def test_five_groups_of_unequal_size(rng):
    centre = 2.5 * rng.normal(size=(5, 4))
    label = rng.choice(5, 3000, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    fit = best_by_bic(grown(points_of(centre[label] + 0.1 * rng.normal(size=(3000, 4)), 2.5, rng), 8))
    assert len(fit.groups) == 5
    np.testing.assert_allclose(sorted(fit.groups.share), sorted(np.bincount(label) / 3000), atol=0.02)


def test_a_group_without_points_is_not_split(rng):
    points = points_of(rng.normal(size=(200, 2)), 3.0, rng)
    one, floor = one_group(points)
    two = Groups(np.array([1 - 1e-9, 1e-9]), np.stack((one.groups.mean[0], np.full(2, 30.0))),
                 np.repeat(one.groups.covariance, 2, 0))
    more = one_more(points, expectation(points, two)[0], floor)
    assert len(more.groups) == 3 and np.isfinite(more.total) and more.total >= one.total - 1
