"""Gaussian mixture over points that are known only up to their own uncertainty.

Of point z_i in K dimensions no more is known than its log likelihood

    l_i(z) = b_i . z - 1/2 z^T G_i z + constant,

G_i (K, K) its information and b_i (K,). Where z comes from group c, N(mu_c, S_c), the integral over z is closed: with
Q = G_i + S_c^-1 and h = b_i + S_c^-1 mu_c,

    log p_i(c) = 1/2 h^T Q^-1 h - 1/2 log|Q| - 1/2 log|S_c| - 1/2 mu_c^T S_c^-1 mu_c,

relative to the likelihood at z = 0; posterior of z: N(Q^-1 h, Q^-1). Expectation maximisation from these: shares from
the responsibilities, means and covariances from the posterior moments ("extreme deconvolution": Bovy, Hogg and Roweis,
Ann. Appl. Stat. 5, 1657, 2011). A point that tells nothing (G = 0) moves no group, and many weak points tell together
what no single one does.

Groups are found by growing: each in turn is tried in two, the best is kept and all settle. Nothing is random.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..physics.compiled import compiled
from ..physics.shards import in_parts

FLOOR = 1e-3  # of the variance of all points along each axis, added to each group's covariance
_LEAST_LOG_RATIO = -18.0  # a group so far below the best of a point gets nothing of it
_PART_POINTS, _MOST_PARTS = 2048, 8  # of a pass; parts side by side, their sums added in order
_SPLIT_ROUNDS, _MOST_ROUNDS = 15, 300
_TOLERANCE = 0.02  # of the whole log likelihood, per round
_SPLIT_AT = 0.8  # standard deviations from the mean, where the two parts of a group begin
_LEAST_HELD = 1.0  # points of a group that may be split; others can take all of them from it
_TRIED = 2  # splits that are followed to the end, of each number of groups


@dataclass(frozen=True)
class UncertainPoints:
    """Log likelihoods of n points, quadratic in z."""

    information: np.ndarray  # (n, K, K) float64 G
    linear: np.ndarray  # (n, K) float64 b

    def __len__(self) -> int:
        return len(self.linear)

    @property
    def dimension(self) -> int:
        """K."""
        return int(self.linear.shape[1])

    def part(self, rows: np.ndarray) -> UncertainPoints:
        """Some of the points (index or mask)."""
        return UncertainPoints(np.ascontiguousarray(self.information[rows]), np.ascontiguousarray(self.linear[rows]))

    def moved(self, offset: np.ndarray) -> UncertainPoints:
        """The same points in coordinates z - ``offset`` (n, K)."""
        return UncertainPoints(self.information, self.linear - np.einsum("nkl,nl->nk", self.information, offset))

    def means(self, group: Groups) -> np.ndarray:
        """Posterior means (n, K) where all points come from one group."""
        inverse = np.linalg.inv(group.covariance[0])
        right = self.linear + inverse @ group.mean[0]
        mean: np.ndarray = np.linalg.solve(self.information + inverse, right[..., None])[..., 0]
        return mean


@dataclass(frozen=True)
class Groups:
    """Shares, means and covariances of c groups."""

    share: np.ndarray  # (c,) sums to 1
    mean: np.ndarray  # (c, K)
    covariance: np.ndarray  # (c, K, K)

    def __len__(self) -> int:
        return len(self.share)

    def chosen(self, rows: list[int]) -> Groups:
        """Some of the groups, their shares made to sum to 1."""
        share = self.share[rows]
        return Groups(share / share.sum(), self.mean[rows], self.covariance[rows])

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (K,) and covariance (K, K) of all groups together."""
        mean = self.share @ self.mean
        apart = self.mean - mean
        covariance = np.einsum("c,ckl->kl", self.share, self.covariance + apart[:, :, None] * apart[:, None, :])
        return mean, covariance


@dataclass(frozen=True)
class Fit:
    """Groups and what they say of each point."""

    groups: Groups
    responsibility: np.ndarray  # (n, c)
    log_evidence: np.ndarray  # (n,) of the mixture, relative to z = 0
    total: float  # sum of ``log_evidence``, weighted

    def bic(self) -> float:
        """Bayesian information criterion (Schwarz, 1978): ``-2 log L + free parameters log n``; the least is best."""
        c, k = self.groups.mean.shape
        free = c * (k + k * (k + 1) // 2) + c - 1
        return float(-2 * self.total + free * np.log(max(len(self.log_evidence), 2)))


@compiled
def _e_step(information, linear, weight, log_share, mean, inverse, constant, responsibility, evidence,  # type: ignore
            sum0, sum1, sum2):
    """One pass over all points; fills ``responsibility``, ``evidence`` and the weighted posterior moments."""
    n, k = linear.shape
    c = len(log_share)
    low = np.zeros((c, k, k))
    y = np.zeros((c, k))
    log = np.zeros(c)
    back = np.zeros((k, k))
    m = np.zeros(k)
    for i in range(n):
        top = -1e300
        for g in range(c):
            log_det = 0.0
            for a in range(k):
                for e in range(a + 1):
                    v = information[i, a, e] + inverse[g, a, e]
                    for f in range(e):
                        v -= low[g, a, f] * low[g, e, f]
                    if a == e:
                        low[g, a, a] = np.sqrt(v)
                        log_det += np.log(v)
                    else:
                        low[g, a, e] = v / low[g, e, e]
                v = linear[i, a] + mean[g, a]  # ``mean`` holds S^-1 mu
                for f in range(a):
                    v -= low[g, a, f] * y[g, f]
                y[g, a] = v / low[g, a, a]
            v = constant[g] + log_share[g] - 0.5 * log_det
            for a in range(k):
                v += 0.5 * y[g, a] * y[g, a]
            log[g] = v
            top = max(top, v)
        total = 0.0
        for g in range(c):
            total += np.exp(log[g] - top)
        evidence[i] = top + np.log(total)
        for g in range(c):
            ratio = log[g] - evidence[i]
            if ratio < _LEAST_LOG_RATIO:
                responsibility[i, g] = 0.0
                continue
            q = np.exp(ratio)
            responsibility[i, g] = q
            q *= weight[i]
            if q == 0.0:
                continue
            for a in range(k - 1, -1, -1):  # mean of the posterior, and the inverse of its triangle
                v = y[g, a]
                for f in range(a + 1, k):
                    v -= low[g, f, a] * m[f]
                m[a] = v / low[g, a, a]
            for a in range(k):
                back[a, a] = 1.0 / low[g, a, a]
                for e in range(a + 1, k):
                    v = 0.0
                    for f in range(a, e):
                        v -= low[g, e, f] * back[f, a]
                    back[e, a] = v / low[g, e, e]
            sum0[g] += q
            for a in range(k):
                sum1[g, a] += q * m[a]
                for e in range(a + 1):
                    v = m[a] * m[e]
                    for f in range(a, k):
                        v += back[f, a] * back[f, e]
                    sum2[g, a, e] += q * v


def expectation(points: UncertainPoints, groups: Groups, weight: np.ndarray | None = None
                ) -> tuple[Fit, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What the groups say of each point, and the sums of the posterior's moments: (c,), (c, K), (c, K, K)."""
    n, (c, k) = len(points), groups.mean.shape
    weight = np.ones(n) if weight is None else weight
    inverse = np.linalg.inv(groups.covariance)
    scaled = np.einsum("ckl,cl->ck", inverse, groups.mean)
    constant = -0.5 * np.linalg.slogdet(groups.covariance)[1] - 0.5 * (scaled * groups.mean).sum(1)
    responsibility, evidence, log_share = np.empty((n, c)), np.empty(n), np.log(np.maximum(groups.share, 1e-300))
    sums = np.zeros(c), np.zeros((c, k)), np.zeros((c, k, k))

    def part(first: int, end: int) -> tuple[np.ndarray, ...]:
        own, rows = tuple(map(np.zeros_like, sums)), slice(first, end)
        _e_step(points.information[rows], points.linear[rows], weight[rows], log_share, scaled, inverse, constant,
                responsibility[rows], evidence[rows], *own)
        return own

    for more in in_parts(part, n, max(_PART_POINTS, math.ceil(n / _MOST_PARTS))):
        for total, own in zip(sums, more, strict=True):
            total += own
    lower = np.tril(sums[2], -1)
    return (Fit(groups, responsibility, evidence, float(weight @ evidence)),
            (sums[0], sums[1], sums[2] + lower.transpose(0, 2, 1)))


def settled(points: UncertainPoints, groups: Groups, floor: np.ndarray, rounds: int = _MOST_ROUNDS,
            weight: np.ndarray | None = None) -> Fit:
    """Expectation maximisation from ``groups`` until a round gains less than ``_TOLERANCE``; ``floor`` (K, K)."""
    last = -np.inf
    for turn in range(rounds + 1):
        fit, (size, first, second) = expectation(points, groups, weight)
        if turn == rounds or fit.total - last < _TOLERANCE:
            break
        last = fit.total
        held = np.maximum(size, 1e-9)
        mean = first / held[:, None]
        covariance = second / held[:, None, None] - mean[:, :, None] * mean[:, None, :] + floor
        groups = Groups(size / size.sum(), mean, covariance)
    return fit


def one_group(points: UncertainPoints, near: Groups | None = None) -> tuple[Fit, np.ndarray]:
    """All points as one group, and the floor (K, K) of covariances that goes with its extent.

    ``near``: one that was found for points that lie nearly as these; from there it is not far.
    """
    k = points.dimension
    start = Groups(np.ones(1), np.zeros((1, k)), np.eye(k)[None]) if near is None else near
    fit = settled(points, start, 1e-9 * np.eye(k))
    return fit, FLOOR * np.diag(np.diag(fit.groups.covariance[0]))


def halves(groups: Groups, g: int, axis: int) -> Groups:
    """Group g in two along one of its principal axes (0 the longest), as two groups that sum to 1."""
    values, vectors = np.linalg.eigh(groups.covariance[g])
    step = _SPLIT_AT * np.sqrt(values[-1 - axis]) * vectors[:, -1 - axis]
    rest = groups.covariance[g] - np.outer(step, step)
    return Groups(np.full(2, 0.5), np.stack((groups.mean[g] - step, groups.mean[g] + step)), np.stack((rest, rest)))


def one_more(points: UncertainPoints, fit: Fit, floor: np.ndarray) -> Fit:
    """The best fit with one group more: the splits of single groups that gain most, settled with all others."""
    tried = []
    for g in range(len(fit.groups)):
        own = fit.responsibility[:, g] > 1e-3
        if fit.responsibility[own, g].sum() < _LEAST_HELD:
            continue
        mine, weight = points.part(own), fit.responsibility[own, g]
        alone = expectation(mine, fit.groups.chosen([g]), weight)[0].total
        for axis in range(min(2, points.dimension)):
            two = settled(mine, halves(fit.groups, g, axis), floor, _SPLIT_ROUNDS, weight)
            tried.append((two.total - alone, g, two))
    tried.sort(key=lambda trial: -trial[0])
    ends = []
    for _, g, two in tried[:_TRIED]:
        kept = [c for c in range(len(fit.groups)) if c != g]
        start = Groups(np.concatenate((fit.groups.share[kept], fit.groups.share[g] * two.groups.share)),
                       np.concatenate((fit.groups.mean[kept], two.groups.mean)),
                       np.concatenate((fit.groups.covariance[kept], two.groups.covariance)))
        ends.append(settled(points, start, floor))
    return max(ends, key=lambda end: end.total)


def grown(points: UncertainPoints, most: int, patience: int = 2) -> list[Fit]:
    """Fits with 1, 2, ... groups, at most ``most``; ends where ``patience`` more groups did not lower the BIC."""
    first, floor = one_group(points)
    fits = [first]
    while len(fits) < most:
        fits.append(one_more(points, fits[-1], floor))
        best = int(np.argmin([fit.bic() for fit in fits]))
        if len(fits) - 1 - best >= patience:
            break
    return fits


def best_by_bic(fits: list[Fit]) -> Fit:
    """The fit of the least BIC."""
    return min(fits, key=Fit.bic)
