"""Maps from images at known poses by weighted least squares, and how badly they explain the images."""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ..physics.fourier_band import shell_sums
from ..physics.map_resize import mask_in_box
from ..physics.slices import PAD, add_slices, fourier_to_map, half_radius, map_box_px, take_slices, transform_of
from .posed_images import InChunks, Posed, PosedImages, in_chunks


def back_project(images: Posed, residual: Tensor, amplitude: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Map U that makes ``sum_i |residual_i - a_i C_i S_i[U]|^2`` smallest; ``amplitude`` (n,).

    ``(d', d', d')`` in the working box of the band, as those of ``reconstruction``; ``mask`` is in that of the images.
    """

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        strength = amplitude[rows, None] * images.ctf[rows]
        weighted = strength * precision
        return weighted * residual[rows], weighted * strength

    return _least_squares(part, images, mask)


def project(images: Posed, map_ft: Tensor) -> Tensor:
    """``C_i S_i[V]`` ``(n, p)`` of a map's half transform (``slices.transform_of``)."""
    return take_slices(map_ft, images.band, images.rotations) * images.ctf


def reconstruction(images: InChunks, precision: Tensor, mask: Tensor) -> Tensor:
    """Map that makes ``sum_i |X_i - C_i S_i[V]|^2`` smallest."""

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        own = images.rows(rows)
        weighted = own.ctf * precision
        return weighted * own.moved, weighted * own.ctf

    return _least_squares(part, images, mask)


def _least_squares(part: Callable[[slice], tuple[Tensor, Tensor]], images: InChunks, mask: Tensor) -> Tensor:
    """Map from the values and weights that ``part`` gives of some images, inside the mask."""
    band = images.band
    map_px = map_box_px(band.radius, band.box_px)
    sums = add_slices(part, band, images.rotations, map_px)
    return solved(*sums, map_px, band.radius) * mask_in_box(mask, map_px)


def misfits(images: InChunks, map_: Tensor, precision: Tensor, spread: float = 0.0) -> Tensor:
    """``1/2 sum_k w |X - g C S[V]|^2 + (g - 1)^2 / (2 spread^2)`` per image ``(n,)`` at its best g; g is 1 at spread 0.

    So that no image prefers a map because it is as faint as the image.
    """
    map_ft = transform_of(map_, images.band)

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        made = project(own, map_ft)
        if not spread:
            return 0.5 * (precision * (own.moved - made).abs().square()).sum(1)
        product = (precision * (own.moved.conj() * made).real).sum(1)
        power = (precision * made.abs().square()).sum(1)
        g = (product + spread ** -2) / (power + spread ** -2)
        return 0.5 * ((precision * (own.moved - g[:, None] * made).abs().square()).sum(1)
                      + ((g - 1) / spread).square())

    return torch.cat(in_chunks(part, len(images.rotations)))


def residual_noise(images: InChunks, map_: Tensor) -> Tensor:
    """Noise variance per shell ``(d//2 + 1,)`` of ``X - C S[V]``; shells outside the band are 1."""
    map_ft = transform_of(map_, images.band)

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        return (own.moved - project(own, map_ft)).abs().square().sum(0)

    power = torch.stack(in_chunks(part, len(images.rotations))).sum(0) / len(images.rotations)
    counts = shell_sums(torch.ones_like(power), images.band)
    return torch.where(counts > 0, shell_sums(power, images.band) / counts.clamp_min(1), 1.0)


def weighted_map(images: Posed, weight: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Reconstruction with one weight per image ``(n,)``."""
    root = weight.sqrt()
    return back_project(images, images.moved * root[:, None], root, precision, mask)

WIENER_FRAC = 0.05  # added to the denominator, as a fraction of its shell's mean
EDGE_SHELLS = 0.35  # width of the band's soft edge in the maps


def solved(numerator: Tensor, denominator: Tensor, box_px: int, radius: float) -> Tensor:
    """One map ``(d, d, d)`` from its sums ``(s, s, s//2 + 1)``; frequencies above ``radius`` shells are zero.

    ``numerator / (denominator + WIENER_FRAC * mean of the denominator in its shell)``.
    """
    shell, count, k = _grid_shells(box_px, denominator.device)
    total = torch.zeros(box_px + 1, device=k.device).index_add_(0, shell, denominator.flatten())
    mean = (WIENER_FRAC * total / count)[shell].view_as(denominator)
    filled = denominator > 0
    scale = torch.where(filled, _soft_edge(box_px, radius, k.device) / (denominator + mean), 0.0)
    return fourier_to_map(numerator * scale, box_px)


@lru_cache(maxsize=8)
def _grid_shells(box_px: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Shell of every voxel of a padded half transform, flat; voxels of every shell; ``|k|`` in shells."""
    k = half_radius(PAD * box_px, device) / PAD
    shell = k.round().long().flatten().clamp(max=box_px)
    return shell, torch.bincount(shell, minlength=box_px + 1).clamp_min(1), k


@lru_cache(maxsize=8)
def _soft_edge(box_px: int, radius: float, device: torch.device) -> Tensor:
    """1 inside ``radius`` shells, 0 outside, on a padded half transform."""
    return torch.sigmoid((radius - _grid_shells(box_px, device)[2]) / EDGE_SHELLS)


def better_poses(kept: PosedImages, tried: PosedImages, map_: Tensor, precision: Tensor, iterations: int
                 ) -> tuple[PosedImages, Tensor]:
    """The same images at the better of two poses, the tried ones refined first; and the misfit ``(n,)`` there."""
    tried, cost = tried.refined(map_, precision, iterations)
    before = misfits(kept, map_, precision)
    better = cost < before
    return (PosedImages(kept.source, torch.where(better[:, None, None], tried.rotations, kept.rotations),
                        torch.where(better[:, None], tried.shifts_px, kept.shifts_px)), torch.minimum(cost, before))
