"""Groups in a latent space: UMAP, HDBSCAN, a check of every border in z, k-means, Gaussian mixture.

Pure functions of arrays; ``cluster`` reads and writes the files. UMAP adapts to the local scale, so it
draws islands where the encoder has none (ties, saturated probabilities, even a single normal blob).
Two things keep these out: noise of 3 % of the spread before UMAP, and a border between two HDBSCAN
groups counts only where the density in z itself has a valley (after Magland and Barnett, ISO-SPLIT,
arXiv 1508.04841, who also test pairs of clusters in one dimension).
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract.labels import UNASSIGNED
from ..contract.records import GroupBefore, SweepRow
from ..stats.density_valley import valley_ratio

JITTER_FRAC = 0.03  # of the spread of z
SWEEP_FRACS = tuple(np.geomspace(0.005, 0.15, 8))  # min_cluster_size / particles
LARGEST_MIN_SIZE, SMALLEST_MIN_SIZE = 900, 15


@dataclass(frozen=True)
class Grouping:
    """Labels of n particles, 0 = largest group, -1 = none."""

    labels: np.ndarray  # (n,) int64
    probability: np.ndarray  # (n,) float64, strength of the membership
    min_cluster_size: int | None = None  # of HDBSCAN
    hdbscan_groups: list[GroupBefore] | None = None  # before they were joined


def jittered(z: np.ndarray, seed: int) -> np.ndarray:
    """z ``(n, k)`` with seeded normal noise of ``JITTER_FRAC`` of its spread; float32.

    Spread: root of the summed variances of the columns (1 where all rows are the same). Equal rows
    become a small round cloud instead of ties, and differences far below what separates states
    (probabilities 1e-7 and 1e-5) lose their meaning for UMAP. z of one column gets a second one.
    """
    z = np.asarray(z, np.float64)
    if z.shape[1] < 2:
        z = np.concatenate((z, np.zeros_like(z)), axis=1)
    spread = float(np.sqrt(z.var(axis=0).sum()))
    scale = JITTER_FRAC * (spread if spread > 1e-6 else 1.0) / np.sqrt(z.shape[1])
    noise = np.random.default_rng(seed).standard_normal(z.shape)
    return (z + scale * noise).astype(np.float32)


def embed_2d(z: np.ndarray, n_neighbors: int, min_dist: float, seed: int, by_tree: bool = False) -> np.ndarray:
    """UMAP of z ``(n, k)``, k >= 2, to ``(n, 2)`` float64; the same seed gives the same points.

    It starts from the scaled principal components, as the spectral start may hang on graphs that
    nearly fall apart. Fewer than 4 particles keep their first two columns.
    ``by_tree``: neighbours by scikit-learn, exact, several times faster than UMAP's own for a few thousand
    particles; rounding differs, and with it the points.
    """
    if len(z) < 4:
        return np.asarray(z[:, :2], np.float64)
    n_neighbors = max(2, min(n_neighbors, len(z) - 1))
    known: dict[str, Any] = {}
    if by_tree:
        from sklearn.neighbors import NearestNeighbors

        distance, index = NearestNeighbors(n_neighbors=n_neighbors).fit(z).kneighbors(z)
        known["precomputed_knn"] = (index.astype(np.int32), distance.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # n_jobs and deprecations of its own dependencies
        from umap import UMAP

        model = UMAP(n_neighbors=n_neighbors, min_dist=min_dist, n_components=2, init="pca", random_state=seed,
                     n_jobs=1, **known)
        return np.asarray(model.fit_transform(z), np.float64)


def smallest_cluster(n: int, asked: int, frac: float) -> int:
    """HDBSCAN's min_cluster_size for n particles: as asked, or ``frac`` of them within 15 and 900."""
    if asked > 0:
        return max(2, asked)
    return min(LARGEST_MIN_SIZE, max(SMALLEST_MIN_SIZE, round(frac * n)))


def density_labels(points: np.ndarray, min_cluster_size: int, min_samples: int
                   ) -> tuple[np.ndarray, np.ndarray]:
    """HDBSCAN of ``(n, 2)`` points: labels (-1 = unassigned) and membership strengths.

    Where two groups of this size cannot exist, or none stands out, all particles are one group.
    """
    n = len(points)
    if n >= 2 * min_cluster_size:
        from hdbscan import HDBSCAN

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min(min_samples, n - 1),
                            core_dist_n_jobs=1).fit(points)
        if model.labels_.max() >= 0:
            return model.labels_.astype(np.int64), model.probabilities_.astype(np.float64)
    return np.zeros(n, np.int64), np.ones(n)


def nearest_group(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels with every unassigned particle in the group whose mean in z is nearest."""
    groups = np.unique(labels[labels != UNASSIGNED])
    means = np.stack([z[labels == group].mean(axis=0) for group in groups])
    filled, unassigned = labels.copy(), labels == UNASSIGNED
    distance2 = (means ** 2).sum(axis=1) - 2 * z[unassigned] @ means.T
    filled[unassigned] = groups[distance2.argmin(axis=1)]
    return filled


def join_unseparated(z: np.ndarray, labels: np.ndarray, largest_valley: float) -> np.ndarray:
    """Join groups that no density valley in z parts, the least parted pair first.

    ``largest_valley``: pairs with a ``valley_ratio`` above it are joined; 0 joins none. The unassigned
    count in the densities (by nearest mean) and stay so.
    """
    labels = labels.copy()
    if largest_valley <= 0 or labels.max() < 1:
        return labels
    z = np.asarray(z, np.float64)
    filled = nearest_group(z, labels)
    members = {int(g): z[filled == g] for g in np.unique(filled)}
    ratios = {(i, j): valley_ratio(members[i], members[j]) for i in members for j in members if i < j}
    while ratios:
        i, j = max(ratios, key=lambda pair: ratios[pair])
        if ratios[i, j] <= largest_valley:
            break
        labels[labels == j] = i
        members[i] = np.concatenate((members[i], members.pop(j)))
        ratios = {pair: r for pair, r in ratios.items() if i not in pair and j not in pair}
        ratios.update({(min(i, g), max(i, g)): valley_ratio(members[min(i, g)], members[max(i, g)])
                       for g in members if g != i})
    return labels


def renumbered(labels: np.ndarray) -> np.ndarray:
    """Labels by falling size, 0 = largest; -1 stays; of equal sizes the one met first is first."""
    groups, first, counts = np.unique(labels, return_index=True, return_counts=True)
    kept = groups != UNASSIGNED
    order = np.lexsort((first[kept], -counts[kept]))
    result = np.full(len(labels), UNASSIGNED, np.int64)
    for new, old in enumerate(groups[kept][order]):
        result[labels == old] = new
    return result


def group_by_density(z: np.ndarray, points: np.ndarray, min_cluster_size: int, min_samples: int,
                     largest_valley: float) -> Grouping:
    """HDBSCAN of UMAP points ``(n, 2)``, groups joined where z ``(n, k)`` has no valley between them.

    Where all groups end up as one, nothing is parted from it, and the unassigned belong to it too.
    """
    by_density, probability = density_labels(points, min_cluster_size, min_samples)
    labels = join_unseparated(z, by_density, largest_valley)
    if largest_valley > 0 and labels.max() == 0:
        labels, probability = np.zeros_like(labels), np.where(labels == UNASSIGNED, 0.0, probability)
    labels = renumbered(labels)
    before = [GroupBefore(int(g), int((by_density == g).sum()), int(labels[by_density == g][0]))
              for g in np.unique(by_density) if g != UNASSIGNED]
    return Grouping(labels, probability, min_cluster_size, before)


def sweep_sizes(n: int) -> list[int]:
    """min_cluster_size of the sweep of n particles: from 0.5 to 15 % in even ratios, not below 15."""
    return sorted({max(SMALLEST_MIN_SIZE, round(frac * n)) for frac in SWEEP_FRACS})


def part_size(size: int, n: int, n_part: int) -> int:
    """min_cluster_size for ``n_part`` of n particles: the same share; below 15 only if ``size`` is."""
    return max(2, min(size, SMALLEST_MIN_SIZE), round(size * n_part / n))


def sweep(grouped: Callable[[int], Grouping], chosen: np.ndarray, n_all: int) -> list[SweepRow]:
    """Number of clusters against min_cluster_size: where the answer is stable, it is to be trusted.

    ``grouped`` makes groups of particles from the least size of one; ``ami``: adjusted mutual information with the
    ``chosen`` labels ``(n,)`` of these particles. Sizes are those of ``n_all`` particles, of which these may be a part.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    rows = []
    for size in sweep_sizes(n_all):
        group = grouped(part_size(size, n_all, len(chosen)))
        rows.append(SweepRow(size, len(group.hdbscan_groups or []), int(group.labels.max()) + 1,
                             float((group.labels == UNASSIGNED).mean()),
                             float(adjusted_mutual_info_score(chosen, group.labels))))
    return rows


def group_by_kmeans(z: np.ndarray, n_clusters: int, seed: int) -> Grouping:
    """k-means of z ``(n, k)``; membership is certain."""
    from sklearn.cluster import KMeans

    labels = KMeans(n_clusters=n_clusters, n_init=10, random_state=seed).fit_predict(z)
    return Grouping(renumbered(labels.astype(np.int64)), np.ones(len(z)))


def group_by_mixture(z: np.ndarray, n_clusters: int, seed: int) -> Grouping:
    """Gaussian mixture of z ``(n, k)``, full covariances; membership is the posterior probability."""
    from sklearn.mixture import GaussianMixture

    posterior = GaussianMixture(n_clusters, n_init=3, reg_covar=1e-6, random_state=seed).fit(z).predict_proba(z)
    labels = posterior.argmax(axis=1).astype(np.int64)
    return Grouping(renumbered(labels), posterior.max(axis=1))
