"""What stands in the files of class averages, of traversals, of runs compared and of one particle's counterpart.

Standard library only, Python 3.8 syntax: Scipion reads results with this file.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

from .errors import DataError
from .record import named
from .result_files import TRAVERSAL_CSV, PathLike, read_csv


@dataclass(frozen=True)
class Classes2dSummary:
    """``classes2d.json``: how many classes and images, and what is junk."""

    verdict: str
    classes: int
    classes_of_particles: int
    n_particles: int
    n_junk: int
    misfit_limit: Optional[float]  # above it an image is junk; None: there was no class to tell one by
    shells: float  # of the finest comparison
    best_frc_0143_ang: float = named("frc_0.143_ang")  # 0 = none is proven


STABLE = 0.75  # overlap from which a group is taken to be stable (Hennig 2007)
COMMON_FRAC = 0.5  # of each run's particles, that all runs compared must have


@dataclass(frozen=True)
class ConsensusGroup:
    """A group and what the runs say of it."""

    label: int
    n_particles: int  # that more than half of the runs put there
    stability: float  # mean Jaccard overlap with its partners in the other runs
    found_in: int  # runs that have it
    overlap: List[float]  # Jaccard with its partner in each run, 0 without one


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs."""

    folder: str
    groups: int
    agreement: float  # mean adjusted mutual information with the others


@dataclass(frozen=True)
class RunPair:
    """How far two of the runs agree, by the particles that both put in a group."""

    runs: List[int]  # numbers of the two, from 0
    n_particles: int
    ari: float  # adjusted Rand index: 1 the same, 0 by chance
    nmi: float  # normalised mutual information


@dataclass(frozen=True)
class ConsensusSummary:
    """``consensus.json``: what several runs on the same particles agree on."""

    verdict: str
    chosen: str  # folder of the run whose groups these are
    groups: List[ConsensusGroup]
    undecided_frac: float
    runs: List[ComparedRun]
    pairs: List[RunPair] = field(default_factory=list)
    agreed_frac: float = 0.0  # of the particles, that all runs put in one group


@dataclass(frozen=True)
class CounterpartNumbers:
    """``counterpart.json``: a particle beside what the generator makes at its z."""

    particle_id: int
    shift_px: List[float]
    correlation: float
    rot_deg: Optional[float] = None  # in 3D, of the projection that resembles it most
    tilt_deg: Optional[float] = None
    psi_deg: Optional[float] = None  # in 2D too, where images are turned


@dataclass(frozen=True)
class TraversalPoint:
    """A row of ``traversal.csv``, without its latent vector."""

    cluster: int
    component: int  # from 0
    point: int  # from 0
    position: float  # along the component
    n_near: int  # particles with a score within half a step of it
    distance_z: float  # to the nearest particle
    file: str
    index: int  # of the image in its stack


def read_traversal(folder: PathLike) -> List[TraversalPoint]:
    """Rows of a traversal's folder, in the file's order. Raises DataError."""
    path = Path(folder) / TRAVERSAL_CSV
    if not path.exists():
        raise DataError(f"{path} is not there.", "Run vaegan traverse first.")
    try:
        return [TraversalPoint(int(row["cluster"]), int(row["component"]), int(row["point"]), float(row["position"]),
                               int(row["n_near"]), float(row["distance_z"]), row["file"], int(row["index"]))
                for row in read_csv(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: it cannot be read ({type(error).__name__}: {error}).",
                        "Run vaegan traverse again.") from error
