"""What a state's half maps say of its resolution: FSC curves, resolutions, directions."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..physics.fsc import fourier_shell_correlation, resolution_at
from ..physics.map_comparison import THRESHOLDS, resolutions
from ..physics.masked_fsc import conical_fsc, mask_of_map, masked_fsc
from .half_maps import Halves


def fsc_row(halves: Halves, voxel_size_ang: float) -> dict[str, Any]:
    """Part of a state's row of ``clusters.json``.

    ``fsc``: inside a mask made of the map, corrected for it; ``fsc_raw`` without mask, ``fsc_masked`` not corrected.
    ``shared_shell``, ``shared_ang``: up to here nothing is proven. ``proven_0.143``: whether the curve
    is still above 0.143 at the first shell beyond that. Directions: resolutions at 0.143 inside cones, corrected alike.
    """
    raw = fourier_shell_correlation(*halves.maps)
    mask = mask_of_map(halves.full, raw)
    curves = masked_fsc(halves.maps, mask, halves.shared_shell)
    box_px = len(halves.full)
    box_ang = box_px * voxel_size_ang
    row: dict[str, Any] = {"fsc": _listed(curves.corrected), "fsc_raw": _listed(raw),
                           "fsc_masked": _listed(curves.masked), "shared_shell": halves.shared_shell,
                           "shared_ang": box_ang / halves.shared_shell}
    row |= resolutions(curves.corrected, box_px, voxel_size_ang)
    row["resolution_raw_0.143_ang"] = resolution_at(raw, 0.143, box_px, voxel_size_ang).ang
    row["proven_0.143"] = bool(halves.shared_shell + 1 < len(raw)
                               and curves.corrected[1:halves.shared_shell + 2].min() >= THRESHOLDS["0.143"])
    cones = conical_fsc(*(halves.maps * mask))
    along = cones.corrected(curves.random, curves.first_random).resolutions_ang(0.143, voxel_size_ang)
    return row | {"direction_best_ang": float(along.min()), "direction_worst_ang": float(along.max()),
                  "direction_worst_xyz": _listed(cones.directions[int(along.argmax())])}


def _listed(values: np.ndarray) -> list[float]:
    return [float(x) for x in values]
