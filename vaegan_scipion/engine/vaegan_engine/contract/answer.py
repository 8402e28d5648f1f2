"""Which result to trust: states and clusters of the same particles, crossed, and the answer in one sentence.

Standard library only, Python 3.8 syntax: viewers, summaries and the report say the same.
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import log
from typing import Mapping, Optional, Sequence, Tuple

from .records import Clustering

SAME_NMI = 0.9  # from which two divisions count as the same


@dataclass(frozen=True)
class Crossing:
    """How many particles are in each cluster and each state, of those that are in both tables."""

    clusters: Tuple[int, ...]  # labels; -1, unassigned, last
    states: Tuple[int, ...]  # labels; -1, set aside, last
    counts: Tuple[Tuple[int, ...], ...]  # (cluster, state)

    @property
    def n_particles(self) -> int:
        """Particles in both tables."""
        return sum(map(sum, self.counts))

    @property
    def nmi(self) -> float:
        """Normalised mutual information I / mean(H, H') of the particles in a cluster and in a state; 1 = the same.

        Two divisions that are one group each are the same.
        """
        rows = [[count for state, count in zip(self.states, row) if state >= 0]
                for cluster, row in zip(self.clusters, self.counts) if cluster >= 0]
        columns = list(zip(*rows))
        total = sum(map(sum, rows))
        if not total:
            return 0.0
        of_rows, of_columns = _entropy([sum(row) for row in rows]), _entropy([sum(column) for column in columns])
        joint = _entropy([count for row in rows for count in row])
        mean = (of_rows + of_columns) / 2
        return max(0.0, of_rows + of_columns - joint) / mean if mean > 1e-12 else 1.0


def _entropy(counts: Sequence[int]) -> float:
    total = sum(counts)
    return -sum(count / total * log(count / total) for count in counts if count)


def crossing(cluster_of: Mapping[int, int], state_of: Mapping[int, int]) -> Crossing:
    """Cross the cluster and the state of each particle id."""
    pairs = Counter((label, state_of[i]) for i, label in cluster_of.items() if i in state_of)

    def labels(place: int) -> Tuple[int, ...]:
        return tuple(sorted({pair[place] for pair in pairs}, key=lambda label: (label < 0, label)))

    clusters, states = labels(0), labels(1)
    return Crossing(clusters, states, tuple(tuple(pairs[c, s] for s in states) for c in clusters))


def lowest_stability(details: Clustering) -> Optional[float]:
    """The stability of the least stable cluster; None where it was not looked at."""
    return min(details.stability.per_cluster, default=None) if details.stability is not None else None


def trusted(crossed: Crossing, details: Clustering, posed: bool) -> str:
    """Which of both to trust, and why, in plain words.

    details: ``clustering.json``; posed: whether the embedding was made at the states' poses.
    """
    n_states = sum(label >= 0 for label in crossed.states)
    n_clusters = sum(label >= 0 for label in crossed.clusters)
    lowest, nmi = lowest_stability(details), crossed.nmi
    stable = lowest is not None and details.stability is not None and lowest >= details.stability.stable_from
    how = "its stability was not looked at" if lowest is None else f"lowest stability {lowest:.2f}"
    if n_states == n_clusters == 1:
        return "One structure: neither the states nor the embedding part the particles."
    if n_states == n_clusters and nmi >= SAME_NMI:
        return (f"{n_states} states: the states and the embedding's clusters are the same groups of particles (NMI "
                f"{nmi:.2f}). Go on with the states, which have poses, half maps and resolutions.")
    if n_clusters > n_states and stable and posed:
        return (f"At least {n_clusters} groups: at the poses of {_states(n_states)} the embedding parts the particles "
                f"further, and the same way in repeats ({how}). Trust its clusters, and check them by refining each.")
    if n_clusters > n_states:
        why = "was made without poses" if not posed else f"does not part them the same way in repeats ({how})"
        return (f"{_states(n_states).capitalize()}: the embedding has {n_clusters} clusters, but it {why}. Trust the "
                "states.")
    if n_clusters < n_states:
        return (f"{_states(n_states).capitalize()}: the embedding parts only {n_clusters} of them, and misses a "
                "difference that all images of the states together show. Trust the states.")
    return (f"Not settled: {_states(n_states)} and as many clusters, but not of the same particles (NMI {nmi:.2f}; the "
            f"embedding's {how}). Trust the states before the clusters, and look at the table of both.")


def _states(n: int) -> str:
    return "one state" if n == 1 else f"{n} states"
