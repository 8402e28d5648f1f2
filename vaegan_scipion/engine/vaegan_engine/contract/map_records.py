"""Figures of maps and averages in results files: FSC of two maps, what of it is proven, of a state, of a class.

Standard library only, Python 3.8 syntax: Scipion reads results with this file.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from .record import inlined, named


def curve_box_px(n_shells: int, box_px: Optional[int]) -> int:
    """Box d (px) of a curve of ``d // 2 + 1`` shells: as stored beside it.

    Files of before it was stored have none (``box_px`` None). Then it is the even one of the two boxes that have so
    many shells.
    """
    return 2 * (n_shells - 1) if box_px is None else box_px


@dataclass(frozen=True)
class MapComparison:
    """FSC of two maps in one frame inside a soft sphere, and what is read from it at two thresholds.

    Resolutions in A and as a fraction of Nyquist (1 = Nyquist); ``crossed`` is False where the curve never falls below.
    ``box_px``: of the maps, which the number of shells does not tell (``map_box_px``).
    """

    fsc: List[float]
    resolution_0143_ang: float = named("resolution_0.143_ang")
    nyquist_frac_0143: float = named("nyquist_frac_0.143")
    crossed_0143: bool = named("crossed_0.143")
    resolution_05_ang: float = named("resolution_0.5_ang")
    nyquist_frac_05: float = named("nyquist_frac_0.5")
    crossed_05: bool = named("crossed_0.5")
    box_px: Optional[int] = None

    @property
    def map_box_px(self) -> int:
        """Box of the maps, known for older files too (``curve_box_px``)."""
        return curve_box_px(len(self.fsc), self.box_px)


@dataclass(frozen=True)
class HalvesProof:
    """What of the FSC of two half maps is proven; the curve itself is masked, and corrected for the mask."""

    fsc_raw: List[float]  # without mask
    fsc_masked: List[float]  # not corrected
    shared_shell: int  # up to here nothing is proven; the last one where there is no structure
    shared_ang: float
    direction_best_ang: float  # at 0.143 inside cones, corrected alike
    direction_worst_ang: float
    direction_worst_xyz: List[float]
    proven_0143: bool = named("proven_0.143")  # the curve is still above 0.143 at the first shell beyond
    resolution_raw_0143_ang: float = named("resolution_raw_0.143_ang")


@dataclass(frozen=True)
class StateFigures:
    """What an entry of ``clusters.json`` says beside when it is a state: half maps, frame and motion."""

    files: List[str]  # the half maps
    voxel_size_ang: float
    frame_correlation: float  # with the state that it was laid on, in the common frame
    frame_mirrored: bool
    motion_agreement: Optional[float]  # of two halves on the place of each particle; None where it was not looked for
    motion_files: List[str]  # maps along the motion; empty where the state does not vary
    halves: MapComparison = inlined()
    proof: HalvesProof = inlined()
    scf: Optional[float] = None  # of its views (``physics.view_coverage``): 1 = even, 0 = a part is empty
    unsampled_frac: Optional[float] = None  # part of Fourier space that no view reaches
    frame_label: Optional[int] = None  # the state that it was laid on; None in older files
    frame_other_hand: Optional[float] = None  # correlation in the other hand; None where one hand was tried
    hand_open: bool = False  # both hands fit alike: whether it is of the others' hand is not known

    @property
    def box_ang(self) -> float:
        """Width of the maps in A."""
        return self.halves.map_box_px * self.voxel_size_ang


@dataclass(frozen=True)
class PlaneFigures:
    """What an entry of ``clusters.json`` says beside when it is a class in the plane."""

    junk: str  # why it is; empty = a class of particles
    n_junk: int  # of its images, those of a class of junk too
    pixel_size_ang: float
    frc: List[float]  # of the half averages, in the mask, less what the mask brings
    median_gain: float  # log likelihood ratio of an image with the other half's average
    frc_0143_ang: float = named("frc_0.143_ang")  # 0 where the halves agree on nothing
    frc_05_ang: float = named("frc_0.5_ang")
    box_px: Optional[int] = None  # of the averages (``image_box_px``)

    @property
    def image_box_px(self) -> int:
        """Box of the averages, known for older files too (``curve_box_px``)."""
        return curve_box_px(len(self.frc), self.box_px)


@dataclass(frozen=True)
class PoseError:
    """Poses of a state against the true ones, modulo the symmetry that was told."""

    label: int
    median_deg: float
