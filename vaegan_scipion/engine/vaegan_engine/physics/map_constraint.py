"""What is known of a map before any image says anything: where it is zero, and which rotations leave it as it is."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .map_resize import mask_in_box
from .projection import map_to_fourier, sample_half_transform
from .shards import in_parts
from .slices import PAD, as_numpy, floats, half_radius
from .symmetry import in_one_unit
from .symmetry_kernels import add_turned

_PART_POINTS = 2 ** 14  # that one thread sums over the group
_TOGETHER = 2 ** 18  # points of all maps that torch samples at a time, so that memory does not grow with the box


class MapConstraint(NamedTuple):
    """Mask and point group of maps; of a map without symmetry the group is the identity alone."""

    mask: Tensor  # (d, d, d) in the box of the images
    group: Tensor  # (g, 3, 3), the identity first

    def mask_in(self, box_px: int) -> Tensor:
        """The mask in the box of a map, which may be smaller than that of the images."""
        return mask_in_box(self.mask, box_px)

    def rotations(self, grid: Tensor) -> Tensor:
        """Those of an even grid ``(n, 3, 3)`` that need be tried: one of all that show the same."""
        return grid if len(self.group) == 1 else grid[in_one_unit(grid, self.group)]

    def product(self, grid: Tensor) -> Tensor:
        """The same of a product grid of in-plane angles and views ``(j, v, 3, 3)``."""
        return grid if len(self.group) == 1 else grid[:, in_one_unit(grid[0], self.group)]


def within(mask: Tensor) -> MapConstraint:
    """A mask alone, for maps without symmetry."""
    return MapConstraint(mask, torch.eye(3, device=mask.device)[None])


def symmetrised_maps(maps: Tensor, group: Tensor) -> Tensor:
    """Means ``(v, d, d, d)`` over a group of maps turned about voxel d // 2.

    The maps as they are where it has one rotation; else frequencies outside of the Nyquist sphere are lost.
    """
    if len(group) == 1:
        return maps
    d = maps.shape[-1]
    at = torch.nonzero(half_radius(d, maps.device).flatten() < d / 2).squeeze(1)
    sums = _over_group(map_to_fourier(maps, PAD), _frequencies(d, maps.device)[at] * PAD, group) / len(group)
    plane = torch.zeros(len(maps), d * d * (d // 2 + 1), dtype=sums.dtype, device=maps.device)
    plane[:, at] = sums
    moved = torch.fft.irfftn(plane.view(-1, d, d, d // 2 + 1), s=(d, d, d), dim=(1, 2, 3))
    return torch.fft.fftshift(moved, dim=(1, 2, 3))


def symmetrised_sums(sums: Tensor, group: Tensor) -> Tensor:
    """Sums over a group of half transforms ``(v, s, s, s//2 + 1)``, each read where its rotation carries the grid.

    The sums that back-projection leaves, where adding each image at all poses that show the same would take too long.
    """
    if len(group) == 1:
        return sums
    size = sums.shape[1]
    at = torch.nonzero(half_radius(size, sums.device).flatten() < size / 2 - 1).squeeze(1)
    made = torch.zeros_like(sums.flatten(1))
    made[:, at] = _over_group(sums, _frequencies(size, sums.device)[at], group)
    return made.view_as(sums)


def _over_group(transforms: Tensor, k: Tensor, group: Tensor) -> Tensor:
    """``sum_G F(G k)`` ``(v, p)`` of half transforms F at frequencies ``(p, 3)`` in units of their grid."""
    if transforms.device.type == "cpu" and transforms.dtype == torch.complex64 and not transforms.requires_grad:
        return _compiled(transforms, k, group)
    index = torch.arange(len(transforms), device=k.device)
    total = torch.zeros(len(transforms), len(k), dtype=transforms.dtype, device=k.device)
    together = max(1, _TOGETHER // len(transforms))
    for first in range(0, len(k), together):
        own = slice(first, first + together)
        for turn in group:
            total[:, own] += sample_half_transform(transforms, index, (k[own] @ turn.T).expand(len(transforms), -1, -1))
    return total


def _compiled(transforms: Tensor, k: Tensor, group: Tensor) -> Tensor:
    """``_over_group`` point by point."""
    volumes, turns, points = floats(transforms.flatten(1)), as_numpy(group.float()), as_numpy(k.float())
    total = torch.zeros(len(transforms), len(k), dtype=transforms.dtype)

    def part(first: int, end: int) -> None:
        made = np.zeros((len(volumes), 2 * (end - first)), np.float32)
        add_turned(volumes, transforms.shape[1], points[first:end], turns, made)
        total[:, first:end] = torch.view_as_complex(torch.from_numpy(made).unflatten(1, (-1, 2)))

    in_parts(part, len(k), _PART_POINTS)
    return total


def _frequencies(size: int, device: torch.device) -> Tensor:
    """Frequencies ``(p, 3)`` (x, y, z) of a half transform of ``size``, flat."""
    k = torch.fft.fftfreq(size, 1.0 / size, device=device)
    kx = torch.arange(size // 2 + 1, device=device, dtype=k.dtype)
    return torch.stack(torch.meshgrid(k, k, kx, indexing="ij")[::-1], -1).reshape(-1, 3)
