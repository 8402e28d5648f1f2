"""Two populations in marks ``(n, k)``: a compact one, and another one that reaches into its tails.

    p(x) = (1 - s) t(x; m, C) + s N(x; m', C')

The compact one is a t distribution of 4 degrees of freedom, so that its own stragglers are not taken for the other's
(Lange, Little and Taylor, J. Am. Stat. Assoc. 84, 881, 1989; Peel and McLachlan, Stat. Comput. 10, 339, 2000). Both
are found by expectation maximisation from points that are known to be of the other one.
"""
from __future__ import annotations

from dataclasses import dataclass
from math import lgamma

import numpy as np

_FREEDOM = 4.0  # of the t distribution
_ROUNDS, _BEGUN = 60, 0.01  # of expectation maximisation; doubt in what is known
_RIDGE = 1e-6
LEAST_POINTS = 5  # of the other population, to tell anything of it


@dataclass(frozen=True)
class Population:
    """A t distribution of ``_FREEDOM`` degrees (``heavy``) or a normal one."""

    mean: np.ndarray  # (k,)
    covariance: np.ndarray  # (k, k); of the t distribution its scale matrix
    heavy: bool = False

    def squared_distance(self, marks: np.ndarray) -> np.ndarray:
        """Mahalanobis' ``(n,)``."""
        apart = marks - self.mean
        squared: np.ndarray = (apart @ np.linalg.inv(self.covariance) * apart).sum(1)
        return squared

    def log_density(self, marks: np.ndarray) -> np.ndarray:
        """``(n,)``."""
        k, squared = len(self.mean), self.squared_distance(marks)
        root = -0.5 * np.linalg.slogdet(self.covariance)[1]
        if not self.heavy:
            normal: np.ndarray = root - 0.5 * (squared + k * np.log(2 * np.pi))
            return normal
        whole = lgamma(0.5 * (_FREEDOM + k)) - lgamma(0.5 * _FREEDOM) - 0.5 * k * np.log(_FREEDOM * np.pi)
        heavy: np.ndarray = root + whole - 0.5 * (_FREEDOM + k) * np.log1p(squared / _FREEDOM)
        return heavy


def normal_of(marks: np.ndarray, weight: np.ndarray) -> Population:
    """The normal distribution of marks ``(n, k)`` of weights ``(n,)``."""
    total = weight.sum() + 1e-9
    mean = weight @ marks / total
    apart = marks - mean
    return Population(mean, (apart * weight[:, None]).T @ apart / total + _RIDGE * np.eye(marks.shape[1]))


def _heavy_of(marks: np.ndarray, weight: np.ndarray, before: Population) -> Population:
    """One step of expectation maximisation of a t distribution of weighted marks."""
    k = marks.shape[1]
    near = weight * (_FREEDOM + k) / (_FREEDOM + before.squared_distance(marks))
    mean = near @ marks / near.sum()
    apart = marks - mean
    scale = (apart * near[:, None]).T @ apart / (weight.sum() + 1e-9)
    return Population(mean, scale + _RIDGE * np.eye(k), True)


@dataclass(frozen=True)
class TwoPopulations:
    """What ``two_populations`` finds."""

    inside: Population
    other: Population
    share: float  # of the other one

    def probability(self, marks: np.ndarray) -> np.ndarray:
        """``(n,)`` of being of the other one."""
        odds = (self.other.log_density(marks) - self.inside.log_density(marks)
                + np.log(self.share) - np.log1p(-self.share))
        probability: np.ndarray = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
        return probability

    def apart(self) -> np.ndarray:
        """Distance of the means ``(k,)`` in widths of the compact one."""
        widths: np.ndarray = (self.other.mean - self.inside.mean) / np.sqrt(np.diag(self.inside.covariance))
        return widths

    def mirrored(self, marks: np.ndarray) -> np.ndarray:
        """Marks ``(n, 2)`` whose second one lies on the other side of what the compact one has at their first."""
        (a, b), slope = self.inside.mean, self.inside.covariance[0, 1] / self.inside.covariance[0, 0]
        return np.stack((marks[:, 0], 2 * (b + slope * (marks[:, 0] - a)) - marks[:, 1]), 1)


def two_populations(marks: np.ndarray, known: np.ndarray) -> TwoPopulations | None:
    """From points ``known`` (n,) bool to be of the other one; None where those are too few, or all."""
    n = len(marks)
    if not LEAST_POINTS <= known.sum() <= n - LEAST_POINTS:
        return None
    other = np.where(known, 1 - _BEGUN, _BEGUN)
    inside = normal_of(marks, 1 - other)
    for _ in range(_ROUNDS):
        inside = _heavy_of(marks, 1 - other, inside)
        share = float(np.clip(other.mean(), 1 / n, 1 - 1 / n))
        found = TwoPopulations(inside, normal_of(marks, other), share)
        other = found.probability(marks)
    return found


@dataclass(frozen=True)
class TailLimits:
    """What a hidden tail must have before it is believed."""

    apart: float  # widths between the first marks of the two populations
    errors: float  # Poisson errors by which it must exceed its mirror image


def hidden_tail(marks: np.ndarray, known: np.ndarray, limits: TailLimits) -> np.ndarray:
    """Points ``(n,)`` bool that are likelier of the other population than inside, and below in their second mark.

    ``marks`` (n, 2): the first is larger in the other population, the second is symmetric in the compact one. ``known``
    (n,) bool is what is seen of the other one already. There is no tail where the populations do not stand apart in the
    first mark; where points mirrored in the second would be as many as half of it, or as many within Poisson errors,
    so that the compact one's own shape makes it; or where more would be found than is known: then what is known may
    as well be a part of the compact one's stragglers.
    """
    none, found = np.zeros(len(marks), bool), two_populations(marks, known)
    if found is None or found.apart()[0] < limits.apart:
        return none

    def below(at: np.ndarray) -> np.ndarray:
        is_below: np.ndarray = (found.probability(at) > 0.5) & (at[:, 1] < found.inside.mean[1])
        return is_below

    tail, mirror = below(marks), below(found.mirrored(marks)).sum()
    n, is_new = tail.sum(), tail & ~known
    plain = n > 2 * mirror and n - mirror > limits.errors * (n + mirror) ** 0.5
    return is_new if plain and is_new.sum() <= known.sum() else none
