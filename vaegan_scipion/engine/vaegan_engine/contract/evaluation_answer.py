"""What an evaluation says: groups against labels, maps against references, poses and junk, in plain words.

Standard library only, Python 3.8 syntax: viewers, summaries and the report say the same.
"""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

from .answer import SAME_NMI
from .labels import GROUPS
from .records import Evaluation, LabelScores

MOST_NAMED = 6  # in a sentence


class Majority(NamedTuple):
    """The label of most particles of a group, and their share of it."""

    label: str
    purity: float


def majorities(scores: LabelScores) -> Dict[int, Majority]:
    """The majority of every group by its number, of those with particles; what is in no group is none."""
    made = {}
    for group, counts in sorted(scores.contingency.items()):
        if group >= 0 and sum(counts) > 0:
            best = max(range(len(counts)), key=counts.__getitem__)
            made[group] = Majority(short(scores.states[best]), counts[best] / sum(counts))
    return made


def purity(scores: LabelScores) -> float:
    """Share of the particles in groups that have the label of their group's majority; 0 where none is in a group."""
    counts = [counts for group, counts in scores.contingency.items() if group >= 0]
    return sum(max(row) for row in counts) / max(sum(n for row in counts for n in row), 1)


def true_labels(scores: LabelScores) -> List[str]:
    """The labels that are of particles; junk, which is last where it is scored, is none."""
    return [short(name) for name in (scores.states if scores.junk_recall is None else scores.states[:-1])]


def short(name: str) -> str:
    """A label or reference without folder and suffix: "maps/state_a.mrc" is "state_a"."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix.lower() in ("mrc", "map", "mrcs") else name


def evaluation_answer(values: Evaluation, groups: str) -> str:
    """``evaluation.json`` in sentences. ``groups``: what was compared, a key of ``GROUPS``."""
    parts = [] if values.labels is None else _of_labels(values.labels, groups)
    name = GROUPS[groups].name
    if values.maps:
        texts = [f"{name(row.label)} {row.compared.resolution_05_ang:.1f} Å "
                 f"({row.compared.nyquist_frac_05:.2f} of Nyquist)" for row in values.maps]
        parts.append(f"Maps agree with their references, at FSC 0.5, to: {_some(texts)}")
    if values.pose_errors:
        texts = [f"{name(row.label)} {row.median_deg:.1f}°" for row in values.pose_errors]
        parts.append(f"Poses are off by, in the median: {_some(texts)}")
    return "".join(f"{part}. " for part in parts).strip() or "Nothing was compared."


def _of_labels(scores: LabelScores, groups: str) -> List[str]:
    labels, found = true_labels(scores), majorities(scores)
    numbers = f"NMI {scores.nmi:.3f}, AMI {scores.ami:.3f} (1 = the same groups) of {scores.n_particles:,} particles"
    head = f"{_counted(scores.clusters, groups)} found, the labels have {len(labels)}"
    if groups == "classes":  # a label has many views: the numbers stay low in the best case
        parts = [f"{head}. Of the particles in classes {100 * purity(scores):.1f} % are in one whose majority has "
                 f"their label. {numbers}; both stay low where a label is seen from many sides"]
    else:
        of_grouped = scores.nmi if scores.nmi_assigned is None else scores.nmi_assigned
        same = scores.clusters == len(labels) and of_grouped >= SAME_NMI
        if scores.nmi_assigned is not None and scores.unassigned_frac > 0:
            numbers += f", NMI {scores.nmi_assigned:.3f} of those in a {_singular(groups)}"
        parts = [f"{head}: {'the same groups, ' * same}{numbers}"]
        owners = [majority.label for majority in found.values()]
        missing = [label for label in labels if label not in owners]
        split = [label for label in labels if owners.count(label) > 1]
        if missing:
            parts.append(f"No {_singular(groups)} of its own: {_some(missing)}")
        if split:
            parts.append(f"In several {groups}: {_some(split)}")
    if scores.junk_recall is not None and scores.junk_precision is not None:
        parts.append(f"Of the junk {100 * scores.junk_recall:.0f} % was set aside; of what was set aside "
                     f"{100 * scores.junk_precision:.0f} % is junk")
    if scores.unlabelled:
        parts.append(f"{scores.unlabelled:,} particles without a label were left out")
    return parts


def _some(texts: Sequence[str]) -> str:
    left = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f" and {left} more" if left > 0 else "")


def _singular(groups: str) -> str:
    return GROUPS[groups].name(0).rsplit(" ", 1)[0]


def _counted(n: int, groups: str) -> str:
    return f"1 {_singular(groups)}" if n == 1 else f"{n} {groups}"
