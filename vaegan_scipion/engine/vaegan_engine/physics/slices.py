"""Central slices of maps at many rotations, and their adjoint: sums of slices back in the transform.

``stencil`` holds the eight neighbours and trilinear weights of each slice point on the padded half
transform of a map; ``gather`` reads slices with it, ``scatter`` adds slices with it (the adjoint), so
one geometry serves both. Grid, padding and gridding correction are those of ``projection``.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import slice_kernels
from .fourier_band import Band
from .map_resize import MAP_MARGIN_SHELLS, resized_maps, working_box_px
from .projection import gridding_correction, map_to_fourier
from .shards import in_parts, n_processes, shared_parts, shared_parts_in_turn

PAD = 2
CHUNK_IMAGES = 512  # at a time; more no longer fit the cache
_CHUNK_POINTS = 2 ** 22  # slice points held at a time, of some 60 bytes each: fewer images of a large band
_TAKEN_TOGETHER = 64  # slices that one thread reads at a time
_SUMS = 8  # that slices are added to, of at least ``_LEAST_ADDED`` slices each, and as many as have its points
_LEAST_ADDED = 64
_MOST_TURNED = 96  # largest reach of sums whose axes are exchanged: 0.2 GB beside them
_ON_GRID = 1e-4  # of an element of a rotation
_MOST_SUMMED = 2 ** 29  # numbers of 4 bytes in all these sums: 2 GB; at 400 px one sum alone has 3 GB


class Stencil(NamedTuple):
    """Where slice points lie on a half transform ``(s, s, s//2 + 1)``."""

    rows: Tensor  # (n, p, 8) int32 flattened positions
    weights: Tensor  # (n, p, 8)
    sign: Tensor  # (n, p) -1 where the conjugate was taken


def stencil(band: Band, A: Tensor, size: int = 0) -> Stencil:
    """Stencil of slices along rotations ``A`` ``(n, 3, 3)``: points ``PAD (k_x A_0 + k_y A_1)``.

    ``size`` is that of the half transform, 0 for a map in the box of the images. The eight neighbours are written one
    after the other and turned round by one copy: a stack along the last dimension costs as much as all the rest.
    """
    size = size or PAD * band.box_px
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


def map_box_px(radius: float, box_px: int) -> int:
    """Side of the box that a map of ``radius`` shells from images of ``box_px`` is worked on in."""
    return working_box_px(radius, box_px, MAP_MARGIN_SHELLS)


def transform_of(map_: Tensor, band: Band) -> Tensor:
    """Half transform ``(s, s, s//2 + 1)`` that slices of a map ``(d, d, d)`` are taken from.

    Slices of a map in too small a box for the band are 0 outside it.
    """
    return transforms_of(map_[None], band)[0]


def transforms_of(maps: Tensor, band: Band) -> Tensor:
    """``transform_of`` of several maps ``(v, d, d, d)``: ``(v, s, s, s//2 + 1)``."""
    return map_to_fourier(resized_maps(maps, max(maps.shape[-1], map_box_px(band.radius, band.box_px))), PAD)


def gather(map_ft: Tensor, at: Stencil) -> Tensor:
    """Slices ``(n, p)`` complex of one half transform ``(s, s, s//2 + 1)``."""
    table = torch.view_as_real(map_ft).reshape(-1, 2)
    values = torch.nn.functional.embedding_bag(  # one fused pass: 8 weighted rows per point
        at.rows.reshape(-1, 8), table, mode="sum", per_sample_weights=at.weights.reshape(-1, 8))
    real, imag = values.view(*at.sign.shape, 2).unbind(-1)
    return torch.complex(real, imag * at.sign)


def gather_slopes(map_ft: Tensor, at: Stencil) -> tuple[Tensor, Tensor]:
    """Slices ``(n, p)`` as ``gather``'s, and their derivatives ``(n, p, 3)`` along x, y, z in grid units."""
    corners = map_ft.reshape(-1)[at.rows.long()].unflatten(-1, (2, 2, 2))
    weights = at.weights.unflatten(-1, (2, 2, 2))
    slopes = torch.stack([(corners.diff(dim=axis) * weights.sum(axis, keepdim=True)).sum((-3, -2, -1))
                          for axis in (-1, -2, -3)], -1)
    value = (corners * weights).sum((-3, -2, -1))
    return (torch.complex(value.real, value.imag * at.sign),
            torch.complex(slopes.real * at.sign[..., None], slopes.imag))


def scatter(values: Tensor, real_values: Tensor, at: Stencil, box_px: int) -> tuple[Tensor, Tensor]:
    """Sums of slices in the transform: complex ``values`` and ``real_values``, both ``(n, p)``.

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


def images_per_chunk(n_points: int) -> int:
    """Images with ``n_points`` coefficients each that are worked on at a time."""
    return max(1, min(CHUNK_IMAGES, _CHUNK_POINTS // max(1, n_points)))


def take_slices(map_ft: Tensor, band: Band, A: Tensor) -> Tensor:
    """Slices ``(n, p)`` complex of one half transform ``(s, s, s//2 + 1)`` along rotations ``A`` ``(n, 3, 3)``."""
    if A.device.type != "cpu":
        return gather(map_ft, stencil(band, A, len(map_ft)))
    size, samples, points, rotations = len(map_ft), floats(map_ft).reshape(-1), grid_points(band), as_numpy(A)
    out = torch.empty(len(A), len(band.index), dtype=torch.complex64)
    made = floats(out)

    def work(first: int, end: int) -> None:
        slice_kernels.slice_values(samples, size, points, rotations[first:end], made[first:end])

    in_parts(work, len(A), _TAKEN_TOGETHER)
    return out


def add_slices(part: Callable[[slice], tuple[Tensor, Tensor]], band: Band, A: Tensor, map_px: int, group: Tensor
               ) -> tuple[Tensor, Tensor]:
    """Sums in the transform of slices along rotations ``A G`` ``(n, 3, 3)``, as those of ``scatter``.

    Each slice is added along every rotation G of ``group`` (g, 3, 3), for all show the same of a map of that symmetry.
    Those that carry the grid to itself are the same sums with their axes exchanged (``grid_turns``). ``part`` gives
    values and real values ``(m, p)`` of some of them; it is asked for few at a time, on several threads.
    """
    size, chunk = PAD * map_px, images_per_chunk(len(band.index))
    reach = math.ceil(PAD * float(band.kxy.norm(dim=1).max()) - 1e-3) + 1
    group, on_grid = grid_turns(group) if reach <= min(size // 2 - 1, _MOST_TURNED) else (group, group[:0])
    sums = torch.zeros(size, size, size // 2 + 1, dtype=torch.complex64, device=A.device)
    powers = torch.zeros(sums.shape, device=A.device)
    if A.device.type != "cpu":
        def scattered(first: int, end: int) -> tuple[Tensor, Tensor]:
            own = torch.zeros_like(sums), torch.zeros_like(powers)
            for start in range(first, end, chunk):
                rows = slice(start, min(start + chunk, end))
                values = part(rows)
                for turn in group:
                    more = scatter(*values, stencil(band, A[rows] @ turn, size), map_px)
                    own = own[0] + more[0], own[1] + more[1]
            return own

        for top, bottom in shared_parts(scattered, len(A), max(1, math.ceil(len(A) / n_processes())), threads=False):
            sums, powers = sums + top, powers + bottom
        return add_turned(sums, on_grid, reach), add_turned(powers, on_grid, reach)
    points, copies = grid_points(band), [as_numpy(A @ turn) for turn in group]

    def work(first: int, end: int) -> np.ndarray:
        cube = np.zeros((2 * reach + 1, 2 * reach + 1, reach + 1, 3), np.float32)
        for start in range(first, end, chunk):
            rows = slice(start, min(start + chunk, end))
            values, real_values = part(rows)
            for rotations in copies:
                slice_kernels.add_slices(floats(values), as_numpy(real_values), points, rotations[rows], cube)
        return cube

    n_voxels = (2 * reach + 1) ** 2 * (reach + 1)
    n_sums, filling = max(1, min(_SUMS, _MOST_SUMMED // (3 * n_voxels))), n_voxels // (len(points) * len(copies))
    parts = max(_LEAST_ADDED, filling, math.ceil(len(A) / n_sums))
    for cube in shared_parts_in_turn(work, len(A), parts):  # of a large box each is as large as the sums
        slice_kernels.add_cube(cube, size, torch.view_as_real(sums).numpy(), powers.numpy())
        del cube
    return add_turned(sums, on_grid, reach), add_turned(powers, on_grid, reach)


def grid_turns(group: Tensor) -> tuple[Tensor, Tensor]:
    """A group's rotations ``(g, 3, 3)`` as ``K H``: some K, and the subgroup of H that exchange and invert axes.

    No H where that is the identity alone: K is the group.
    """
    whole = group.round()
    turns = whole[((group - whole).abs() < _ON_GRID).all(2).all(1)]
    if len(turns) < 2:
        return group, group[:0]
    kept, left = list[Tensor](), group
    while len(left):
        kept.append(left[0])
        copies = left[0] @ turns
        left = left[((left[:, None] - copies).abs().amax((2, 3)) > _ON_GRID).all(1)]
    return torch.stack(kept), turns


@lru_cache(maxsize=4)
def _orbits(turns: tuple[tuple[int, ...], ...], reach: int) -> Tensor:
    """Positions ``(m, h)`` in a cube of side ``2 reach + 1`` about 0, of z, y, x: each row is ``k H`` of one k.

    Of a ball alone: neighbours of slice points lie no further than ``reach + 1`` from the middle.
    """
    side, matrices = 2 * reach + 1, torch.tensor(turns).view(-1, 3, 3)

    def turned(k: Tensor, turn: Tensor) -> Tensor:
        x, y, z = (k @ turn + reach).T
        return (z * side + y) * side + x

    at = torch.arange(side ** 3)
    k = torch.stack((at % side, at // side % side, at // side ** 2), 1) - reach
    first = at.clone()
    for turn in matrices:
        torch.minimum(first, turned(k, turn), out=first)
    k = k[(first == at) & (k.square().sum(1) <= (reach + 1) ** 2)]
    return torch.stack([turned(k, turn) for turn in matrices], 1)


def add_turned(sums: Tensor, turns: Tensor, reach: int) -> Tensor:
    """The sum of a half transform ``(s, s, s//2 + 1)``, 0 beyond ``reach``, at ``k H`` for all H of ``grid_turns``.

    Nothing is interpolated: with the transform whole about its middle, each H exchanges and inverts axes.
    """
    if not len(turns):
        return sums
    orbits = _orbits(tuple(tuple(turn) for turn in turns.long().flatten(1).tolist()), reach).to(sums.device)
    middle = torch.arange(-reach, reach + 1, device=sums.device)
    right = sums[:, :, :reach + 1][middle][:, middle]  # negative indices are those of the transform
    whole = torch.cat((right[:, :, 1:].flip(0, 1, 2).conj().resolve_conj(), right), 2).contiguous()
    flat = whole.view(-1)
    flat[orbits] = flat[orbits].sum(1, keepdim=True)
    made = torch.zeros_like(sums)
    made[middle[:, None], middle, :reach + 1] = whole[:, :, reach:]
    return made


def grid_points(band: Band) -> np.ndarray:
    """The band's frequencies ``(p, 2)`` in units of the padded grid."""
    return PAD * as_numpy(band.kxy)


def floats(values: Tensor) -> np.ndarray:
    """Complex numbers ``(..., n)`` as ``(..., 2 n)`` float32: real and imaginary part in turn."""
    return torch.view_as_real(values.resolve_conj().contiguous()).flatten(-2).numpy()


def as_numpy(values: Tensor) -> np.ndarray:
    """A tensor on the CPU as a contiguous array, of the same memory where that is possible."""
    return values.contiguous().numpy()


@lru_cache(maxsize=8)
def half_radius(size: int, device: torch.device) -> Tensor:
    """``|k|`` in grid units ``(s, s, s//2 + 1)``."""
    return half_radius_of_planes(size, slice(0, size), device)


def half_radius_of_planes(size: int, planes: slice, device: torch.device) -> Tensor:
    """``|k|`` in grid units of some planes z ``(m, s, s//2 + 1)``."""
    k = torch.fft.fftfreq(size, 1.0 / size, device=device)
    kx = torch.arange(size // 2 + 1, device=device)
    return (k[planes, None, None] ** 2 + k[None, :, None] ** 2 + kx[None, None, :] ** 2).sqrt()


def fourier_to_map(map_ft: Tensor, box_px: int) -> Tensor:
    """Map ``(d, d, d)`` of a padded half transform ``(s, s, s//2 + 1)`` that was filled by ``scatter``.

    The interpolation kernel's transform is divided out, as ``projection.map_to_fourier`` does before
    reading.
    """
    size = PAD * box_px
    at = torch.arange(-(box_px // 2), box_px - box_px // 2, device=map_ft.device) % size  # the centre is voxel 0 there
    # axis by axis: of each, what lies outside the map is dropped before the next
    kept = torch.fft.ifft(map_ft, dim=0).index_select(0, at)
    kept = torch.fft.ifft(kept, dim=1).index_select(1, at)
    kept = torch.fft.irfft(kept, n=size, dim=2).index_select(2, at)
    return kept * gridding_correction(box_px, PAD, kept.device, kept.dtype)
