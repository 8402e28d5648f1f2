"""What stands in ``fullres.json``: every state at full resolution, and how it came about.

Standard library only, Python 3.8 syntax: Scipion reads results with this file.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from .symmetry import NO_SYMMETRY


@dataclass(frozen=True)
class FullresRound:
    """One round of local refinement."""

    shells: float  # band of the poses, in cycles per box
    resolution_ang: float  # where the FSC of the half maps before the round falls below 0.143
    turned_deg: float  # median change of the particles' orientation
    moved_ang: float  # and of their shift


@dataclass(frozen=True)
class FullresState:
    """One state; files are relative to the results folder."""

    label: int
    n_particles: int
    n_half1: int
    n_noise_groups: int  # with a noise spectrum of their own
    resolution_before_ang: float  # of the states that it began with, at FSC 0.143
    resolution_ang: float
    proven: bool  # the halves agree beyond what they share
    shared_ang: float  # down to here the halves share more than the particle
    b_factor_ang2: Optional[float]  # None: not sharpened
    b_factor_from: str  # in words
    local_resolution_ang: List[float]  # 10th, 50th and 90th percentile inside the mask
    local_window_ang: float
    turned_deg: float  # median change of the orientations, from the states' to the last
    moved_ang: float
    rounds: List[FullresRound]
    map_file: str
    half_files: List[str]
    sharpened_file: str
    local_resolution_file: str
    mask_file: str
    star_file: str
    relion_file: str


@dataclass(frozen=True)
class FullresSummary:
    """``fullres.json``."""

    box_px: int
    voxel_size_ang: float
    n_particles: int
    seconds: float  # of all states' rounds
    images_per_second: float  # refined in one round, both halves' maps and noise included
    states: List[FullresState]
    symmetry: str = NO_SYMMETRY  # of the maps, and so of the poses
