"""What stands in the results' JSON files, one record per kind of object (``record`` reads and writes them).

Standard library only, Python 3.8 syntax: Scipion reads results with this file.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Literal, Optional

from .map_records import MapComparison, PlaneFigures, PoseError, StateFigures
from .record import inlined, named

MOSTLY_JUNK = "mostly junk"  # the ``verdict_kind`` of states where most images were set aside


@dataclass(frozen=True)
class ComponentRow:
    """An entry of ``components.json``: what a component of the generator shows."""

    index: int
    z: List[float]
    file: str
    share: float


# ------------------------------- clusters -------------------------------
@dataclass(frozen=True)
class ClusterRow:
    """An entry of ``clusters.json``: a cluster, the unassigned (label -1), a state, or a class in the plane."""

    label: int
    n_particles: int
    fraction: float
    z: List[float]
    file: str
    index: int  # of the image in its stack
    stability: Optional[float] = None
    state: Optional[StateFigures] = inlined(default=None)
    in_plane: Optional[PlaneFigures] = inlined(default=None)

    @property
    def of_class(self) -> PlaneFigures:
        """Figures of a class in the plane; others have none."""
        assert self.in_plane is not None
        return self.in_plane

    @property
    def of_state(self) -> StateFigures:
        """Figures of a state; a cluster has none."""
        assert self.state is not None
        return self.state


@dataclass(frozen=True)
class Try:
    """One clustering with other random numbers."""

    clusters: int
    ami: float  # mean adjusted mutual information with the other tries
    kept: bool


@dataclass(frozen=True)
class GroupBefore:
    """A group of HDBSCAN and the cluster that it became part of."""

    hdbscan_label: int
    n_particles: int
    label: int


@dataclass(frozen=True)
class SweepRow:
    """Number of clusters at another smallest size."""

    min_cluster_size: int
    hdbscan_clusters: int
    clusters: int
    unassigned_frac: float
    ami: float  # with the clusters that are shown
    null_clusters: Optional[List[int]] = None  # of draws of the null


@dataclass(frozen=True)
class Stability:
    """Clusterings of parts of the particles."""

    repeats: int
    particles: int  # of a repeat
    stable_from: float
    per_cluster: List[float]
    clusters: List[int]  # of each repeat


@dataclass(frozen=True)
class NullDraw:
    """A cloud without groups, clustered."""

    clusters: int
    valley: float  # between the two that are parted least
    sweep: List[int]  # clusters at other smallest sizes


@dataclass(frozen=True)
class Plateau:
    """The number of clusters that stays over the longest range of smallest sizes."""

    clusters: int
    first: int = named("from")
    last: int = named("to")


@dataclass(frozen=True)
class Clustering:
    """``clustering.json``: how the clusters came about, and what speaks for them."""

    method: str
    n_particles: int
    clusters: int
    unassigned_frac: float
    jitter_frac: float
    tries: List[Try]
    min_cluster_size: Optional[int] = None
    hdbscan_groups: Optional[List[GroupBefore]] = None
    sweep: Optional[List[SweepRow]] = None
    stability: Optional[Stability] = None
    verdict: Optional[str] = None
    valley: Optional[float] = None  # between the two clusters that are parted least
    null: Optional[List[NullDraw]] = None
    plateau: Optional[Plateau] = None
    laid_out: Optional[int] = None  # of very many particles, those that UMAP and HDBSCAN saw (hdbscan_groups too)


# ------------------------------- before a run -------------------------------
@dataclass(frozen=True)
class Forecast:
    """``forecast.json``: what a run was expected to take on the machine that it ran on."""

    command: str
    n_images: int
    seconds: float
    long_seconds: float  # where the particles ask for more
    memory_gb: float
    disk_gb: float
    stages: Dict[str, float]  # seconds of each
    measured_seconds: float  # that it took to find this out


# ------------------------------- halves and evaluation -------------------------------
@dataclass(frozen=True)
class HalfMaps:
    """Maps of one cluster from two trainings, the second aligned to the first."""

    voxel_size_ang: float
    correlation: float
    mirrored: bool
    files: List[str]
    halves: MapComparison = inlined()


@dataclass(frozen=True)
class HalvesRow:
    """An entry of ``halves.json``; without maps where one half has too few particles, as the note says."""

    cluster: int
    n_half1: int
    n_half2: int
    note: Optional[str] = None
    compared: Optional[HalfMaps] = inlined(default=None)


@dataclass(frozen=True)
class ClaimedFigures:
    """What two half maps claim beyond what they deserve."""

    claimed_fsc: List[float]
    deserved_fsc: List[float]
    claimed_excess: float
    claimed_excess_all_shells: float


@dataclass(frozen=True)
class MapEvaluation:
    """A map against a reference, in ``evaluation.json``."""

    voxel_size_ang: float
    reference: str
    correlation: float
    mirrored: bool
    best_correlated: str
    correlations: Dict[str, float]
    label: int
    n_particles: int
    aligned_file: str
    compared: MapComparison = inlined()
    reference_file: Optional[str] = None  # the reference in the box of the map
    majority_state: Optional[str] = None
    purity: Optional[float] = None
    claim: Optional[ClaimedFigures] = inlined(default=None)


@dataclass(frozen=True)
class LabelScores:
    """Clusters against the true states, by particle."""

    clusters: int
    n_particles: int
    unassigned_frac: float
    coverage: float  # share of the particles that are in clusters
    nmi: float  # normalised mutual information, the unassigned as a group of their own
    ami: float
    ari: float
    unlabelled: int  # particles that were left out
    states: List[str]
    contingency: Dict[int, List[int]]  # particles of each true state in each cluster
    nmi_assigned: Optional[float] = None  # of the particles in clusters alone
    ami_assigned: Optional[float] = None
    ari_assigned: Optional[float] = None
    junk_recall: Optional[float] = None  # where the truth has junk; the next are of the particles that are none
    junk_precision: Optional[float] = None
    nmi_particles: Optional[float] = None
    ami_particles: Optional[float] = None
    ari_particles: Optional[float] = None


@dataclass(frozen=True)
class CeilingScores:
    """What a classifier reaches that is shown the labels."""

    accuracy: float
    nmi: float
    ami: float


@dataclass(frozen=True)
class Evaluation:
    """``evaluation.json``: clusters and maps against the truth."""

    maps: List[MapEvaluation]
    labels: Optional[LabelScores] = inlined(default=None)
    ceiling: Optional[CeilingScores] = None
    nmi_of_ceiling: Optional[float] = None
    pose_errors: List[PoseError] = field(default_factory=list)
    groups: Optional[Literal["clusters", "states", "classes"]] = None  # what was compared; older files do not say
    doubt: str = ""  # what states say against trusting them (``answer.doubt_about``)


# ------------------------------- states -------------------------------
@dataclass(frozen=True)
class StartRow:
    """Where the starts of one kind ended: mean log likelihood of unseen images against an empty map."""

    kind: str  # alone, cubic, grown, beside, clusters or given
    coarse_log_evidence: List[float]  # of every start
    log_evidence: float  # of the best, finer
    kept: bool


@dataclass(frozen=True)
class MaskRow:
    """A mask that was tried."""

    radius_ang: float  # where it begins to fall
    misfit: float  # of unseen images
    kept: bool
    given: bool = False  # the user's, kept whatever its misfit; its radius is that of its farthest voxel


@dataclass(frozen=True)
class RestartRow:
    """A state that was started anew from its own images."""

    misfit: float
    best: float  # misfit of the best state
    log_evidence: float  # per unseen image
    log_evidence_before: float
    kept: bool


@dataclass(frozen=True)
class Separation:
    """The numbers that say two states differ."""

    states: List[int]
    n_particles: int
    n_second: int
    agreement: float  # of two halves of the images on who belongs where: 1 = perfect
    valley: float  # between the two sides: 0 = parted, 1 = no gap
    valley_evidence: float  # log likelihood that all images together give to a valley
    by_view: float  # part that the viewing direction explains
    median_preference: float


@dataclass(frozen=True)
class JunkNumbers:
    """Why images were set aside."""

    n_junk: int
    fraction: float
    n_searched_again: int
    misfit_limit: float
    median_misfit: float
    n_misfit: int
    n_empty: int
    least_gain: float
    n_outliers: int = 0
    n_faint: int = 0


@dataclass(frozen=True)
class JunkGroup:
    """An entry of ``junk_examples.json``: images that were set aside for one reason, or kept (no reason)."""

    reason: str
    n_images: int
    particle_ids: List[int]  # of the examples
    indices: List[int]  # of the examples in their stack


@dataclass(frozen=True)
class Valley:
    """What lies between two states of a landscape, in units of log likelihood."""

    states: List[int]
    two: float
    valley: float
    depth: float


@dataclass(frozen=True)
class LandscapeNumbers:
    """What the landscape of one state's images shows."""

    n_images: int
    n_states: int
    n_groups: int
    bic: List[float]  # of 1, 2, ... groups
    by_view: float
    n_outliers: int
    outliers_apart: float
    sizes: List[int]
    pairs: List[Valley]


@dataclass(frozen=True)
class BallNumbers:
    """Maps against balls of the same profile, by images that the maps were made without."""

    gain: float  # mean log likelihood ratio per image
    gain_error: float
    by_balls: float  # the same of balls against an empty map
    orientation_gain: float  # mean information of an image on its orientation, in nats
    open_deg: float  # radius of a ball of rotations that leaves as much open
    n_images: int
    min_errors: float  # that the gain must be, and
    min_frac: float  # of what balls explain
    n_alike: int = 1  # rotations that show the same, by the symmetry
    near_balls: bool = False  # both at fine shifts about the one that the ball finds


@dataclass(frozen=True)
class ShiftLimit:
    """The largest shift that was searched, and how many particles reach it."""

    largest_ang: float
    at_limit_frac: float  # of the particles in states, along x or y


@dataclass(frozen=True)
class Shells:
    """Bands, in cycles per box."""

    start: float
    search: float
    state: float


@dataclass(frozen=True)
class StatesSummary:
    """``states.json``: the verdict of ``states`` and its evidence."""

    states: int
    verdict: str
    shells: Shells
    starts: List[StartRow]
    unseen_log_evidence: float
    least_log_evidence: float
    contrast_spread: float
    least_contrast_spread: float
    masks: List[MaskRow]
    restarts: List[RestartRow]
    pairs: List[Separation]
    junk: Optional[JunkNumbers]
    landscapes: List[LandscapeNumbers] = field(default_factory=list)  # of the last round
    shifts: Optional[ShiftLimit] = None
    verdict_kind: Optional[str] = None  # ``evidence.Kind``
    has_states: bool = True  # False: maps were made, but there is nothing to tell apart, or nothing to trust
    ball_null: Optional[BallNumbers] = None
    symmetry: str = "C1"  # that all maps were held to
    relaxed_symmetry: str = ""  # up to which the given poses were right, each particle trying its copies
