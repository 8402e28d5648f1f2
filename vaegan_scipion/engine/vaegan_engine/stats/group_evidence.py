"""Are two groups of uncertain points two, or one that is wide: evidence that adds up over the points.

A mixture lays several Gaussians along a line that is filled evenly, and rightly so: that is no sign of states. States
leave a valley between them in the density of z itself, without the points' own uncertainty. The points of two groups
are laid along Fisher's direction t = w.z, w = W^-1 (mean b - mean a), and the density of t is estimated twice, as
weights of even nodes from the points' likelihoods (the maximum of a concave function each, found to a known gap):

* freely (Kiefer and Wolfowitz, Ann. Math. Stat. 27, 887, 1956; Laird, JASA 73, 805, 1978);
* with one peak: a density with its peak at m is a mixture of even ones between m and x (Khinchin), the best m taken.

The difference of the two log likelihoods is the evidence of a valley. It grows in proportion to the points where there
is a valley, however shallow each point sees it, and stays at a few units where there is none.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from ..physics.shards import in_parts
from .uncertain_mixture import FLOOR, Fit, Groups, UncertainPoints, expectation, settled

LEAST_VALLEY = 12.0  # log likelihood ratio of a valley to be believed
_NODES = 21
_REACH = 2.5  # standard deviations of both groups together, to each side
_FIRST_ROUNDS, _MOST_STEPS = 10, 60
_GAP = 0.05  # log likelihood that a best density may fall short of
_LEAST_SHARE = 0.05  # responsibility of a point that takes part
_LINK_SHARE = 0.5  # of an even share of its set's points, of a group that links its set to another
_LINK_WIDER = 4.0  # times the variance, of the wider one of two groups that link their sets


@dataclass(frozen=True)
class PairEvidence:
    """What says that groups a and b are two."""

    a: int
    b: int
    n_a: float  # sums of responsibilities
    n_b: float
    two: float  # log likelihood of two Gaussians over one, less half the free parameters times log n
    valley: float  # log likelihood of any density over one with a single peak
    depth: float  # the mixture's density between the two, over that of the lower peak: 1 without a valley


class _Climb:
    """``sum_i weight_i log (L B w)_i`` made largest over shares w of the columns of B, by quadratic programs.

    Kim, Carbonetto, Stephens and Anitescu (J. Comput. Graph. Stat. 29, 261, 2020): with shares that may sum to
    anything, ``sum w - mean log L B w`` has its least where they sum to 1; each step is Newton's with w >= 0. By the
    slopes there the sum is at most ``gap`` above ``total`` (log is concave). Rounds of expectation maximisation fall
    short in proportion to the points, which at many points passes for evidence.
    """

    def __init__(self, likelihood: np.ndarray, weight: np.ndarray, columns: np.ndarray) -> None:
        self._likelihood, self._weight, self._columns = likelihood, weight, columns
        self._n = float(weight.sum())
        self.share = np.full(columns.shape[1], 1.0 / columns.shape[1])
        self._look()

    def _look(self) -> None:
        self._each = self._likelihood @ (self._columns @ self.share)
        self.total = float(self._weight @ np.log(self._each))
        self._pull = self._columns.T @ ((self._weight / self._each) @ self._likelihood) / self._n
        self.gap = self._n * float(np.log(max(self._pull.max(), 1.0)))

    def expect(self, rounds: int) -> None:
        """Rounds of expectation maximisation: they come near from anywhere."""
        for _ in range(rounds):
            self.share = self.share * self._pull
            self.share /= self.share.sum()
            self._look()

    def step(self) -> bool:
        """One step, shortened until the sum rises; False where none rises."""
        scaled = self._likelihood * (np.sqrt(self._weight / self._n) / self._each)[:, None]
        curve = self._columns.T @ (scaled.T @ scaled) @ self._columns
        root = np.linalg.cholesky(curve + 1e-9 * np.diag(np.diag(curve)) + 1e-12 * np.eye(len(curve))).T
        aim = curve @ self.share + self._pull - 1.0
        target, _ = nnls(root, np.linalg.solve(root.T, aim), maxiter=20 * len(curve))
        if target.sum() <= 0:
            return False
        before, total, length = self.share, self.total, 1.0
        while length > 1e-6:
            self.share = before + length * (target - before)
            self.share = self.share / self.share.sum()
            self._look()
            if self.total > total:
                return True
            length *= 0.5
        self.share = before
        self._look()
        return False

    def to_top(self, beside: float = -np.inf) -> None:
        """Steps until the largest sum is known to ``_GAP``, or known to be no larger than ``beside``."""
        self.expect(_FIRST_ROUNDS)
        for _ in range(_MOST_STEPS):
            if self.gap < _GAP or self.total + self.gap <= beside or not self.step():
                break


def free_weights(likelihood: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (t,) of nodes that make ``sum_i weight_i log sum_t w_t likelihood_it`` largest, and that sum."""
    climb = _Climb(likelihood, weight, np.eye(likelihood.shape[1]))
    climb.to_top()
    return climb.share, climb.total


def one_peak(likelihood: np.ndarray, weight: np.ndarray) -> float:
    """The largest such sum of weights with one peak.

    The likeliest peak is tried first; the others, side by side, end once they are known to be no better than it.
    """
    n_nodes = likelihood.shape[1]
    middle = int(np.argmax(free_weights(likelihood, weight)[0]))

    def top(peak: int, beside: float = -np.inf) -> float:
        climb = _Climb(likelihood, weight, intervals(np.eye(n_nodes), peak))
        climb.to_top(beside)
        return climb.total

    first = top(middle)
    others = sorted(set(range(n_nodes)) - {middle}, key=lambda peak: abs(peak - middle))
    return max(first, *in_parts(lambda at, _: top(others[at], first), len(others), 1))


def intervals(likelihood: np.ndarray, peak: int) -> np.ndarray:
    """Likelihoods (n, t) under even densities from each node up to the peak, which lies just before node ``peak``.

    Their mixtures rise up to node ``peak - 1`` and fall from node ``peak`` on: all densities of nodes with one peak
    there. With the peak on a node, which densities of both sides held, it would be no less than its two neighbours'
    sum.
    """
    t = likelihood.shape[1]
    right = np.cumsum(likelihood[:, peak:], 1) / np.arange(1, t - peak + 1)
    left = np.cumsum(likelihood[:, :peak][:, ::-1], 1) / np.arange(1, peak + 1)
    return np.concatenate((left[:, ::-1], right), 1)


def valley_evidence(likelihood: np.ndarray, weight: np.ndarray) -> float:
    """Log likelihood of the best density of nodes less that of the best with one peak; at least 0."""
    if not len(weight):
        return 0.0
    return max(0.0, free_weights(likelihood, weight)[1] - one_peak(likelihood, weight))


def _along(both: Groups, within: np.ndarray) -> Groups:
    """Even nodes along Fisher's direction of two groups, each with what scatters across it."""
    mean, covariance = both.whole()
    direction = np.linalg.solve(within, both.mean[1] - both.mean[0])
    carried = covariance @ direction
    spread = float(np.sqrt(direction @ carried))
    t = np.linspace(-_REACH, _REACH, _NODES) * spread
    width = 0.5 * (t[1] - t[0])
    across = covariance - np.outer(carried, carried) * ((1 - (width / spread) ** 2) / spread ** 2)
    return Groups(np.full(_NODES, 1.0 / _NODES), mean + t[:, None] * carried / spread ** 2,
                  np.repeat(across[None], _NODES, 0))


def mixture_depth(both: Groups) -> float:
    """Density of two groups between their means, at its least, over the lower of the densities at the two ends."""
    t = np.linspace(0, 1, 41)[:, None]
    at = both.mean[0] + t * (both.mean[1] - both.mean[0])
    inverse = np.linalg.inv(both.covariance)
    apart = at[:, None] - both.mean
    density = (both.share / np.sqrt(np.linalg.det(both.covariance))
               * np.exp(-0.5 * np.einsum("tck,ckl,tcl->tc", apart, inverse, apart))).sum(1)
    peak = np.minimum(np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1])
    return float((density / np.maximum(peak, 1e-300)).min())


def pair_evidence(points: UncertainPoints, fit: Fit, sets: tuple[list[int], list[int]], names: tuple[int, int] = (0, 1)
                  ) -> PairEvidence:
    """Evidence that two sets of the fit's groups are two."""
    part = [fit.responsibility[:, own].sum(1) for own in sets]
    weight = part[0] + part[1]
    rows = np.flatnonzero(weight > _LEAST_SHARE)
    mine, weight = points.part(rows), weight[rows]
    merged = [fit.groups.chosen(own).whole() for own in sets]
    share = np.array([side.sum() for side in part])
    both = Groups(share / share.sum(), np.stack([mean for mean, _ in merged]), np.stack([cov for _, cov in merged]))
    whole_mean, whole_covariance = both.whole()
    k = points.dimension
    one = settled(mine, Groups(np.ones(1), whole_mean[None], whole_covariance[None]),
                  FLOOR * np.diag(np.diag(whole_covariance)), weight=weight)
    two = expectation(mine, fit.groups.chosen([*sets[0], *sets[1]]), weight)[0]
    n_free = (len(sets[0]) + len(sets[1]) - 1) * (1 + k + k * (k + 1) // 2)
    gain = two.total - one.total - 0.5 * n_free * np.log(max(weight.sum(), 2.0))
    within = np.einsum("c,ckl->kl", both.share, both.covariance)
    likelihood = expectation(mine, _along(both, within))[0].responsibility + 1e-12
    return PairEvidence(names[0], names[1], float(share[0]), float(share[1]), float(gain),
                        valley_evidence(likelihood, weight), mixture_depth(both))


def link_groups(fit: Fit, own: list[int]) -> list[int]:
    """Groups of a set that a neighbour may be linked to it by: each holds half of an even share at least."""
    held = fit.responsibility.sum(0)[own]
    return [g for g, n in zip(own, held, strict=True) if n >= _LINK_SHARE * held.sum() / len(own)]


def are_alike(fit: Fit, g: int, h: int) -> bool:
    """Whether two groups are about as wide: one that is far wider than the other lies about it, and links nothing."""
    _, whole = fit.groups.whole()
    inverse = np.linalg.inv(whole)
    wide = [float((inverse * fit.groups.covariance[k]).sum()) for k in (g, h)]
    return max(wide) <= _LINK_WIDER * min(wide)


def joined(points: UncertainPoints, fit: Fit, apart: list[int], least: float = LEAST_VALLEY
           ) -> tuple[list[list[int]], list[PairEvidence]]:
    """Groups of the fit joined until every two have a valley between them; and the evidence of the pairs that stay.

    ``apart``: groups that take no part (outliers); nor do groups that hold no point. The valley between two sets of
    several groups is the least of that of the sets and those of single groups of theirs (``link_groups``,
    ``are_alike``), each as if its smaller group held as many points as the smaller set does: along a bent way, laid on
    a straight line, more points lie at the ends than between them, which is a valley of the line and none of the way.
    """
    held = fit.responsibility.sum(0)
    sets = [[g] for g in range(len(fit.groups)) if g not in apart and held[g] > _LEAST_SHARE]
    known: dict[tuple[tuple[int, ...], tuple[int, ...]], PairEvidence] = {}

    def evidence(one: list[int], other: list[int]) -> PairEvidence:
        key = tuple(one), tuple(other)
        if key not in known:
            known[key] = pair_evidence(points, fit, (one, other))
        return known[key]

    def linked(one: list[int], other: list[int]) -> PairEvidence:
        pair = evidence(one, other)
        if pair.valley < least or len(one) + len(other) == 2:
            return pair
        links = [evidence(*sorted(([g], [h]))) for g in link_groups(fit, one) for h in link_groups(fit, other)
                 if are_alike(fit, g, h)]
        fewer = min(pair.n_a, pair.n_b)
        return replace(pair, valley=min([pair.valley, *(link.valley * fewer / min(link.n_a, link.n_b)
                                                        for link in links)]))

    while True:
        pairs = []
        for a in range(len(sets)):
            for b in range(a + 1, len(sets)):
                pairs.append(replace(linked(sets[a], sets[b]), a=a, b=b))
        weakest = min(pairs, key=lambda pair: pair.valley, default=None)
        if weakest is None or weakest.valley >= least:
            return sets, pairs
        sets = [own for g, own in enumerate(sets) if g not in (weakest.a, weakest.b)] + [
            sorted(sets[weakest.a] + sets[weakest.b])]
