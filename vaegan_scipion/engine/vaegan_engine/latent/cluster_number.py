"""Criteria for the number of clusters without density (thesis, section 4.8). Pure functions of arrays.

======================= ========================================================================
silhouette              mean of ``(b - a) / max(a, b)`` of k-means labels; the largest is best (Rousseeuw 1987)
Calinski-Harabasz       variance between / variance within; the largest is best (1974)
Davies-Bouldin          mean over clusters of the worst ratio of widths to distance; the smallest is best (1979)
gap statistic           ``E[ln W_ref] - ln W``, W = within-cluster sum of squares of k-means, references uniform
                        in the box along the principal axes; the smallest k with ``gap(k) >= gap(k + 1) - s(k + 1)``
                        (Tibshirani, Walther and Hastie 2001)
BIC                     of Gaussian mixtures with full covariances; the smallest is best (Schwarz 1978)
======================= ========================================================================

Silhouette, Calinski-Harabasz and Davies-Bouldin are not defined for one cluster; gap and BIC are.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CRITERIA = ("silhouette", "calinski_harabasz", "davies_bouldin", "gap", "bic")
SILHOUETTE_AT_MOST = 5000  # particles; its cost is quadratic


@dataclass(frozen=True)
class NumberScores:
    """Every criterion at every number of clusters; NaN where it is not defined."""

    k: np.ndarray  # (m,) int64, rising by 1
    values: dict[str, np.ndarray]  # criterion -> (m,)
    gap_error: np.ndarray  # (m,) s(k)

    def chosen(self) -> dict[str, int]:
        """The number each criterion would choose."""
        best = {name: int(self.k[int(np.argmax(np.nan_to_num(self.values[name], nan=-np.inf)))])
                for name in CRITERIA[:2]}
        best |= {name: int(self.k[int(np.nanargmin(self.values[name]))]) for name in ("davies_bouldin", "bic")}
        return best | {"gap": int(self.k[first_gap(self.values["gap"], self.gap_error)])}


def first_gap(gap: np.ndarray, error: np.ndarray) -> int:
    """First position with ``gap(k) >= gap(k + 1) - s(k + 1)``; the last one where there is none."""
    enough = np.flatnonzero(gap[:-1] >= gap[1:] - error[1:])
    return int(enough[0]) if len(enough) else len(gap) - 1


def uniform_reference(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(n, k)`` uniform points in the box of ``points`` along their principal axes."""
    mean = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points - mean, full_matrices=False)
    turned = (points - mean) @ axes.T
    return rng.uniform(turned.min(axis=0), turned.max(axis=0), turned.shape) @ axes + mean


def log_within(points: np.ndarray, k: int, seed: int) -> tuple[float, np.ndarray]:
    """``ln W_k`` (sum of squared distances to the nearest k-means centre) and the labels."""
    from sklearn.cluster import KMeans

    model = KMeans(n_clusters=k, n_init=5, random_state=seed).fit(points)
    return float(np.log(max(model.inertia_, np.finfo(float).tiny))), model.labels_


def number_scores(points: np.ndarray, k_min: int, k_max: int, seed: int, n_references: int = 10) -> NumberScores:
    """All criteria of points ``(n, k)`` for ``k_min .. k_max`` clusters, ``1 <= k_min < k_max < n``."""
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
    from sklearn.mixture import GaussianMixture

    points = np.asarray(points, np.float64)
    ks = np.arange(k_min, k_max + 1)
    rng = np.random.default_rng(seed)
    references = [uniform_reference(points, rng) for _ in range(n_references)]
    values = {name: np.full(len(ks), np.nan) for name in CRITERIA}
    error = np.zeros(len(ks))
    looked_at = np.random.RandomState(seed).permutation(len(points))[:SILHOUETTE_AT_MOST]
    for i, k in enumerate(ks.tolist()):
        log_w, labels = log_within(points, k, seed)
        of_references = np.array([log_within(reference, k, seed)[0] for reference in references])
        values["gap"][i] = of_references.mean() - log_w
        error[i] = of_references.std() * np.sqrt(1 + 1 / n_references)
        mixture = GaussianMixture(k, n_init=3, reg_covar=1e-6, random_state=seed).fit(points)
        values["bic"][i] = mixture.bic(points)
        if len(set(labels.tolist())) > 1:
            if len(set(labels[looked_at].tolist())) > 1:  # one of few points may not be among them
                values["silhouette"][i] = silhouette_score(points[looked_at], labels[looked_at])
            values["calinski_harabasz"][i] = calinski_harabasz_score(points, labels)
            values["davies_bouldin"][i] = davies_bouldin_score(points, labels)
    return NumberScores(ks, values, error)
