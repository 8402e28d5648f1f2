"""Many particles: some are laid out and grouped, the others take their place beside the nearest of these.

UMAP's time grows with the particles, and groups do not become clearer beyond some ten thousand: what parts them is a
density, which a sample has too. So of a larger set an even draw of ``MOST_LAID_OUT`` is laid out and grouped. Each
other particle gets the label that most of its ``N_NEAR`` nearest in z among them have (of equally many the nearest
one's), the mean strength of those of that label, and their mean place in the picture.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contract.labels import UNASSIGNED
from .density_clustering import Grouping, renumbered

MOST_LAID_OUT = 30_000
N_NEAR = 5


def laid_out_rows(n: int, seed: int, most: int = MOST_LAID_OUT) -> np.ndarray:
    """Row numbers of the particles that are laid out, rising; all where there are no more than ``most``."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng([seed, n]).permutation(n)[:most])


def nearest_rows(z: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The ``N_NEAR`` rows of ``z (m, k)`` nearest to each of ``others (n, k)``, the nearest first: ``(n, N_NEAR)``."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=min(N_NEAR, len(z)), algorithm="brute").fit(z)
    return np.asarray(model.kneighbors(others, return_distance=False))


def commonest(labels: np.ndarray) -> np.ndarray:
    """The label ``(n,)`` that is commonest in each row of ``labels (n, q)``; of equally common ones the first."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(2)
    return np.take_along_axis(labels, votes.argmax(1)[:, None], 1)[:, 0]


def mean_of_same(values: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Mean ``(n, ...)`` of ``values (n, q, ...)`` where ``same (n, q)``; where none is, the first."""
    same = np.where(same.any(1, keepdims=True), same, np.arange(same.shape[1]) == 0)
    weight = same / same.sum(1, keepdims=True)
    return np.einsum("nq,nq...->n...", weight, values)


def with_others(z: np.ndarray, rows: np.ndarray, points: np.ndarray, group: Grouping) -> tuple[np.ndarray, Grouping]:
    """Points ``(n, 2)`` and groups of all n particles from those of the laid out ``rows``.

    A group that has labels for all particles already (k-means, mixture) keeps them.
    """
    if len(rows) == len(z):
        return points, group
    others = np.setdiff1d(np.arange(len(z)), rows)
    near = nearest_rows(z[rows], z[others])
    is_known = len(group.labels) == len(z)
    laid_out = group.labels[rows] if is_known else group.labels
    label = group.labels[others] if is_known else commonest(laid_out[near])
    same = laid_out[near] == label[:, None]
    everywhere = np.empty((len(z), 2))
    everywhere[rows], everywhere[others] = points, mean_of_same(points[near], same)
    if is_known:
        return everywhere, group
    labels, probability = np.empty(len(z), np.int64), np.empty(len(z))
    labels[rows], labels[others] = laid_out, label
    probability[rows], probability[others] = group.probability, mean_of_same(group.probability[near], same)
    probability[labels == UNASSIGNED] = 0.0
    return everywhere, in_order(Grouping(labels, probability, group.min_cluster_size, group.hdbscan_groups))


def in_order(group: Grouping) -> Grouping:
    """The groups numbered by their size among all, and the groups before they were joined with these numbers."""
    labels = renumbered(group.labels)
    new = {int(old): int(labels[np.argmax(group.labels == old)]) for old in np.unique(group.labels)}
    before = [replace(one, label=new[one.label]) for one in group.hdbscan_groups or []]
    return replace(group, labels=labels, hdbscan_groups=before)
