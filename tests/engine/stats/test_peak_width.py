"""Peak and width of values, among others that lie below."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from vaegan_engine.stats.peak_width import peak_and_width


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
