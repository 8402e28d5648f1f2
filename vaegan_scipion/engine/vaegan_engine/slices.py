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

    rows: Tensor  # (n, p, 8) int32 flattened positions
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
    fx, fy, fz = (points - low).unbind(-1)
    x, y, z = low.to(torch.int32).unbind(-1)
    xs = x, (x + 1).clamp_(max=half - 1)
    ys = y % size, (y + 1) % size
    zs = z % size, (z + 1) % size
    rows, weights = [], []
    for z_row, z_weight in zip(zs, (1 - fz, fz), strict=True):
        for y_row, y_weight in zip(ys, (1 - fy, fy), strict=True):
            line, weight = (z_row * size + y_row) * half, z_weight * y_weight
            rows += [line + xs[0], line + xs[1]]
            weights += [weight * (1 - fx), weight * fx]
    return Stencil(torch.stack(rows, -1), torch.stack(weights, -1), torch.where(negative[..., 0], -1.0, 1.0))


def gather(volume_ft: Tensor, at: Stencil) -> Tensor:
    """Slices ``(n, p)`` complex of one half transform ``(s, s, s//2 + 1)``."""
    table = torch.view_as_real(volume_ft).reshape(-1, 2)
    values = torch.nn.functional.embedding_bag(  # one fused pass: 8 weighted rows per point
        at.rows.reshape(-1, 8), table, mode="sum", per_sample_weights=at.weights.reshape(-1, 8))
    real, imag = values.view(*at.sign.shape, 2).unbind(-1)
    return torch.complex(real, imag * at.sign)


def scatter(values: Tensor, real_values: Tensor, at: Stencil, box_px: int) -> tuple[Tensor, Tensor]:
    """Sums of slices in the volume: complex ``values`` and ``real_values``, both ``(n, p)``.

    Returns half transforms ``(s, s, s//2 + 1)``, complex and real; the plane x = 0 holds both a
    coefficient and its conjugate, as of a real map.
    """
    size = PAD * box_px
    half = size // 2 + 1
    rows, n_voxels = at.rows.reshape(-1), size * size * half
    sums = [torch.bincount(rows, (part[..., None] * at.weights).reshape(-1), minlength=n_voxels).to(part.dtype)
            for part in (values.real, values.imag * at.sign, real_values)]
    real, imag, power = (part.view(size, size, half) for part in sums)
    for part, sign in ((real, 1.0), (imag, -1.0), (power, 1.0)):
        edge = part[:, :, 0].clone()
        part[:, :, 0] += sign * edge.flip(0, 1).roll((1, 1), (0, 1))
    return torch.complex(real, imag), power


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
