"""FSC and correlation of two maps inside a soft mask."""
from __future__ import annotations

from typing import Any

import numpy as np

from .fsc import fourier_shell_correlation, resolution_at, soft_sphere_mask

MASK_RADIUS_FRAC = 0.45  # of the box; both maps of an FSC are masked
MASK_EDGE_FRAC = 0.05
THRESHOLDS = {"0.143": 0.143, "0.5": 0.5}


def compare(map_a: np.ndarray, map_b: np.ndarray, voxel_size_ang: float) -> dict[str, Any]:
    """FSC of two aligned maps ``(d, d, d)`` inside a soft sphere, and the resolutions read from it.

    Resolutions in A and as a fraction of Nyquist (1 = Nyquist, ``2 voxel / resolution``).
    ``crossed`` is False where the curve never falls below the threshold.
    """
    d = len(map_a)
    mask = soft_sphere_mask(d, MASK_RADIUS_FRAC * d, MASK_EDGE_FRAC * d)
    fsc = fourier_shell_correlation(map_a * mask, map_b * mask)
    return {"fsc": [float(x) for x in fsc], **resolutions(fsc, d, voxel_size_ang)}


def resolutions(fsc: np.ndarray, box_px: int, voxel_size_ang: float) -> dict[str, Any]:
    """Where an FSC ``(d//2 + 1,)`` falls below each threshold, as of ``compare``."""
    row: dict[str, Any] = {}
    for name, threshold in THRESHOLDS.items():
        found = resolution_at(fsc, threshold, box_px, voxel_size_ang)
        row[f"resolution_{name}_ang"] = found.ang
        row[f"nyquist_frac_{name}"] = 2 * voxel_size_ang / found.ang
        row[f"crossed_{name}"] = found.crossed
    return row


def frequencies_per_ang(box_px: int, voxel_size_ang: float) -> np.ndarray:
    """Spatial frequency of each FSC shell, 1/A, ``(d // 2 + 1,)``."""
    return np.arange(box_px // 2 + 1) / (box_px * voxel_size_ang)
