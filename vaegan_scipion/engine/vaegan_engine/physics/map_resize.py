"""Maps on finer or coarser grids of the same extent, by their Fourier coefficients."""
from __future__ import annotations

import torch
from torch import Tensor

_FAST_SIZES = (8, 10, 12, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 54, 56, 60, 64, 72, 80, 90, 96, 100, 108, 112, 120,
               128)


def working_box_px(radius: float, largest_px: int) -> int:
    """Smallest box with fast transforms for frequencies up to ``radius`` cycles per box; at most ``largest_px``."""
    needed = 2 * (int(radius) + 2)
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
    kept = (min(d, box_px) - 1) // 2
    small = torch.fft.fftshift(transform, dim=(-3, -2))
    old, new = slice(d // 2 - kept, d // 2 + kept + 1), slice(box_px // 2 - kept, box_px // 2 + kept + 1)
    out = transform.new_zeros(*maps.shape[:-3], box_px, box_px, box_px // 2 + 1)
    out[..., new, new, :kept + 1] = small[..., old, old, :kept + 1]
    out = torch.fft.ifftshift(out, dim=(-3, -2))
    return torch.fft.fftshift(torch.fft.irfftn(out, s=(box_px,) * 3, dim=axes), dim=axes)
