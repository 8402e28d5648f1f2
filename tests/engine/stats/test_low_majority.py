"""Two groups of which the lower one is the larger; one group, however skewed, is one."""
import numpy as np
import pytest
from vaegan_engine.stats.low_majority import best_cut, low_majority


def test_the_best_cut_leaves_the_least_variance_within():
    values = np.random.default_rng(0).gamma(2.0, size=60)
    ordered = np.sort(values)
    within = [low.var() * len(low) + high.var() * len(high)
              for low, high in ((ordered[:k], ordered[k:]) for k in range(1, 60))]
    k = 1 + int(np.argmin(within))
    assert ordered[k - 1] < best_cut(values) < ordered[k]


@pytest.mark.parametrize(("n_low", "found"), [(100, False), (300, False), (480, False), (520, True), (880, True),
                                              (950, False)])
def test_the_lower_group_is_found_where_it_is_the_larger(n_low, found):
    rng = np.random.default_rng(1)
    values = np.where(np.arange(1000) < n_low, rng.normal(0, 1, 1000), rng.normal(7, 1.5, 1000))
    made = low_majority(values)
    assert made.any() == found
    if found:
        assert (made == (np.arange(1000) < n_low)).mean() > 0.98


@pytest.mark.parametrize("n", [60, 200, 400, 5000])
@pytest.mark.parametrize("drawn", ["normal", "uniform", "exponential", "lognormal", "standard_cauchy"])
def test_one_group_is_one(n, drawn):
    """Among few at most by chance."""
    made = [low_majority(getattr(np.random.default_rng(seed), drawn)(size=n)).any() for seed in range(20)]
    assert sum(made) <= (2 if n < 100 else 0)


def test_no_two_values_are_no_groups():
    assert not low_majority(np.ones(100)).any() and not low_majority(np.arange(4.0)).any()
