"""Maps in space, or images in the plane: either as a transform that is read at rotations and filled by sums.

A slice of a map is a section of its transform; that of an image, the plane, all of it, turned about the view. So the
planes' rotations are turns about z, ``Rz(psi)``, and their coordinates (x, y) of the maps' (x, y, z). Centres, padding
and gridding correction are those of ``projection``.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .fourier_band import Band
from .map_resize import resized_maps
from .projection import gridding_correction, map_to_fourier
from .slices import PAD, Stencil, fourier_to_map, half_radius, stencil


@dataclass(frozen=True)
class Space:
    """``ndim`` 3: maps ``(d, d, d)``; 2: images ``(d, d)``. Half transforms ``(s, .., s//2 + 1)``, s = PAD d."""

    ndim: int = 3

    @property
    def axes(self) -> tuple[int, ...]:
        """The last ones."""
        return tuple(range(-self.ndim, 0))

    @property
    def n_turns(self) -> int:
        """Axes that an image's own rotation can be wrong about: x, y, z, or z alone."""
        return 3 if self.ndim == 3 else 1

    def shape(self, size: int) -> tuple[int, ...]:
        """Of a half transform of ``size``."""
        return (*[size] * (self.ndim - 1), size // 2 + 1)

    def transforms(self, arrays: Tensor) -> Tensor:
        """Padded half transforms ``(v, s, .., s//2 + 1)`` of arrays ``(v, d, ..)``, slices are read from them."""
        if self.ndim == 3:
            return map_to_fourier(arrays, PAD)
        d = arrays.shape[-1]
        size = PAD * d
        before = size // 2 - d // 2
        padded = torch.nn.functional.pad(arrays * self._correction(arrays), (before, size - d - before) * 2)
        return torch.fft.rfftn(torch.fft.ifftshift(padded, dim=self.axes), dim=self.axes)

    def array_of(self, transform: Tensor, box_px: int) -> Tensor:
        """The array ``(d, ..)`` of a half transform that sums of slices have filled."""
        if self.ndim == 3:
            return fourier_to_map(transform, box_px)
        size = PAD * box_px
        padded = torch.fft.irfftn(transform, s=(size,) * 2)
        at = torch.arange(-(box_px // 2), box_px - box_px // 2, device=padded.device) % size
        kept = padded[at][:, at]
        return kept * self._correction(kept)

    def _correction(self, arrays: Tensor) -> Tensor:
        d = arrays.shape[-1]
        whole = gridding_correction(d, PAD, arrays.device, arrays.dtype)
        return whole[d // 2]  # z = 0, where its own factor is 1

    def stencil(self, band: Band, rotations: Tensor) -> Stencil:
        """Where slices along ``rotations`` (n, 3, 3) lie: 8 neighbours of each point, 4 in the plane."""
        at = stencil(band, rotations)
        return at if self.ndim == 3 else Stencil(at.rows[..., :4], at.weights[..., :4], at.sign)  # those of z = 0

    def folded(self, edge: Tensor) -> Tensor:
        """The plane (line) x = 0 ``(..., s, s)`` of half transforms at opposite frequencies."""
        axes = tuple(range(1 - self.ndim, 0))
        return edge.flip(axes).roll((1,) * len(axes), axes)

    def half_radius(self, size: int, device: torch.device) -> Tensor:
        """``|k|`` in grid units of a half transform of ``size``."""
        whole = half_radius(size, device)
        return whole if self.ndim == 3 else whole[0]

    def resized(self, arrays: Tensor, box_px: int) -> Tensor:
        """Arrays ``(v, d, ..)`` at ``box_px`` points of the same extent (``map_resize.resized_maps``)."""
        if self.ndim == 3 or arrays.shape[-1] == box_px:
            return resized_maps(arrays, box_px) if self.ndim == 3 else arrays
        kept = (min(arrays.shape[-1], box_px) - 1) // 2
        transform = torch.fft.rfftn(torch.fft.ifftshift(arrays, dim=self.axes), dim=self.axes)
        made = transform.new_zeros(*arrays.shape[:-2], *self.shape(box_px))
        for rows in (slice(0, kept + 1), slice(-kept, None)):
            made[..., rows, :kept + 1] = transform[..., rows, :kept + 1]
        return torch.fft.fftshift(torch.fft.irfftn(made, s=(box_px,) * 2, dim=self.axes), dim=self.axes)

    def turned(self, q: Tensor, gradient: Tensor) -> Tensor:
        """``(q x g)`` ``(..., n_turns)``: about the axes, of frequencies and slopes ``(..., ndim)``."""
        about_z = q[..., 0] * gradient[..., 1] - q[..., 1] * gradient[..., 0]
        if self.ndim == 2:
            return about_z[..., None]
        return torch.stack((q[..., 1] * gradient[..., 2] - q[..., 2] * gradient[..., 1],
                            q[..., 2] * gradient[..., 0] - q[..., 0] * gradient[..., 2], about_z), -1)


MAPS, PLANES = Space(3), Space(2)


def space_of(array: Tensor) -> Space:
    """That of one map ``(d, d, d)`` or image ``(d, d)``."""
    return PLANES if array.ndim == 2 else MAPS
