"""FSC and correlation of two maps inside a soft mask."""
from __future__ import annotations

import numpy as np

from ..contract.drawings import FSC_THRESHOLDS
from ..contract.map_records import MapComparison
from .fsc import fourier_shell_correlation, resolution_at, soft_sphere_mask

MASK_RADIUS_FRAC = 0.45  # of the box; both maps of an FSC are masked
MASK_EDGE_FRAC = 0.05


def compare(map_a: np.ndarray, map_b: np.ndarray, voxel_size_ang: float) -> MapComparison:
    """FSC of two aligned maps ``(d, d, d)`` inside a soft sphere, and the resolutions read from it.

    Resolutions in A and as a fraction of Nyquist (1 = Nyquist, ``2 voxel / resolution``).
    ``crossed`` is False where the curve never falls below the threshold.
    """
    d = len(map_a)
    mask = soft_sphere_mask(d, MASK_RADIUS_FRAC * d, MASK_EDGE_FRAC * d)
    fsc = fourier_shell_correlation(map_a * mask, map_b * mask)
    return comparison_of(fsc, d, voxel_size_ang)


def comparison_of(fsc: np.ndarray, box_px: int, voxel_size_ang: float) -> MapComparison:
    """Where an FSC ``(d//2 + 1,)`` of maps in a box d falls below each threshold."""
    lower, upper = (resolution_at(fsc, threshold, box_px, voxel_size_ang) for threshold in FSC_THRESHOLDS)
    return MapComparison([float(x) for x in fsc],
                         lower.ang, 2 * voxel_size_ang / lower.ang, bool(lower.crossed),
                         upper.ang, 2 * voxel_size_ang / upper.ang, bool(upper.crossed), box_px)
