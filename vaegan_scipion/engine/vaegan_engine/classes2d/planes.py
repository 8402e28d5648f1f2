"""Class averages and their transforms: grids, masks, sums of images.

An average is an image ``(d, d)`` with its centre at pixel ``d // 2``; its plane is its transform on a grid ``PAD``
times finer than the images' own (``plane_kernels``), divided first by the transform of bilinear interpolation,
``sinc(x / (PAD d))**2`` per axis. Sums of images on that grid give it back:

    A = N / (D + 2 / (PAD^2 tau^2)),    N = sum a w C X',    D = sum a^2 w C^2,

with X' the images at their poses, a their contrast, C their CTF, ``w = 2 / noise variance`` of a coefficient and tau^2
the signal variance of a shell (Scheres, J. Mol. Biol. 415, 406, 2012).
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..physics.fourier_band import Band
from .plane_kernels import turned_values

PAD = 2
TINY = 1e-12


@dataclass(frozen=True)
class PlaneGrid:
    """Grid of the planes of averages of ``box_px`` pixels within ``radius`` shells."""

    box_px: int
    radius: float

    @property
    def middle(self) -> int:
        """m: frequencies are -m .. m."""
        return math.ceil(PAD * self.radius) + 1

    @property
    def side(self) -> int:
        """g of the module's equations."""
        return 2 * self.middle + 1

    @property
    def step(self) -> float:
        """Radians of phase per pixel of shift and grid unit."""
        return 2 * math.pi / (PAD * self.box_px)

    @cached_property
    def _x(self) -> np.ndarray:
        return np.arange(self.box_px) - self.box_px // 2

    @cached_property
    def _fourier(self) -> np.ndarray:
        """``(g, d)``: exp(-2 pi i k x / (PAD d))."""
        k = np.arange(-self.middle, self.middle + 1)
        return np.exp(-1j * self.step * np.outer(k, self._x)).astype(np.complex64)

    @cached_property
    def _correction(self) -> np.ndarray:
        line = 1 / np.sinc(self._x / (PAD * self.box_px)) ** 2
        return np.outer(line, line).astype(np.float32)

    @cached_property
    def shell(self) -> np.ndarray:
        """``(g, g)`` whole shell of each grid point."""
        k = np.arange(-self.middle, self.middle + 1) / PAD
        return np.minimum(np.rint(np.hypot(k[:, None], k)), self.box_px // 2).astype(np.int64)

    @cached_property
    def inside(self) -> np.ndarray:
        """``(g, g)`` grid points within the band."""
        k = np.arange(-self.middle, self.middle + 1) / PAD
        return np.hypot(k[:, None], k) <= self.radius

    def points(self, band: Band) -> np.ndarray:
        """Coefficients of a band ``(p, 2)`` in grid units."""
        return np.ascontiguousarray(PAD * band.kxy.cpu().numpy(), np.float32)

    def transforms(self, averages: np.ndarray) -> np.ndarray:
        """Planes ``(c, g, g, 2)`` float32 of averages ``(c, d, d)``."""
        corrected = (averages * self._correction).astype(np.complex64)
        planes = np.ascontiguousarray(self._fourier @ corrected @ self._fourier.T)
        return planes.view(np.float32).reshape(*planes.shape, 2)

    def images(self, planes: np.ndarray) -> np.ndarray:
        """Averages ``(c, d, d)`` of complex planes ``(c, g, g)``."""
        back = self._fourier.conj().T
        pictures = (back @ planes.astype(np.complex64) @ back.T).real / (PAD * self.box_px) ** 2
        return np.asarray(pictures * self._correction, np.float32)

    def empty_sums(self, n_classes: int) -> np.ndarray:
        """``(c, g, g, 3)``: real and imaginary part of N, and D."""
        return np.zeros((n_classes, self.side, self.side, 3), np.float32)

    def split(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """N ``(..., g, g)`` complex and D, each point with its conjugate's, of sums ``(..., g, g, 3)``."""
        numerator = sums[..., 0] + 1j * sums[..., 1]
        mirrored = numerator[..., ::-1, ::-1].conj()
        return (numerator + mirrored) * self.inside, (sums[..., 2] + sums[..., ::-1, ::-1, 2]) * self.inside

    def averages(self, sums: np.ndarray, signal: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Averages ``(c, d, d)`` by the module's equation, masked; ``signal``: tau^2 per shell."""
        numerator, power = self.split(sums)
        prior = 2 / (PAD ** 2 * np.maximum(signal, TINY))[self.shell]
        return self.images(numerator / (power + prior)) * mask

    def plain_averages(self, sums: np.ndarray) -> np.ndarray:
        """Averages ``(c, d, d)`` as ``N / (D + D_s / 10)``, D_s the mean D of the shell: no shell is drawn down."""
        numerator, power = self.split(sums)
        typical = np.stack([np.maximum(self.shell_means(own), TINY)[self.shell] for own in power])
        return self.images(numerator / (power + 0.1 * typical))

    def shell_means(self, values: np.ndarray) -> np.ndarray:
        """Means over shells ``(n_shells,)`` of values ``(g, g)`` within the band; 0 beyond it."""
        inside = self.inside.ravel()
        shell, n = self.shell.ravel()[inside], self.box_px // 2 + 1
        counts = np.bincount(shell, minlength=n)
        return np.bincount(shell, values.ravel()[inside], minlength=n) / np.maximum(counts, 1)

    def turned(self, planes: np.ndarray, band: Band, turns_rad: np.ndarray) -> np.ndarray:
        """Values ``(c, r, p)`` complex64 of planes at a band's coefficients, turned by each angle."""
        out = np.empty((len(planes), len(turns_rad), len(band.index), 2), np.float32)
        turned_values(planes, self.points(band), np.asarray(turns_rad, np.float64), out)
        return out.view(np.complex64)[..., 0]


def disc_mask(box_px: int, radius_px: float, edge_px: float) -> np.ndarray:
    """``(d, d)`` float32: 1 inside the radius, a raised cosine of width ``edge_px``, then 0."""
    x = np.arange(box_px) - box_px // 2
    outside = np.clip((np.hypot(x[:, None], x) - radius_px) / max(edge_px, 1e-9), 0, 1)
    return (0.5 * (1 + np.cos(np.pi * outside))).astype(np.float32)


