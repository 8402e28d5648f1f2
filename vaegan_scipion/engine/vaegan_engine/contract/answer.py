"""Which result to trust: states, clusters and classes each in a sentence, states and clusters crossed in another.

And what an evaluation says of them against what is known.

Standard library only, Python 3.8 syntax: viewers, summaries and the report say the same.
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import log
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .analysis_records import Classes2dSummary
from .fullres_records import FullresSummary
from .labels import GROUPS, state_name
from .records import MOSTLY_JUNK, Clustering, ClusterRow, Evaluation, LabelScores, StatesSummary
from .status import Status
from .symmetry import is_symmetric
from .wording import lost_end_text

SAME_NMI = 0.9  # from which two divisions count as the same
MOST_NAMED = 6  # groups, in a sentence


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


def trusted(crossed: Crossing, details: Clustering, posed: bool, states: StatesSummary) -> str:
    """Which of both to trust, and why, in plain words.

    details: ``clustering.json``; posed: whether the embedding was made at the states' poses; states: ``states.json``.
    """
    if not states.has_states:
        inherits = "Clusters made at these poses inherit this" if posed else "No states confirm the clusters"
        return f"Nothing to trust yet: {states.verdict}. {inherits}: do not trust them either."
    if states.verdict_kind == MOSTLY_JUNK:
        return ("Mostly junk: most images fit no state. Look at what was set aside, and select the particles anew, "
                "before you trust states or clusters.")
    n_states = sum(label >= 0 for label in crossed.states)
    n_clusters = sum(label >= 0 for label in crossed.clusters)
    if not n_states:
        return ("Nothing to compare: the states set aside every particle that was clustered. Cluster the particles of "
                "the states.")
    if not n_clusters:
        return f"{_states(n_states).capitalize()}: no particle is in a cluster. Trust the states."
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


# ------------------------------- one kind of result alone -------------------------------
def states_answer(details: StatesSummary, rows: Sequence[ClusterRow]) -> str:
    """What ``states.json`` and ``clusters.json`` of states say, and whether to go on with them."""
    if not details.has_states:
        return f"Nothing to trust yet: {details.verdict}."
    parts = [_states_head(details, len(rows))]
    moving = [state_name(row.label) for row in rows if row.of_state.motion_files]
    if moving:
        parts.append(f"{_and(moving)} var{'ies' if len(moving) == 1 else 'y'} continuously")
    parts.append(_resolutions(rows))
    if details.junk is not None and details.junk.n_junk:
        parts.append(f"{100 * details.junk.fraction:.0f} % of the images fit no state and are set aside")
        if moving and (lost := lost_end_text(details.junk)):
            parts.append(lost)
    return ". ".join(f"{part[0].upper()}{part[1:]}" for part in parts) + "."


def doubt_about(details: StatesSummary) -> str:
    """What ``states.json`` says against trusting its states, wherever they are shown alone; "" where it says nothing.
    """
    if not details.has_states:
        return f"These states say of themselves that there is nothing to trust yet: {details.verdict}"
    if details.verdict_kind == MOSTLY_JUNK:
        return ("These states say of themselves: mostly junk. Look at what was set aside, and select the particles "
                "anew, before you trust them")
    return ""


def _states_head(details: StatesSummary, n: int) -> str:
    if details.verdict_kind == MOSTLY_JUNK:
        return (f"Mostly junk: most images fit no state, and the others make {_states(n)}. Look at what was set aside, "
                "and select the particles anew, before you go on")
    if n == 1:
        return "One structure: no group of its images differs from the others by more than noise does"
    if not details.pairs:
        return f"{n} states: whether two halves of the images agree on who belongs where is not known"
    least = min(pair.agreement for pair in details.pairs)
    return (f"{n} states, to trust and to go on with: two halves of the images agree on who belongs where (to "
            f"{least:.2f} for the two states most alike; 1 = perfect)")


def _resolutions(rows: Sequence[ClusterRow]) -> str:
    proven = [row.of_state.halves.resolution_0143_ang for row in rows if row.of_state.proof.proven_0143]
    if not proven:
        return "no resolution is proven: the half maps agree on no more than the start that they share"
    best, worst = min(proven), max(proven)
    text = f"half maps agree to {best:.1f}" + (f" to {worst:.1f} Å" if worst - best >= 0.05 else " Å")
    if not any(row.of_state.halves.crossed_0143 for row in rows):
        text += ", the finest that this box can show"
    left = [state_name(row.label) for row in rows if not row.of_state.proof.proven_0143]
    return text + (f"; of {_and(left)} no resolution is proven" if left else "")


def _and(names: List[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def clusters_answer(details: Clustering, posed: bool, in_plane: bool = False) -> str:
    """What ``clustering.json`` says where there are no states to compare with.

    posed: whether the embedding was made at poses that the particles carried. in_plane: whether it is of a 2D training,
    to which views are not known in any case.
    """
    text = details.verdict or (
        f"{details.clusters} cluster{'s' * (details.clusters != 1)}, whose stability was not looked at")
    text = f"{text[0].upper()}{text[1:]}."
    if in_plane:
        return (f"{text} Views part images in the plane more than states do, and nothing there tells which views are "
                "of one molecule: take these for groups of views, and let 'find states and poses' find the states.")
    if posed:
        return text
    return (f"{text} The embedding was made without poses, where views and defocus look like "
            "differences too: take it as a first look, and let 'find states and poses' confirm it.")


def classes_answer(details: Classes2dSummary) -> str:
    """What ``classes2d.json`` says, and what to go on with."""
    n, junk, good = details.n_particles, details.n_junk, details.classes_of_particles
    if not good:
        return ("No class of particles was found. Look whether the particles are dark or bright, and at diameter and "
                "box, before you look for other particles.")
    best = details.best_frc_0143_ang
    to = f", the best resolved to {best:.1f} Å by its halves" if best else ", none of which its halves resolve"
    return (f"{good} class{'es' * (good != 1)} of {n - junk:,} particles{to}. "
            + (f"{junk:,} images ({100 * junk / max(n, 1):.0f} %) are junk. " if junk else "No image is junk. ")
            + "Go on with the particles of the classes; look at the gallery of what was set aside before you trust it.")


# ------------------------------- full resolution -------------------------------
def fullres_answer(values: FullresSummary, doubt: str = "") -> str:
    """``fullres.json`` in sentences. ``doubt``: about the states that it began with (``doubt_about``)."""
    parts, proven = [doubt] if doubt else [], [state for state in values.states if state.proven]
    if proven:
        texts = [f"{state_name(state.label)} {state.resolution_ang:.1f} Å "
                 f"({2 * values.voxel_size_ang / state.resolution_ang:.2f} of Nyquist; before "
                 f"{state.resolution_before_ang:.1f} Å)" for state in proven]
        parts.append(f"In the particles' own box ({values.box_px} px of {values.voxel_size_ang:.2f} Å) half maps "
                     f"agree, at FSC 0.143, to: {_some(texts)}")
    left = [state_name(state.label) for state in values.states if not state.proven]
    if left:
        parts.append(f"Of {_and(left)} no resolution is proven: the half maps agree on no more than the start that "
                     "they share")
    return "".join(f"{part}. " for part in parts).strip()


@dataclass(frozen=True)
class StatesSearch:
    """How states were searched, as a methods section says it."""

    n_particles: Optional[int]  # that were given; None where it is not known
    box_px: int
    start: str  # from what: "random maps", ...
    seed: int
    versions: str  # of the programs; "" where they are not known


def states_methods(search: StatesSearch, details: StatesSummary, rows: Sequence[ClusterRow], citation: str) -> str:
    """``states.json`` and ``clusters.json`` as sentences for the methods section of a paper.

    ``citation``: of expectation maximisation over poses.
    """
    of_all = f" of {search.n_particles}" if search.n_particles is not None else ""
    voxel = f" of {rows[0].of_state.voxel_size_ang:.2f} Å" if rows else ""
    group = (f", all maps held to symmetry {details.symmetry}" if is_symmetric(details.symmetry)
             else f", symmetry {details.relaxed_symmetry} relaxed" if details.relaxed_symmetry else "")
    return (f"States and poses of {sum(row.n_particles for row in rows)}{of_all} particles (box {search.box_px} px"
            f"{voxel}) were found by expectation maximisation over poses {citation} as implemented in scipion-em-vaegan"
            f"{f' ({search.versions})' if search.versions else ''}, starting from {search.start}, seed {search.seed}"
            f"{group}: {len(rows)} state{'s' * (len(rows) != 1)}.{_half_maps_text(rows)}"
            + ("" if details.has_states else f" Verdict: {details.verdict}."))


def _half_maps_text(rows: Sequence[ClusterRow]) -> str:
    """To what resolution half maps of states agree, and of which states none is proven; "" without states."""
    proven = [row for row in rows if row.of_state.proof.proven_0143]
    finest = ", ".join(f"{row.of_state.halves.resolution_0143_ang:.1f}" for row in proven)
    which = (f"the state{'s' * (len(rows) != 1)}" if len(proven) == len(rows) else
             ", ".join(state_name(row.label) for row in proven))
    text = f" Half maps of {which} agree to {finest} Å (FSC 0.143)." if proven else ""
    left = ", ".join(state_name(row.label) for row in rows if not row.of_state.proof.proven_0143)
    return text + (f" Of {left} no resolution is proven." if left else "")


def versions_text(status: Status) -> str:
    """The programs that made a folder, with their versions."""
    return ", ".join(f"{name} {value}" for name, value in sorted((status.versions or {}).items()))


def fullres_methods(values: FullresSummary, mask_given: bool, citation: str) -> str:
    """``fullres.json`` as sentences for the methods section of a paper; ``citation``: of the prior on the signal."""
    proven = "; ".join(f"{state_name(state.label)} {state.resolution_ang:.1f} Å" for state in values.states
                       if state.proven)
    left = [state_name(state.label) for state in values.states if not state.proven]
    return (f"The poses of {values.n_particles:,} particles were refined locally at full size (box {values.box_px} px "
            f"of {values.voxel_size_ang:.2f} Å), independent half sets apart, with a prior on the signal "
            f"{citation}{', inside a given mask' * mask_given}."
            + f" Resolution by FSC 0.143, corrected for the mask: {proven}." * bool(proven)
            + f" Of {_and(left) if left else ''} no resolution is proven." * bool(left))


# ------------------------------- an evaluation -------------------------------
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
    parts = [values.doubt] if values.doubt else []
    parts += [] if values.labels is None else _of_labels(values.labels, groups)
    name = GROUPS[groups].name
    if values.maps:
        texts = [f"{name(row.label)} {row.compared.resolution_05_ang:.1f} Å "
                 f"({row.compared.nyquist_frac_05:.2f} of Nyquist)" for row in values.maps]
        parts.append(f"Maps agree with their references, at FSC 0.5, to: {_some(texts)}")
    if values.pose_errors:
        texts = [f"{name(row.label)} {row.median_deg:.1f}°" for row in values.pose_errors]
        parts.append(f"Poses are off by, in the median: {_some(texts)}")
    return "".join(f"{part}. " for part in parts).strip() or "Nothing was compared."


def evaluation_methods(values: Evaluation, groups: str) -> str:
    """``evaluation.json`` as sentences for the methods section of a paper; "" where nothing was compared."""
    parts, scores = [], values.labels
    if scores is not None:
        parts.append(f"The {groups} were compared with labels of {scores.n_particles:,} particles: normalised mutual "
                     f"information {scores.nmi:.2f} (adjusted {scores.ami:.2f}, adjusted Rand index {scores.ari:.2f}).")
    if values.maps:
        n, best = len(values.maps), min(row.compared.resolution_05_ang for row in values.maps)
        parts.append((f"{n} maps were each aligned to a reference map" if n > 1 else
                      "One map was aligned to a reference map")
                     + " over rotation, shift and hand, and compared by FSC inside a soft sphere; "
                     + f"{'the best' if n > 1 else 'it'} agrees to {best:.1f} Å at FSC 0.5.")
    return " ".join(parts)


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
