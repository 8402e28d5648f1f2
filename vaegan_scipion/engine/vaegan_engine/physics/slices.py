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

from .fourier_band import Band
from .projection import gridding_correction

PAD = 2


class Stencil(NamedTuple):
    """Where slice points lie on a half transform ``(s, s, s//2 + 1)``."""

    rows: Tensor  # (n, p, 8) int32 flattened positions
    weights: Tensor  # (n, p, 8)
    sign: Tensor  # (n, p) -1 where the conjugate was taken


def stencil(band: Band, A: Tensor) -> Stencil:
    """Stencil of slices along rotations ``A`` ``(n, 3, 3)``: points ``PAD (k_x A_0 + k_y A_1)``.

    The eight neighbours are written one after the other and turned round by one copy: a stack along the last
    dimension costs as much as all the rest.
    """
    size = PAD * band.box_px
    half = size // 2 + 1
    points = PAD * torch.einsum("pi,nij->jnp", band.kxy, A[:, :2])
    sign = torch.where(points[0] < 0, -1.0, 1.0)
    points = points * sign
    low = points.floor()
    fx, fy, fz = points - low
    x, y, z = low.to(torch.int32)
    xs = x, (x + 1).clamp_(max=half - 1)
    ys, zs = ((_wrapped(k, size), _wrapped(k + 1, size)) for k in (y, z))
    n, p = x.shape
    rows = torch.empty(8, n, p, dtype=torch.int32, device=A.device)
    weights = torch.empty(8, n, p, device=A.device)
    at = 0
    for z_row, z_weight in zip(zs, (1 - fz, fz), strict=True):
        for y_row, y_weight in zip(ys, (1 - fy, fy), strict=True):
            line, weight = (z_row * size + y_row) * half, z_weight * y_weight
            for x_row, x_weight in zip(xs, (1 - fx, fx), strict=True):
                torch.add(line, x_row, out=rows[at])
                torch.mul(weight, x_weight, out=weights[at])
                at += 1
    by_point = [part.view(8, -1).t().contiguous().view(n, p, 8) for part in (rows, weights)]
    return Stencil(by_point[0], by_point[1], sign)


def _wrapped(k: Tensor, size: int) -> Tensor:
    """Positions of frequencies from -size to size - 1 on a grid of ``size``."""
    return torch.where(k < 0, k + size, k)


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
