"""Points that belong to no group: by where they lie and by marks (how badly each is explained, how strong it is).

Two populations. Of the first a point's z comes from the mixture's groups, of the second from a broad Gaussian about
all of them and from groups that turn out to hold outliers. Each population has its own normal distribution of the marks
``(n, 2)``: the logarithm of the misfit and the contrast. Shares, marks and the groups of the second population are
found by expectation maximisation from the tail of the misfits; where no second population stands apart there is none.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .two_populations import normal_of
from .uncertain_mixture import Fit, Groups, UncertainPoints, expectation

BROAD = 4.0  # times the covariance of all groups together: where outliers may lie
FIRST_WIDTHS = 3.0  # above the median misfit: the outliers to begin with
LEAST_APART = 2.0  # widths of the first population between the mean misfits of the two
_ROUNDS, _TURNS = 40, 3


@dataclass(frozen=True)
class Outliers:
    """Which points belong to no group."""

    probability: np.ndarray  # (n,)
    groups: list[int]  # of the fit, that hold outliers
    apart: float  # widths between the misfits of the two populations; 0 where there is one

    @property
    def aside(self) -> np.ndarray:
        """``(n,)`` more likely outside than inside."""
        is_aside: np.ndarray = self.probability > 0.5
        return is_aside


def _log_likelihood(points: UncertainPoints, groups: Groups) -> np.ndarray:
    return expectation(points, groups)[0].log_evidence


def outliers(points: UncertainPoints, fit: Fit, marks: np.ndarray) -> Outliers:
    """Outliers of a fit; ``marks`` (n, 2): log misfit (higher is worse) and contrast."""
    n = len(points)
    low, middle = np.percentile(marks[:, 0], (15.87, 50.0))
    inside = np.where(marks[:, 0] > middle + FIRST_WIDTHS * (middle - low), 0.01, 0.99)
    mean, covariance = fit.groups.whole()
    broad = Groups(np.ones(1), mean[None], BROAD * covariance[None])
    foreign: list[int] = []
    for _ in range(_TURNS):
        own = [g for g in range(len(fit.groups)) if g not in foreign]
        z_in = _log_likelihood(points, fit.groups.chosen(own))
        z_out = _log_likelihood(points, broad)
        if foreign:
            z_out = np.logaddexp(z_out, _log_likelihood(points, fit.groups.chosen(foreign))) - np.log(2.0)
        for _ in range(_ROUNDS):
            at, elsewhere = normal_of(marks, inside), normal_of(marks, 1 - inside)
            share = np.clip(inside.mean(), 1 / n, 1 - 1 / n)
            odds = z_in + at.log_density(marks) - z_out - elsewhere.log_density(marks) + np.log(share / (1 - share))
            inside = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        apart = float((elsewhere.mean[0] - at.mean[0]) / np.sqrt(at.covariance[0, 0]))
        if apart < LEAST_APART or (inside < 0.5).sum() < 5:
            return Outliers(np.zeros(n), [], 0.0)
        of_group = (fit.responsibility * inside[:, None]).sum(0) / np.maximum(fit.responsibility.sum(0), 1e-9)
        unlike = [g for g in range(len(fit.groups)) if of_group[g] < 0.5]
        if unlike == foreign or len(unlike) == len(fit.groups):
            break
        foreign = unlike
    return Outliers(1 - inside, foreign, apart)
