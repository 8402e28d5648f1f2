"""A mask that the user gives: a map of values from 0 to 1, read at the voxels of another box of the same extent.

The voxel ``d // 2`` of every box is the particle's centre. What lies outside of the mask is taken for solvent.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..contract.errors import DataError
from ..physics.map_constraint import symmetrised_maps
from ..physics.map_resize import mask_in_box
from .mrc_files import read_map

INSIDE = 0.5  # from here on a voxel is the particle's
_LIMIT_TOLERANCE = 1e-3  # of 0 and 1
_WIDTH_TOLERANCE_FRAC = 0.01
_LOST_FRAC = 0.02  # of the mask's volume, outside of the box
_TURNED_PX = 64
_MOVED_FRAC = 0.1  # of the mask's volume, by a symmetry


class MaskBox(NamedTuple):
    """Where a mask is read."""

    box_px: int
    voxel_size_ang: float
    widths_ang: tuple[float, ...]  # of the boxes that a mask may have been made in


def read_mask(path: str | Path, box: MaskBox) -> Tensor:
    """Mask ``(d, d, d)`` float32 with values from 0 to 1, trilinearly at the voxels of ``box``, 0 outside of the file.

    Raises DataError where it is no map, no mask, of another width than all of ``box.widths_ang``, or cut by the box.
    """
    array, voxel_ang = read_map(path)
    check_values(path, array)
    width_ang = len(array) * voxel_ang
    if min(abs(width_ang / width - 1) for width in box.widths_ang) > _WIDTH_TOLERANCE_FRAC:
        wanted = " or ".join(dict.fromkeys(f"{width:.1f} A" for width in box.widths_ang))
        raise DataError(f"{path}: the mask has {len(array)} voxels of {voxel_ang:.3f} A, {width_ang:.1f} A in all; the "
                        f"box of the particles is {wanted} wide.",
                        "Make the mask from a map in the particles' box, or set the voxel size in its header.")
    if not ((array > _LIMIT_TOLERANCE) & (array < 1 - _LIMIT_TOLERANCE)).any():
        print(f"warning: {path} has no soft edge, which a mask needs where an FSC is taken in it; make one of 3 to 10 "
              "voxels (relion_mask_create --width_soft_edge)", flush=True)
    step = box.voxel_size_ang / voxel_ang
    made = ndimage.affine_transform(array, np.full(3, step), len(array) // 2 - step * (box.box_px // 2),
                                    (box.box_px,) * 3, order=1, mode="grid-constant")
    lost = 1 - float(made.sum(dtype=np.float64)) * step ** 3 / float(array.sum(dtype=np.float64))
    if lost > _LOST_FRAC and len(made) * box.voxel_size_ang < (1 - _WIDTH_TOLERANCE_FRAC) * width_ang:
        raise DataError(f"{path}: {100 * lost:.0f} % of the mask lies outside of the part of the box that is kept.",
                        "Keep more of the box (crop_frac), or give a smaller mask.")
    return torch.from_numpy(made.clip(0, 1))


def check_values(path: str | Path, array: np.ndarray) -> None:
    """Refuse a map that is no mask. Raises DataError."""
    low, high = float(array.min()), float(array.max())
    if low < -_LIMIT_TOLERANCE or high > 1 + _LIMIT_TOLERANCE:
        raise DataError(f"{path}: values from {low:.3g} to {high:.3g}; a mask has values from 0 to 1.",
                        "Make a mask from the map, for example with relion_mask_create.")
    if high < INSIDE:
        raise DataError(f"{path}: no value is above {high:.3g}; a mask is 1 where the particle is.",
                        "Give a mask that holds the particle.")


def check_symmetry(path: str | Path, mask: Tensor, group: Tensor) -> None:
    """Refuse a mask that rotations ``(g, 3, 3)`` of the maps' group move. Raises DataError.

    By the share ``sum |m - mean over the group of m| / sum m``, in a small box: turning takes memory.
    """
    small = mask_in_box(mask, min(len(mask), _TURNED_PX))
    moved = float((small - symmetrised_maps(small[None], group)[0]).abs().sum() / small.sum())
    if moved > _MOVED_FRAC:
        raise DataError(f"{path}: {100 * moved:.0f} % of the mask does not have the symmetry that the maps are "
                        "held to.", "Symmetrise the mask (relion_image_handler --sym), or give the symmetry C1.")


def reach_px(mask: Tensor) -> float:
    """Distance of the farthest voxel that is inside a mask ``(d, d, d)`` from the centre, voxel ``d // 2``."""
    at = torch.nonzero(mask > INSIDE) - len(mask) // 2
    return float(at.double().norm(dim=1).max()) if len(at) else 0.0
