"""Central slices of maps at many rotations, and their adjoint: sums of slices back in the volume.

``stencil`` holds the eight neighbours and trilinear weights of each slice point on the padded half
transform of a map; ``gather`` reads slices with it, ``scatter`` adds slices with it (the adjoint), so
one geometry serves both. Grid, padding and gridding correction are those of ``projection``.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .band import Band
from .projection import gridding_correction

PAD = 2


class Stencil(NamedTuple):
    """Where slice points lie on a half transform ``(s, s, s//2 + 1)``."""

    rows: Tensor  # (n, p, 8) int64 flattened positions
    weights: Tensor  # (n, p, 8)
    sign: Tensor  # (n, p) -1 where the conjugate was taken


def stencil(band: Band, A: Tensor) -> Stencil:
    """Stencil of slices along rotations ``A`` ``(n, 3, 3)``: points ``PAD (k_x A_0 + k_y A_1)``."""
    size = PAD * band.box_px
    half = size // 2 + 1
    points = PAD * torch.einsum("pi,nij->npj", band.kxy, A[:, :2])
    negative = points[..., :1] < 0
    points = torch.where(negative, -points, points)
    low = points.floor()
    high_weight = points - low
    low = low.long()
    corner = torch.tensor([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], device=A.device)
    at = low[..., None, :] + corner  # (n, p, 8, 3)
    rows = (at[..., 2] % size * size + at[..., 1] % size) * half + at[..., 0].clamp(max=half - 1)
    factor = torch.where(corner.bool(), high_weight[..., None, :], 1 - high_weight[..., None, :])
    return Stencil(rows, factor.prod(-1), torch.where(negative[..., 0], -1.0, 1.0))


def gather(volume_ft: Tensor, at: Stencil) -> Tensor:
    """Slices ``(n, p)`` complex of one half transform ``(s, s, s//2 + 1)``."""
    table = torch.view_as_real(volume_ft).reshape(-1, 2)
    values = (torch.nn.functional.embedding(at.rows, table) * at.weights[..., None]).sum(-2)
    return torch.complex(values[..., 0], values[..., 1] * at.sign)


def scatter(values: Tensor, real_values: Tensor, at: Stencil, box_px: int) -> tuple[Tensor, Tensor]:
    """Sums of slices in the volume: complex ``values`` and ``real_values``, both ``(n, p)``.

    Returns half transforms ``(s, s, s//2 + 1)``, complex and real; the plane x = 0 holds both a
    coefficient and its conjugate, as of a real map.
    """
    size = PAD * box_px
    half = size // 2 + 1
    parts = torch.stack((values.real, values.imag * at.sign, real_values), -1)
    sums = parts.new_zeros(size * size * half, 3)
    sums.index_add_(0, at.rows.reshape(-1), (parts[..., None, :] * at.weights[..., None]).reshape(-1, 3))
    sums = sums.reshape(size, size, half, 3)
    edge = sums[:, :, 0]
    mirrored = edge.flip(0, 1).roll((1, 1), (0, 1)) * edge.new_tensor([1.0, -1.0, 1.0])
    sums[:, :, 0] = edge + mirrored
    return torch.complex(sums[..., 0], sums[..., 1]), sums[..., 2]


@lru_cache(maxsize=8)
def half_radius(size: int, device: torch.device) -> Tensor:
    """``|k|`` in grid units ``(s, s, s//2 + 1)``."""
    k = torch.fft.fftfreq(size, 1.0 / size, device=device)
    kx = torch.arange(size // 2 + 1, device=device)
    return (k[:, None, None] ** 2 + k[None, :, None] ** 2 + kx[None, None, :] ** 2).sqrt()


def fourier_to_volume(volume_ft: Tensor, box_px: int) -> Tensor:
    """Map ``(d, d, d)`` of a padded half transform ``(s, s, s//2 + 1)`` that was filled by ``scatter``.

    The interpolation kernel's transform is divided out, as ``projection.volume_to_fourier`` does before
    reading.
    """
    size = PAD * box_px
    padded = torch.fft.fftshift(torch.fft.irfftn(volume_ft, s=(size, size, size)))
    first = size // 2 - box_px // 2
    kept = slice(first, first + box_px)
    return padded[kept, kept, kept] * gridding_correction(box_px, PAD, padded.device, padded.dtype)
