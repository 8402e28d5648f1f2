"""Agreement of clusters with the truth."""
from __future__ import annotations

import numpy as np

from ..contract.labels import UNASSIGNED
from ..contract.records import LabelScores


def agreement(label: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """NMI (arithmetic mean of the entropies), AMI and ARI of two labellings of the same particles.

    NMI rises when groups are split; AMI and ARI are corrected for chance.
    """
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

    return {"nmi": float(normalized_mutual_info_score(truth, label)),
            "ami": float(adjusted_mutual_info_score(truth, label)),
            "ari": float(adjusted_rand_score(truth, label))}


def clustering_scores(label: np.ndarray, truth: np.ndarray) -> LabelScores:
    """Scores with the unassigned as a group of their own, and of the particles in clusters alone.

    ``coverage`` is the share of particles in clusters: the second set of scores is to be read with it.
    """
    assigned = label != UNASSIGNED
    of_assigned = agreement(label[assigned], truth[assigned]) if assigned.any() else {}
    return LabelScores(len(set(label[assigned].tolist())), len(label), float((~assigned).mean()),
                       float(assigned.mean()), **agreement(label, truth), unlabelled=0, states=[], contingency={},
                       **{f"{name}_assigned": value for name, value in of_assigned.items()})


def contingency(label: np.ndarray, truth: np.ndarray, n_states: int) -> dict[int, list[int]]:
    """Particles of each true state in each cluster (-1 = unassigned)."""
    return {int(x): np.bincount(truth[label == x], minlength=n_states).tolist() for x in np.unique(label)}
