"""Images at known poses, in a band, read in chunks: memory does not grow with their number.

Transforms and CTFs of few images are held between passes; those of many are made anew in each, which costs a few
per cent of the time of a pose refinement.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, columns_of, shift_phases
from ..physics.memory_limit import share_bytes
from ..physics.shards import n_processes, shared_parts
from ..physics.slices import images_per_chunk, transform_of
from .images import Images
from .pose_count import count_poses
from .pose_refinement import AtPoses, refine_poses

T = TypeVar("T")
Precision = Tensor | Callable[[slice], Tensor]
MOST_HELD = 2 ** 26  # coefficients, of 12 bytes: 0.8 GB
HELD_PART = 0.1  # of the memory that a run may hold: those of several bands are held at a time


def precision_of(precision: Precision, rows: slice) -> Tensor:
    """Weights of the coefficients ``(p,)``, or of those of some images ``(m, p)``."""
    return precision if isinstance(precision, Tensor) else precision(rows)


class Coefficients:
    """Transforms and CTFs ``(n, p)`` of some images, by slices or row numbers."""

    def __init__(self, data: Images, rows: np.ndarray, band: Band, most_held: int | None = None) -> None:
        self.data, self.rows, self.band = data, rows, band
        few = len(rows) * len(band.index) <= min(MOST_HELD if most_held is None else most_held,
                                                 share_bytes(HELD_PART) / 12)
        self._held: tuple[Tensor, Tensor] | None = None
        self._is_held = np.zeros(len(rows), bool)
        if few and n_processes() == 1:
            self._held, self._is_held = data.coefficients(rows, band), np.ones(len(rows), bool)
        elif few:  # each process makes those that it needs
            shape, device = (len(rows), len(band.index)), data.device
            self._held = (torch.empty(shape, dtype=torch.complex64, device=device), torch.empty(shape, device=device))

    def within(self, band: Band) -> Coefficients:
        """The same images in a narrower band."""
        narrower = Coefficients(self.data, self.rows, band, most_held=0)
        if self._held is not None:
            columns, (transforms, ctf) = columns_of(band, self.band), self[:]
            narrower._held, narrower._is_held = (transforms[:, columns], ctf[:, columns]), self._is_held
        return narrower

    def __getitem__(self, at: slice | np.ndarray) -> tuple[Tensor, Tensor]:
        if self._held is None:
            return self.data.coefficients(self.rows[at], self.band)
        transforms, ctf = self._held
        if not self._is_held[at].all():
            block, every = self.data.n_read, np.arange(len(self.rows))
            # whole ones, as one process makes them: a transform's last bits depend on how many are made together
            new = np.flatnonzero(np.isin(every // block, np.unique(every[at][~self._is_held[at]] // block)))
            where = torch.from_numpy(new).to(transforms.device)
            transforms[where], ctf[where] = self.data.coefficients(self.rows[new], self.band)
            self._is_held[new] = True
        return transforms[at], ctf[at]


class PosedImages:
    """Images of one map at rotations (n, 3, 3) and shifts (n, 2); as ``Posed``, in chunks."""

    def __init__(self, source: Coefficients, rotations: Tensor, shifts_px: Tensor) -> None:
        self.source, self.rotations, self.shifts_px, self.band = source, rotations, shifts_px, source.band

    def part(self, at: Tensor) -> Posed:
        """Some of the images (index), whole."""
        transforms, ctf = self.source[at.cpu().numpy()]
        return posed(transforms, ctf, self.rotations[at], self.shifts_px[at], self.band)

    def rows(self, at: slice) -> Posed:
        """Images in a row, whole."""
        return posed(*self.source[at], self.rotations[at], self.shifts_px[at], self.band)

    def refined(self, map_: Tensor, precision: Precision, iterations: int, chosen: Tensor | None = None
                ) -> tuple[PosedImages, Tensor]:
        """The images at better poses (``refine_poses``), and the misfit ``(n,)`` there.

        Of ``chosen`` (n,) bool, where they are given, only those; the others keep their poses. ``precision``: (p,), or
        what gives it for some images ``(m, p)``.
        """
        map_ft, n = transform_of(map_, self.band), len(self.rotations)
        count_poses(n + iterations * (n if chosen is None else int(chosen.sum())))

        def part(at: slice) -> tuple[Tensor, Tensor, Tensor]:
            transforms, ctf = self.source[at]
            images = AtPoses(transforms, ctf, self.rotations[at], self.shifts_px[at], self.band)
            weights = precision_of(precision, at)
            if chosen is None or bool(chosen[at].all()):
                return refine_poses(map_ft, images, weights, iterations)
            poses = refine_poses(map_ft, images, weights, 0)
            own = torch.nonzero(chosen[at]).squeeze(1)
            weights = weights if weights.ndim == 1 else weights[own]
            for values, new in zip(poses, refine_poses(map_ft, images.part(own), weights, iterations), strict=True):
                values[own] = new
            return poses

        columns = zip(*in_chunks(part, len(self.rotations), len(self.band.index)), strict=True)
        rotations, shifts_px, cost = map(torch.cat, columns)
        return PosedImages(self.source, rotations, shifts_px), cost


class Posed(NamedTuple):
    """Images of one class at known poses, in a band."""

    moved: Tensor  # (n, p) complex transforms with their shift taken back
    ctf: Tensor  # (n, p)
    rotations: Tensor  # (n, 3, 3)
    band: Band

    def part(self, rows: Tensor) -> Posed:
        """Some of the images (index or mask)."""
        return Posed(self.moved[rows], self.ctf[rows], self.rotations[rows], self.band)

    def rows(self, at: slice) -> Posed:
        """Images in a row."""
        return Posed(self.moved[at], self.ctf[at], self.rotations[at], self.band)


class InChunks(Protocol):
    """``Posed``, or images that are read as they are wanted (``posed_images``)."""

    @property
    def rotations(self) -> Tensor:
        """Rotations (n, 3, 3)."""
        ...

    @property
    def band(self) -> Band:
        """The coefficients."""
        ...

    def rows(self, at: slice) -> Posed:
        """Images in a row, whole."""
        ...


def in_chunks(part: Callable[[slice], T], n: int, n_points: int = 0) -> list[T]:
    """``part(rows)`` of n images of ``n_points`` coefficients, ``images_per_chunk`` at a time, in their order."""
    return shared_parts(lambda first, end: part(slice(first, end)), n, images_per_chunk(n_points))


def posed(transforms: Tensor, ctf: Tensor, rotations: Tensor, shifts_px: Tensor, band: Band) -> Posed:
    """Images ``(n, p)`` at rotations ``(n, 3, 3)`` and shifts ``(n, 2)``."""
    return Posed(transforms * shift_phases(band, shifts_px), ctf, rotations, band)
