"""How far a clustering is to be believed: repeats on parts of the particles, a null without groups, a verdict.

*Stability* of a cluster C: the mean over repeats of ``max_D |C n D| / |C u D|`` over the clusters D of the
repeat, both restricted to the particles of that repeat (Jaccard; Hennig 2007, doi 10.1016/j.csda.2006.11.025, who asks
0.75 of a valid cluster). A repeat takes 80 % of the particles, at most ``MOST_PARTICLES``, and other seeds.

*Null*: one normal cloud with the mean and covariance of z (after Liu, Hayes, Nobel and Marron 2008, SigClust),
and for category probabilities p of their log ratios ``ln p_c - mean ln p``, carried back by a softmax: one
group that the softmax may push into corners. Columns of p permuted one by one are no null: each column has two peaks,
and their products are more groups than there were.

*Test against the null*: up to ``NULL_DRAWS`` clouds are clustered as the particles were. Clusters count as structure
where no cloud falls into as many that are parted as deeply (``as_deep``). Where the null holds that happens in one of
``NULL_DRAWS + 1`` sets (Monte Carlo test; Barnard 1963); the first cloud that is as deep decides against the clusters,
so no more are drawn (Besag and Clifford 1991, doi 10.1093/biomet/78.2.301).

Pure functions of arrays; ``cluster`` reads and writes the files.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..contract.analysis_records import STABLE
from ..contract.records import NullDraw, Plateau
from ..stats.density_valley import valley_ratio
from .density_clustering import nearest_group

SUBSET_FRAC, MOST_PARTICLES = 0.8, 3000
NULL_DRAWS = 19  # 1 / 20: part of clouds without groups that are taken for more
MOSTLY_UNASSIGNED = 0.5  # of the particles
_SMALLEST_P = 1e-12

Recluster = Callable[[np.ndarray, int], np.ndarray]  # z of some particles (m, k), seed -> labels (m,)


def subset_size(n: int) -> int:
    """Particles of a repeat."""
    return max(1, min(MOST_PARTICLES, round(SUBSET_FRAC * n)))


def best_overlaps(labels: np.ndarray, repeat: np.ndarray) -> np.ndarray:
    """Largest Jaccard overlap ``(c,)`` of each cluster 0..c-1 of ``labels (m,)`` with one of ``repeat (m,)``.

    Both hold the same particles; the unassigned (-1) are no cluster. NaN for a cluster without a particle here.
    """
    n_clusters, n_repeat = int(labels.max()) + 1, int(repeat.max()) + 1
    overlaps = np.full(n_clusters, np.nan)
    for cluster in range(n_clusters):
        inside = labels == cluster
        if inside.any():
            overlaps[cluster] = max(((inside & (repeat == other)).sum() / (inside | (repeat == other)).sum()
                                  for other in range(n_repeat)), default=0.0)
    return overlaps


def repeated(z: np.ndarray, labels: np.ndarray, recluster: Recluster, n_repeats: int, seed: int
             ) -> tuple[np.ndarray, list[int]]:
    """Stability ``(c,)`` of the clusters 0..c-1 of ``labels (n,)`` of z ``(n, k)``; clusters of each repeat.

    A cluster that no repeat has a particle of has stability 0.
    """
    rng, overlaps, numbers = np.random.default_rng(seed), [], []
    for repeat in range(n_repeats):
        rows = np.sort(rng.permutation(len(z))[:subset_size(len(z))])
        regrouped = recluster(z[rows], seed + repeat + 1)
        own = np.full(int(labels.max()) + 1, np.nan)  # a small cluster of a large set may have no particle here
        met_here = best_overlaps(labels[rows], regrouped)
        own[:len(met_here)] = met_here
        overlaps.append(own)
        numbers.append(int(regrouped.max()) + 1)
    met = np.isfinite(overlaps)
    return np.where(met, overlaps, 0.0).sum(axis=0) / np.maximum(met.sum(axis=0), 1), numbers


def null_latents(z: np.ndarray, n_categories: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """n rows of the null of z ``(m, k)``, whose first ``n_categories`` columns are probabilities."""
    p = np.clip(np.asarray(z[:, :n_categories], np.float64), _SMALLEST_P, None)
    ratios = np.log(p) - np.log(p).mean(axis=1, keepdims=True) if n_categories else p
    plain = np.concatenate((ratios, z[:, n_categories:]), axis=1)
    variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(plain.T, bias=True)))
    drawn = plain.mean(axis=0) + rng.standard_normal((n, len(axes))) @ (np.sqrt(variance.clip(0))[:, None] * axes.T)
    power = np.exp(drawn[:, :n_categories] - drawn[:, :n_categories].max(axis=1, keepdims=True, initial=-np.inf))
    return np.concatenate((power / power.sum(axis=1, keepdims=True), drawn[:, n_categories:]), axis=1)


def worst_valley(z: np.ndarray, labels: np.ndarray) -> float:
    """``valley_ratio`` in z of the two clusters that are parted least; 1 for fewer than two."""
    if labels.max() < 1:
        return 1.0
    filled = nearest_group(z, labels)
    members = [z[filled == group] for group in np.unique(filled)]
    return max(valley_ratio(a, b) for i, a in enumerate(members) for b in members[:i])


def plateau(sizes: Sequence[int], numbers: Sequence[int]) -> Plateau:
    """The number of clusters that stays over the longest range of ``min_cluster_size`` (as a ratio).

    Of equally long ranges the one of smaller sizes.
    """
    ranges: list[Plateau] = []
    for size, number in zip(sizes, numbers, strict=True):
        if ranges and ranges[-1].clusters == number:
            ranges[-1] = replace(ranges[-1], last=int(size))
        else:
            ranges.append(Plateau(int(number), int(size), int(size)))
    return max(ranges, key=lambda one: one.last / one.first)


def as_deep(draw: NullDraw, n_clusters: int, valley: float) -> bool:
    """Whether a draw of the null has as many clusters, of which the least parted two are parted as deeply."""
    return bool(draw.clusters >= n_clusters and draw.valley <= valley)


@dataclass(frozen=True)
class StabilityEvidence:
    """What a verdict is made of."""

    stability: np.ndarray  # (c,) of each cluster
    numbers: Sequence[int]  # clusters of each repeat
    unassigned_frac: float
    valley: float  # between the two clusters that are parted least
    null: Sequence[NullDraw]
    longest: Plateau | None = None


def verdict(evidence: StabilityEvidence) -> str:
    """One sentence from the evidence alone, for a method that finds the number of clusters itself."""
    stability, numbers, null = evidence.stability, evidence.numbers, evidence.null
    n, unassigned_frac, valley, longest = len(stability), evidence.unassigned_frac, evidence.valley, evidence.longest
    start = f"mostly unassigned, {100 * unassigned_frac:.0f} % of the particles are in no cluster; " \
        if unassigned_frac > MOSTLY_UNASSIGNED else ""
    deep = [draw.valley for draw in null if as_deep(draw, n, valley)]
    if n == 1:
        more = sum(number > 1 for number in numbers)
        text = (f"one group, but {more} of {len(numbers)} repeats found more: not decided" if more
                else "one group, no second one found: continuous or a single state")
    elif deep:
        text = (f"no structure found beyond one cloud: {n} clusters (lowest stability {stability.min():.2f}), but "
                f"{len(deep)} of {len(null)} draws of one cloud with the same spread fall{'s' * (len(deep) == 1)} into "
                f"as many, parted as deeply (valley here {valley:.2f}, there {min(deep):.2f})")
    else:
        text = kept_apart(stability)
    if longest and longest.clusters != n:
        text += f"; the longest plateau of the smallest cluster size has {longest.clusters}"
    return start + text


def kept_apart(stability: np.ndarray, how: str = "") -> str:
    """How many clusters are stable, with the lowest figure."""
    weak = np.sort(stability[stability < STABLE])
    named = f"{len(stability)} cluster{'s' * (len(stability) != 1)}{how}, "
    if not len(weak):
        return f"{named}stable (lowest stability {stability.min():.2f})"
    figures = ", ".join(f"{value:.2f}" for value in weak)
    part = "none of them stable" if len(weak) == len(stability) else f"of which {len(weak)} unstable"
    return f"{named}{part} (stability {figures}; {STABLE} is asked)"
