"""Sharpening of a map by one B-factor: taken from a Guinier plot or given, with the weight that its FSC deserves.

Amplitudes fall with spatial frequency g as ``exp(B g^2 / 4)``, B below 0 (motion, radiation, pose errors, the camera);
multiplied by ``exp(-B g^2 / 4)`` they are as an atomic model's, and so is the noise. So each shell is weighted by
``C_ref = sqrt(2 FSC / (1 + FSC))``, what the map's amplitudes hold of the true ones (Rosenthal and Henderson, J. Mol.
Biol. 333, 721, 2003; in the form of Scheres, J. Struct. Biol. 180, 519, 2012).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fsc import shells_of

GUINIER_FROM_ANG = 10.0  # coarser than this the molecule's shape decides the amplitudes, not its atoms
MIN_SHELLS = 4  # of the straight line
EDGE_SHELLS = 2  # of the low pass at the resolution


@dataclass(frozen=True)
class Guinier:
    """The straight line ``ln F = intercept + B g^2 / 4`` of a map's amplitudes."""

    b_factor_ang2: float
    intercept: float
    from_ang: float
    to_ang: float


def reference_weight(fsc: np.ndarray) -> np.ndarray:
    """``C_ref`` per shell of the mean of two half maps; 0 from the first shell on where their FSC is not above 0."""
    positive = np.clip(fsc, 0, 1)
    positive[1:][np.cumsum(fsc[1:] <= 0) > 0] = 0
    weight: np.ndarray = np.sqrt(2 * positive / (1 + positive))
    return weight


def guinier_fit(map_: np.ndarray, fsc: np.ndarray, voxel_size_ang: float, resolution_ang: float) -> Guinier | None:
    """Least-squares line through ``ln(C_ref F)`` of a masked map ``(d, d, d)`` from 10 A to the resolution.

    F is the root of the mean squared amplitude in a shell, ``fsc`` (d//2 + 1,) of the half maps. None where fewer than
    ``MIN_SHELLS`` shells lie between, as in maps that do not reach 10 A.
    """
    d = len(map_)
    shell, weight = shells_of(d, 3)
    power = np.bincount(shell, weight * np.abs(np.fft.rfftn(map_)).ravel() ** 2)[:d // 2 + 1]
    count = np.bincount(shell, weight)[:d // 2 + 1]
    amplitude = reference_weight(fsc) * np.sqrt(power / count)
    g = np.arange(d // 2 + 1) / (d * voxel_size_ang)
    used = (g >= 1 / GUINIER_FROM_ANG) & (g <= 1 / resolution_ang) & (amplitude > 0)
    if used.sum() < MIN_SHELLS:
        return None
    slope, intercept = np.polyfit(g[used] ** 2, np.log(amplitude[used]), 1)
    return Guinier(float(4 * slope), float(intercept), float(1 / g[used][0]), float(1 / g[used][-1]))


def sharpened(map_: np.ndarray, b_factor_ang2: float, fsc: np.ndarray, voxel_size_ang: float, resolution_ang: float
              ) -> np.ndarray:
    """The map ``(d, d, d)`` times ``C_ref exp(-B g^2 / 4)``, with a soft low pass at its resolution; float32."""
    d = len(map_)
    g = np.arange(d // 2 + 1) / (d * voxel_size_ang)
    beyond = np.clip((np.arange(d // 2 + 1) - d * voxel_size_ang / resolution_ang) / EDGE_SHELLS, 0, 1)
    gain = reference_weight(fsc) * np.exp(-b_factor_ang2 * g ** 2 / 4) * 0.5 * (1 + np.cos(np.pi * beyond))
    return filtered(map_, gain)


def filtered(map_: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """A map ``(d, d, d)`` with every shell multiplied by its ``gain`` (d//2 + 1,), 0 beyond Nyquist; float32."""
    shell, _ = shells_of(len(map_), 3)
    of_shell = np.pad(gain.astype(np.float32), (0, max(0, int(shell.max()) + 1 - len(gain))))
    transform = np.fft.rfftn(map_)
    transform *= of_shell[shell].reshape(transform.shape)
    return np.fft.irfftn(transform, s=map_.shape, axes=(0, 1, 2)).astype(np.float32)
