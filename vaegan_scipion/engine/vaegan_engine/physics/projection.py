"""Projection of density maps by the Fourier slice theorem, differentiable in map and rotation.

Conventions (RELION's): a map is an array z, y, x with its centre at voxel ``d // 2``; ``A`` is
RELION's Euler matrix, whose rows 0 and 1 are the image's x and y axes in the map's (x, y, z)
frame; the image's centre is pixel ``d // 2``. Slices are stored as half planes
``(n, d, d//2 + 1)`` (rfft layout) with the phase origin at the image centre.

Equation: ``FT2[ sum_z V(R^T r) ](k) = FT3[V](k_x A_0 + k_y A_1)``. The 3D transform is sampled
by trilinear interpolation on a grid padded ``pad`` times; the map is divided first by the
interpolation kernel's transform ``sinc(x / (pad d))**2`` per axis.
"""
from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import slice_kernels
from .shards import in_parts

_TAKEN_TOGETHER = 8  # slices that one thread reads at a time


@lru_cache(maxsize=16)
def gridding_correction(d: int, pad: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``1 / sinc(x / (pad d))**2`` per axis ``(d, d, d)``: undoes trilinear interpolation in Fourier space."""
    x = (torch.arange(d, device=device, dtype=dtype) - d // 2) / (pad * d)
    s = torch.sinc(x) ** 2
    return 1.0 / (s[:, None, None] * s[None, :, None] * s[None, None, :])


@lru_cache(maxsize=16)
def half_plane_points(d: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Frequencies inside the Nyquist circle of a ``d`` px half plane.

    Returns
    -------
    index : ``(p,)`` int64 positions in the flattened ``(d, d//2 + 1)`` half plane.
    kxy : ``(p, 2)`` frequencies (x, y) in cycles per box.
    """
    ky = torch.fft.fftfreq(d, 1.0 / d, device=device, dtype=dtype)
    kx = torch.arange(d // 2 + 1, device=device, dtype=dtype)
    grid = torch.stack(torch.broadcast_tensors(kx[None, :], ky[:, None]), -1).reshape(-1, 2)
    index = torch.nonzero(grid.square().sum(-1) < (d / 2) ** 2).squeeze(-1)
    return index, grid[index]


def map_to_fourier(maps: Tensor, pad: int = 2) -> Tensor:
    """Padded, gridding-corrected transform of maps, phase origin at the map's centre.

    ``(v, d, d, d)`` real to ``(v, pad*d, pad*d, pad*d//2 + 1)`` complex.
    """
    corrected = maps * gridding_correction(maps.shape[-1], pad, maps.device, maps.dtype)
    transforms: Tensor = _PaddedTransform.apply(corrected, pad)
    return transforms


class _PaddedTransform(torch.autograd.Function):
    """Half transforms of padded maps, centres at the origin.

    The adjoint of ``F(k) = sum_x V(x) exp(-2 pi i k.x)`` on a half grid is the real part of the sum over that half
    alone: a transform back to real numbers in which the planes that stand for two (0 < k_x < s / 2) count half. Axis
    by axis, what lies outside the map's box is dropped at once.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, pad: int) -> Tensor:
        d = maps.shape[-1]
        size = pad * d
        ctx.box_px = d
        padded = maps.new_zeros(*maps.shape[:-3], size, size, size)
        low, high = (slice(d // 2), slice(size - d // 2, size)), (slice(d // 2, d), slice(d - d // 2))
        for (z, to_z), (y, to_y), (x, to_x) in product((low, high), repeat=3):
            padded[..., to_z, to_y, to_x] = maps[..., z, y, x]
        return torch.fft.rfftn(padded, dim=(-3, -2, -1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        d, size = ctx.box_px, gradient.shape[-2]
        inside = torch.arange(-(d // 2), d - d // 2, device=gradient.device) % size
        for axis in (-3, -2):
            gradient = torch.fft.ifft(gradient, dim=axis, norm="forward").index_select(axis, inside)
        counts = torch.full((size // 2 + 1,), 0.5, device=gradient.device, dtype=gradient.real.dtype)
        counts[0] = 1
        if size % 2 == 0:
            counts[-1] = 1
        maps = torch.fft.irfft(gradient * counts, n=size, dim=-1, norm="forward")
        return maps.index_select(-1, inside), None


def sample_half_transform(map_ft: Tensor, index: Tensor, points: Tensor) -> Tensor:
    """Trilinear samples of half transforms at ``points``.

    Parameters
    ----------
    map_ft : ``(v, s, s, s//2 + 1)`` complex, Hermitian half transforms.
    index : ``(n,)`` which transform each row of points reads.
    points : ``(n, p, 3)`` frequencies (x, y, z) in grid units, ``|k| < s/2``.

    Returns
    -------
    ``(n, p)`` complex samples. Differentiable in ``map_ft`` and ``points``.
    """
    size, half = map_ft.shape[1], map_ft.shape[3]
    negative = points[..., 0:1] < 0
    points = torch.where(negative, -points, points)
    floor = points.detach().floor()
    frac = points - floor
    low = floor.long()
    x = torch.stack((low[..., 0], low[..., 0] + 1), -1).clamp_(max=half - 1)
    y = torch.stack((low[..., 1], low[..., 1] + 1), -1) % size
    z = torch.stack((low[..., 2], low[..., 2] + 1), -1) % size
    wx, wy, wz = (torch.stack((1 - frac[..., i], frac[..., i]), -1) for i in range(3))
    plane = z[..., :, None] * size + y[..., None, :]  # (n, p, 2, 2)
    plane = plane + index[:, None, None, None] * (size * size)
    rows = plane[..., None] * half + x[..., None, None, :]  # (n, p, 2, 2, 2)
    weights = wz[..., :, None, None] * wy[..., None, :, None] * wx[..., None, None, :]
    table = torch.view_as_real(map_ft).reshape(-1, 2)
    n, p = points.shape[:2]
    corners = torch.nn.functional.embedding(rows.reshape(n, p, 8), table)
    values = (corners * weights.reshape(n, p, 8, 1)).sum(2)
    sign = torch.where(negative, -1.0, 1.0).to(values.dtype)
    return torch.complex(values[..., 0], values[..., 1] * sign[..., 0])


class _SampledSlices(torch.autograd.Function):
    """``sample_half_transform`` along fixed rotations on a CPU, compiled; the gradient of the transforms alone.

    Gradients of slices of one transform are added one after the other, transforms side by side: the same bits for any
    number of threads.
    """

    @staticmethod
    def forward(ctx: Any, map_ft: Tensor, index: Tensor, points: Tensor, A: Tensor) -> Tensor:
        volumes = torch.view_as_real(map_ft.resolve_conj().contiguous()).flatten(1).numpy()
        ctx.of_map, ctx.points, ctx.rotations = index.numpy(), points.contiguous().numpy(), A.contiguous().numpy()
        ctx.shape = map_ft.shape
        samples = torch.empty(len(A), len(points), dtype=torch.complex64)
        out = torch.view_as_real(samples).flatten(1).numpy()

        def work(first: int, end: int) -> None:
            for i in range(first, end):
                rows = slice(i, i + 1)
                slice_kernels.slice_values(volumes[ctx.of_map[i]], map_ft.shape[1], ctx.points, ctx.rotations[rows],
                                           out[rows])

        in_parts(work, len(A), _TAKEN_TOGETHER)
        return samples

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        sums = torch.zeros(ctx.shape, dtype=torch.complex64)
        volumes = torch.view_as_real(sums).flatten(1).numpy()
        values = torch.view_as_real(gradient.resolve_conj().contiguous()).flatten(1).numpy()

        def work(first: int, end: int) -> None:
            for v in range(first, end):
                rows = np.flatnonzero(ctx.of_map == v)
                slice_kernels.add_at_points(values[rows], ctx.shape[1], ctx.points, ctx.rotations[rows], volumes[v])

        in_parts(work, len(volumes), 1)
        return sums, None, None, None


def extract_slices(map_ft: Tensor, index: Tensor, A: Tensor, box_px: int) -> Tensor:
    """Central slices ``(n, d, d//2 + 1)`` complex of maps ``index`` seen along ``A``.

    ``map_ft`` comes from ``map_to_fourier``; ``A`` is ``(n, 3, 3)``. Frequencies outside
    the Nyquist circle are zero.
    """
    pad = map_ft.shape[1] // box_px
    flat, kxy = half_plane_points(box_px, A.device, A.dtype)
    if A.device.type == "cpu" and A.dtype == torch.float32 and not A.requires_grad:
        samples: Tensor = _SampledSlices.apply(map_ft, index, pad * kxy, A)
    else:
        samples = sample_half_transform(map_ft, index, pad * torch.einsum("pi,nij->npj", kxy, A[:, :2, :]))
    plane = samples.new_zeros(len(A), box_px * (box_px // 2 + 1))
    plane = plane.index_copy(1, flat, samples)
    return plane.reshape(len(A), box_px, box_px // 2 + 1)


def shift_slices(slices: Tensor, shifts_px: Tensor) -> Tensor:
    """Move the image content by ``shifts_px`` ``(n, 2)`` (x, y): ``exp(-2 pi i k.s / d)``."""
    d = slices.shape[-2]
    ky = torch.fft.fftfreq(d, 1.0 / d, device=slices.device, dtype=shifts_px.dtype)
    kx = torch.arange(d // 2 + 1, device=slices.device, dtype=shifts_px.dtype)
    angle = (-2 * torch.pi / d) * (shifts_px[:, 0, None, None] * kx[None, None, :]
                                   + shifts_px[:, 1, None, None] * ky[None, :, None])
    return slices * torch.polar(torch.ones_like(angle), angle)


def slices_to_images(slices: Tensor) -> Tensor:
    """Images ``(n, d, d)``, centre at ``d // 2``, of half planes ``(n, d, d//2 + 1)``."""
    d = slices.shape[-2]
    return torch.fft.fftshift(torch.fft.irfft2(slices, s=(d, d)), dim=(-2, -1))


def images_to_slices(images: Tensor) -> Tensor:
    """Inverse of ``slices_to_images``."""
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def project(maps: Tensor, index: Tensor, A: Tensor, pad: int = 2) -> Tensor:
    """Images ``(n, d, d)`` of maps ``maps[index]`` ``(v, d, d, d)`` seen along ``A``."""
    return slices_to_images(
        extract_slices(map_to_fourier(maps, pad), index, A, maps.shape[-1]))
