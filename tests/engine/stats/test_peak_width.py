"""Peak and width of values, among others that lie below."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from vaegan_engine.stats.peak_width import peak_and_width, symmetric_strengths


@pytest.mark.parametrize("n", [500, 501, 20_000])
@pytest.mark.parametrize("below", [0.0, 0.3])
def test_a_normal_distribution_is_found_beside_what_lies_below_it(n, below):
    """Quantiles of a normal distribution about 2 of deviation 0.5, and a part of all values even from -1 to 1."""
    n_below = round(below * n)
    values = np.concatenate((norm.ppf(np.linspace(0.0005, 0.9995, n - n_below), 2.0, 0.5), np.linspace(-1, 1, n_below)))
    peak, width = peak_and_width(values)
    assert peak == pytest.approx(2.0, abs=0.15)
    assert width == pytest.approx(0.5, rel=0.2)


def test_values_of_another_unit_are_the_same():
    values = np.random.default_rng(0).normal(1, 0.3, 800)
    peak, width = peak_and_width(values)
    assert peak_and_width(40 * values) == pytest.approx((40 * peak, 40 * width))


def test_equal_values_have_no_width():
    assert peak_and_width(np.full(7, 3.0)) == (3.0, 0.0)


@pytest.mark.parametrize(("spread", "noise"), [(0.0, 0.1), (0.3, 0.02), (0.3, 0.15), (0.5, 0.1)])
def test_strengths_of_a_factor_and_noise_are_symmetric(spread, noise):
    """Their lower tail is as long as the upper one, and their width is about 1, beside a fifth of faint junk."""
    rng, n = np.random.default_rng(0), 40000
    values = 7 * (np.exp(spread * rng.standard_normal(n)) + noise * rng.standard_normal(n))
    junk = np.arange(n) < n // 5
    values[junk] *= 0.2
    made = symmetric_strengths(values, np.full(n, (7 * noise) ** 2), ~junk)[~junk]
    tails = np.percentile(made, (1, 5, 16, 84, 95, 99)) - np.median(made)
    np.testing.assert_allclose(-tails[2::-1] / tails[3:], 1, atol=0.12)
    assert made.std() == pytest.approx(1, abs=0.15)
    assert np.argsort(made).tolist() == np.argsort(values[~junk]).tolist()


def test_strengths_where_nothing_is_seen_are_in_widths_of_the_noise():
    values = 0.5 * np.random.default_rng(0).standard_normal(1000) - 1
    np.testing.assert_allclose(symmetric_strengths(values, np.full(1000, 0.25), np.ones(1000, bool)), values / 0.5)
