"""Maps on finer or coarser grids of the same extent, by their Fourier coefficients."""
from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_FAST_SIZES = (8, 10, 12, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 54, 56, 60, 64, 72, 80, 90, 96, 100, 108, 112, 120,
               128, 140, 144, 160, 168, 180, 192, 200, 216, 224, 240, 252, 256, 280, 288, 300, 320, 360, 384, 400, 432,
               448, 480, 500, 512)


# shells that a working box has beyond its band: of maps at poses, and of a mean with its principal maps (many more, so
# that memory counts)
MAP_MARGIN_SHELLS, FAMILY_MARGIN_SHELLS = 4, 2


def working_box_px(radius: float, largest_px: int, margin_shells: int = FAMILY_MARGIN_SHELLS) -> int:
    """Smallest box with fast transforms for frequencies up to ``radius`` cycles per box; at most ``largest_px``.

    ``margin_shells`` beyond the whole ones leave room for a soft edge and for what a mask spreads.
    """
    needed = 2 * (int(radius) + margin_shells)
    return min([size for size in _FAST_SIZES if size >= needed] + [largest_px])


def resized_maps(maps: Tensor, box_px: int) -> Tensor:
    """Maps ``(..., d, d, d)`` sampled at ``(..., b, b, b)`` points of the same cube, b = ``box_px``.

    The transforms ``sum_r V(r) exp(-2 pi i k.r / d)`` (k in cycles per box, r from the centre ``d // 2``) are kept
    for ``|k_x|, |k_y|, |k_z| < min(b, d) / 2`` and are zero beyond: a map and its copy have the same projections up to
    there. Values scale with ``(d / b)^3``.
    """
    d = maps.shape[-1]
    if d == box_px:
        return maps
    axes = (-3, -2, -1)
    transform = torch.fft.rfftn(torch.fft.ifftshift(maps, dim=axes), dim=axes)
    kept = resized_transforms(transform, box_px)
    return torch.fft.fftshift(torch.fft.irfftn(kept, s=(box_px,) * 3, dim=axes), dim=axes)


def resized_transforms(transforms: Tensor, size: int) -> Tensor:
    """Half transforms ``(..., s, s, s//2 + 1)`` cut or filled up with zeros to another size.

    Frequencies at the edge of an even smaller size are left out: they stand for both signs.
    """
    if transforms.shape[-2] == size:
        return transforms
    kept = (min(transforms.shape[-2], size) - 1) // 2
    made = transforms.new_zeros(*transforms.shape[:-3], size, size, size // 2 + 1)
    low, high = slice(0, kept + 1), slice(-kept, None)
    for z in (low, high):
        for y in (low, high):
            made[..., z, y, low] = transforms[..., z, y, low]
    return made


@lru_cache(maxsize=8)
def mask_in_box(mask: Tensor, box_px: int) -> Tensor:
    """A mask ``(d, d, d)`` read at the voxels of another box, trilinearly; outside it is as at its edge."""
    d = mask.shape[-1]
    if d == box_px:
        return mask
    at = (torch.arange(box_px, device=mask.device, dtype=mask.dtype) - box_px // 2) * (d / box_px) + d // 2
    at = at.clamp(0, d - 1)
    low = at.floor().long().clamp(max=d - 2)
    for axis in range(3):
        part = (at - low).view([-1 if k == axis else 1 for k in range(3)])
        near, far = mask.index_select(axis, low), mask.index_select(axis, low + 1)
        mask = near + part * (far - near)
    return mask
