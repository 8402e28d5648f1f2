"""Images at known poses, in a band, read in chunks: memory does not grow with their number.

Transforms and CTFs of few images are held between passes; those of many are made anew in each, which costs a few
per cent of the time of a pose refinement.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .abinitio import Images
from .band import Band
from .heterogeneity import CHUNK_IMAGES, Posed, misfits, posed
from .local_poses import refine_poses
from .projection import volume_to_fourier
from .slices import PAD

MOST_HELD = 2 ** 26  # coefficients, of 12 bytes: 0.8 GB


class Coefficients:
    """Transforms and CTFs ``(n, p)`` of some images, by slices or row numbers."""

    def __init__(self, data: Images, rows: np.ndarray, band: Band) -> None:
        self.data, self.rows, self.band = data, rows, band
        few = len(rows) * len(band.index) <= MOST_HELD
        self._held = data.coefficients(rows, band) if few else None

    def __getitem__(self, at: slice | np.ndarray) -> tuple[Tensor, Tensor]:
        if self._held is None:
            return self.data.coefficients(self.rows[at], self.band)
        transforms, ctf = self._held
        return transforms[at], ctf[at]


class PosedImages:
    """Images of one class at rotations ``A`` (n, 3, 3) and shifts (n, 2); as ``heterogeneity.Posed``, in chunks."""

    def __init__(self, source: Coefficients, A: Tensor, shifts_px: Tensor) -> None:
        self.source, self.A, self.shifts_px, self.band = source, A, shifts_px, source.band

    def part(self, at: Tensor) -> Posed:
        """Some of the images (index), whole."""
        transforms, ctf = self.source[at.cpu().numpy()]
        return posed(transforms, ctf, self.A[at], self.shifts_px[at], self.band)

    def chunks(self) -> Iterator[Posed]:
        """All images, some at a time."""
        for first in range(0, len(self.A), CHUNK_IMAGES):
            at = slice(first, first + CHUNK_IMAGES)
            yield posed(*self.source[at], self.A[at], self.shifts_px[at], self.band)

    def refined(self, volume: Tensor, precision: Tensor, iterations: int) -> tuple[PosedImages, Tensor]:
        """The images at better poses (``local_poses``), and the misfit ``(n,)`` there."""
        volume_ft = volume_to_fourier(volume[None], PAD)[0]
        parts = []
        for first in range(0, len(self.A), CHUNK_IMAGES):
            at = slice(first, first + CHUNK_IMAGES)
            parts.append(refine_poses(volume_ft, *self.source[at], self.A[at], self.shifts_px[at], precision, self.band,
                                      iterations))
        A, shifts_px, cost = (torch.cat(column) for column in zip(*parts, strict=True))
        return PosedImages(self.source, A, shifts_px), cost


def better_poses(kept: PosedImages, tried: PosedImages, volume: Tensor, precision: Tensor, iterations: int
                 ) -> tuple[PosedImages, Tensor]:
    """The same images at the better of two poses, the tried ones refined first; and the misfit ``(n,)`` there."""
    tried, cost = tried.refined(volume, precision, iterations)
    before = misfits(kept, volume, precision)
    better = cost < before
    return (PosedImages(kept.source, torch.where(better[:, None, None], tried.A, kept.A),
                        torch.where(better[:, None], tried.shifts_px, kept.shifts_px)), torch.minimum(cost, before))
