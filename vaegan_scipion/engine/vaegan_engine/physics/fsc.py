"""Fourier shell (ring) correlation, the resolution read from it, and a soft spherical mask."""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Resolution(NamedTuple):
    """A resolution and whether the curve crossed the threshold at all.

    ``crossed`` is False when the curve stays above it: then ``ang`` is the Nyquist limit.
    """

    ang: float
    crossed: bool


@lru_cache(maxsize=4)
def shells_of(box_px: int, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Shell ``round(|k|)`` of each coefficient of ``rfftn`` and its weight (2 = stands for two)."""
    k = np.fft.fftfreq(box_px, 1 / box_px)
    kx = np.arange(box_px // 2 + 1)
    radius = np.sqrt(sum(axis ** 2 for axis in np.meshgrid(*[k] * (ndim - 1), kx, indexing="ij")))
    weight = np.full(radius.shape, 2.0)
    weight[..., 0] = 1.0
    if box_px % 2 == 0:
        weight[..., -1] = 1.0
    return np.rint(radius).astype(np.int64).ravel(), weight.ravel()


def fourier_shell_correlation(map_a: np.ndarray, map_b: np.ndarray) -> np.ndarray:
    """FSC of two maps ``(d, d, d)``: ``(d//2 + 1,)`` float64, shell s at ``s / (d voxel)`` 1/A.

    Of two images ``(d, d)`` it is the Fourier ring correlation.

    ``FSC(s) = sum_shell Re(A conj B) / sqrt(sum_shell |A|^2 sum_shell |B|^2)`` (Harauz and van Heel
    1986); shell s holds the coefficients with ``round(|k|) = s``. A shell without power gives 0.
    """
    if map_a.shape != map_b.shape or len(set(map_a.shape)) != 1:
        raise ValueError(f"maps of shape {map_a.shape} and {map_b.shape} cannot be compared")
    box_px = map_a.shape[0]
    shell, weight = shells_of(box_px, map_a.ndim)
    a, b = (np.fft.rfftn(np.asarray(array, dtype=np.float64)).ravel() for array in (map_a, map_b))

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(shell, weight * values)[:box_px // 2 + 1]

    cross = summed((a * b.conj()).real)
    power = np.sqrt(summed(np.abs(a) ** 2) * summed(np.abs(b) ** 2))
    return np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)


def resolution_at(fsc: np.ndarray, threshold: float, box_px: int, voxel_size_ang: float) -> Resolution:
    """Resolution where the curve first falls below ``threshold``.

    The crossing lies between two shells by linear interpolation; shell 0 (the mean) is left out.
    A curve below the threshold from shell 1 on gives shell 1: the box, the coarsest scale there is.
    """
    box_ang = box_px * voxel_size_ang
    below = np.flatnonzero(fsc[1:] < threshold)
    if len(below) == 0:
        return Resolution(2 * voxel_size_ang, False)
    last = int(below[0]) + 1
    if last == 1:
        return Resolution(box_ang, True)
    high, low = fsc[last - 1], fsc[last]
    return Resolution(float(box_ang / (last - 1 + (high - threshold) / (high - low))), True)


def soft_sphere_mask(box_px: int, radius_px: float, edge_px: float) -> np.ndarray:
    """``(d, d, d)`` float32: 1 inside the radius, a raised cosine of width ``edge_px``, then 0."""
    x = np.arange(box_px) - box_px // 2
    radius = np.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2)
    outside = np.clip((radius - radius_px) / max(edge_px, 1e-9), 0, 1)
    return (0.5 * (1 + np.cos(np.pi * outside))).astype(np.float32)
