"""Maps from images at known poses by weighted least squares, and how badly they explain the images."""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ..physics.fourier_band import shell_sums
from ..physics.map_constraint import MapConstraint
from ..physics.slices import (
    PAD,
    add_slices,
    as_numpy,
    floats,
    fourier_to_map,
    half_radius,
    half_radius_of_planes,
    map_box_px,
    take_slices,
    transform_of,
)
from . import solve_kernels
from .pose_count import count_poses
from .posed_images import InChunks, Posed, PosedImages, Precision, in_chunks, precision_of

SUMMED_TOGETHER = 2 ** 13  # images whose powers are held at a time


def back_project(images: Posed, residual: Tensor, amplitude: Tensor, precision: Tensor, constraint: MapConstraint
                 ) -> Tensor:
    """Map U that makes ``sum_i |residual_i - a_i C_i S_i[U]|^2`` smallest; ``amplitude`` (n,).

    ``(d', d', d')`` in the working box of the band, as those of ``reconstruction``; the mask is in that of the images.
    """

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        strength = amplitude[rows, None] * images.ctf[rows]
        weighted = strength * precision
        return weighted * residual[rows], weighted * strength

    return _least_squares(part, images, constraint)


def project(images: Posed, map_ft: Tensor) -> Tensor:
    """``C_i S_i[V]`` ``(n, p)`` of a map's half transform (``slices.transform_of``)."""
    return take_slices(map_ft, images.band, images.rotations) * images.ctf


def reconstruction(images: InChunks, precision: Precision, constraint: MapConstraint) -> Tensor:
    """Map that makes ``sum_i |X_i - C_i S_i[V]|^2`` smallest."""
    return _least_squares(_weighted(images, precision), images, constraint)


def sums_of(images: InChunks, precision: Precision, group: Tensor) -> tuple[Tensor, Tensor]:
    """What ``solved`` makes the map of the images from, in the working box of the band (``map_box_px``).

    ``group`` (g, 3, 3) of the map's symmetry.
    """
    band = images.band
    return add_slices(_weighted(images, precision), band, images.rotations, map_box_px(band.radius, band.box_px), group)


def _weighted(images: InChunks, precision: Precision) -> Callable[[slice], tuple[Tensor, Tensor]]:
    def part(rows: slice) -> tuple[Tensor, Tensor]:
        own = images.rows(rows)
        weighted = own.ctf * precision_of(precision, rows)
        return weighted * own.moved, weighted * own.ctf

    return part


def _least_squares(part: Callable[[slice], tuple[Tensor, Tensor]], images: InChunks, constraint: MapConstraint
                   ) -> Tensor:
    """Map from the values and weights that ``part`` gives of some images, inside the mask and of the symmetry."""
    band = images.band
    map_px = map_box_px(band.radius, band.box_px)
    sums = add_slices(part, band, images.rotations, map_px, constraint.group)
    return solved(*sums, map_px, band.radius) * constraint.mask_in(map_px)


def misfits(images: InChunks, map_: Tensor, precision: Tensor, spread: float = 0.0) -> Tensor:
    """``1/2 sum_k w |X - g C S[V]|^2 + (g - 1)^2 / (2 spread^2)`` per image ``(n,)`` at its best g; g is 1 at spread 0.

    So that no image prefers a map because it is as faint as the image.
    """
    map_ft = transform_of(map_, images.band)
    count_poses(len(images.rotations))

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

    return torch.cat(in_chunks(part, len(images.rotations), len(precision)))


def residual_noise(images: InChunks, map_: Tensor) -> Tensor:
    """Noise variance per shell ``(d//2 + 1,)`` of ``X - C S[V]``; shells outside the band are 1."""
    map_ft = transform_of(map_, images.band)

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        return (own.moved - project(own, map_ft)).abs().square().sum(0)

    power = torch.stack(in_chunks(part, len(images.rotations), len(images.band.index))).sum(0) / len(images.rotations)
    counts = shell_sums(torch.ones_like(power), images.band)
    return torch.where(counts > 0, shell_sums(power, images.band) / counts.clamp_min(1), 1.0)


def residual_power_sums(images: InChunks, map_: Tensor, group: Tensor, n_groups: int,
                        together: int = SUMMED_TOGETHER) -> Tensor:
    """Mean ``|X - C S[V]|^2`` of an image in every shell, summed in each group of images ``(n_groups, d//2 + 1)``.

    ``group`` (n,) int64. 0 outside of the band. Memory does not grow with the images: it holds ``together`` of them.
    """
    map_ft, band = transform_of(map_, images.band), images.band
    counts = shell_sums(torch.ones_like(band.weight), band).clamp_min(1)
    total = map_.new_zeros(n_groups, band.n_shells)

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        power = (own.moved - project(own, map_ft)).abs().square()
        return power.new_zeros(len(power), band.n_shells).index_add_(1, band.shell, power) / counts

    for block in range(0, len(group), together):
        n = min(together, len(group) - block)
        powers = in_chunks(lambda rows, at=block: part(slice(at + rows.start, at + rows.stop)),  # type: ignore[misc]
                           n, len(band.index))
        total.index_add_(0, group[block:block + n], torch.cat(powers))
    return total


def weighted_map(images: Posed, weight: Tensor, precision: Tensor, constraint: MapConstraint) -> Tensor:
    """Reconstruction with one weight per image ``(n,)``."""
    root = weight.sqrt()
    return back_project(images, images.moved * root[:, None], root, precision, constraint)

WIENER_FRAC = 0.05  # added to the denominator, as a fraction of its shell's mean
EDGE_SHELLS = 0.35  # width of the band's soft edge in the maps
_WHOLE_PX = 256  # largest padded grid whose shells are kept; of larger ones they are made in slabs, to save memory
_SLAB_PLANES = 16


def solved(numerator: Tensor, denominator: Tensor, box_px: int, radius: float, prior: Tensor | None = None) -> Tensor:
    """One map ``(d, d, d)`` from its sums ``(s, s, s//2 + 1)``; frequencies above ``radius`` shells are zero.

    ``numerator / (denominator + f * mean of the denominator in its shell)``, with f ``WIENER_FRAC``, or in every shell
    that of ``prior`` (d//2 + 1,): noise over signal, ``(1 - FSC) / FSC``, makes it the most probable map where the
    signal's power is what the half maps' FSC says (Scheres, J. Struct. Biol. 180, 519, 2012).
    """
    size, device = PAD * box_px, numerator.device
    if device.type == "cpu" and size <= _WHOLE_PX:
        return fourier_to_map(_divided(numerator, denominator, box_px, radius, prior), box_px)
    total, count = torch.zeros(box_px + 1, device=device), torch.zeros(box_px + 1, device=device)
    slabs = [slice(0, size)] if size <= _WHOLE_PX else [slice(z, z + _SLAB_PLANES)
                                                        for z in range(0, size, _SLAB_PLANES)]
    for slab in slabs:
        shell, n_voxels, _ = _grid_shells(box_px, device, slab)
        total.index_add_(0, shell, denominator[slab].flatten())
        count += n_voxels
    added, filled = _frac(prior, box_px) * total / count.clamp_min(1), torch.empty_like(numerator)
    for slab in slabs:
        shell, _, k = _grid_shells(box_px, device, slab)
        below = denominator[slab]
        edge = torch.sigmoid((radius - k) / EDGE_SHELLS)
        filled[slab] = numerator[slab] * torch.where(below > 0, edge / (below + added[shell].view_as(below)), 0.0)
    return fourier_to_map(filled, box_px)


def _frac(prior: Tensor | None, box_px: int) -> float | Tensor:
    """What is added to the denominator, as a part of its shell's mean: one number, or one per shell."""
    if prior is None:
        return WIENER_FRAC
    # what lies between Nyquist and the corners is never filled
    return torch.nn.functional.pad(prior, (0, box_px + 1 - len(prior)), value=float(prior[-1]))


def _divided(numerator: Tensor, denominator: Tensor, box_px: int, radius: float, prior: Tensor | None) -> Tensor:
    """The transform of ``solved``, on a CPU."""
    (shell, count, _), edge = _whole_shells(box_px, numerator.device), _whole_edge(box_px, radius)
    total, flat, filled = torch.zeros(box_px + 1, dtype=torch.float64), as_numpy(denominator).ravel(), torch.empty(
        numerator.shape, dtype=torch.complex64)
    solve_kernels.add_by_shell(flat, shell.numpy(), total.numpy())
    added = (_frac(prior, box_px) * total / count.clamp_min(1)).float()
    solve_kernels.divide(floats(numerator).ravel(), flat, edge.numpy(), shell.numpy(), added.numpy(),
                         floats(filled).ravel())
    return filled


def _grid_shells(box_px: int, device: torch.device, slab: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Shell of every voxel of planes z of a padded half transform, flat; voxels of every shell; ``|k|`` in shells."""
    if PAD * box_px <= _WHOLE_PX:
        return _whole_shells(box_px, device)
    return _shells_of(half_radius_of_planes(PAD * box_px, slab, device) / PAD, box_px)


@lru_cache(maxsize=2)
def _whole_edge(box_px: int, radius: float) -> Tensor:
    """The soft edge of a band of ``radius`` shells at every voxel of a padded half transform, flat, on a CPU."""
    k = _whole_shells(box_px, torch.device("cpu"))[2]
    return torch.sigmoid((radius - k) / EDGE_SHELLS).flatten()


@lru_cache(maxsize=8)
def _whole_shells(box_px: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return _shells_of(half_radius(PAD * box_px, device) / PAD, box_px)


def _shells_of(k: Tensor, box_px: int) -> tuple[Tensor, Tensor, Tensor]:
    shell = k.round().long().flatten().clamp(max=box_px)
    return shell, torch.bincount(shell, minlength=box_px + 1), k


def better_poses(kept: PosedImages, tried: PosedImages, map_: Tensor, precision: Tensor, iterations: int
                 ) -> tuple[PosedImages, Tensor]:
    """The same images at the better of two poses, the tried ones refined first; and the misfit ``(n,)`` there."""
    tried, cost = tried.refined(map_, precision, iterations)
    before = misfits(kept, map_, precision)
    better = cost < before
    return (PosedImages(kept.source, torch.where(better[:, None, None], tried.rotations, kept.rotations),
                        torch.where(better[:, None], tried.shifts_px, kept.shifts_px)), torch.minimum(cost, before))
