"""Surfaces of maps as shaded pictures, seen along an axis: without a display and without a renderer. numpy alone.

A ray per pixel runs against the viewing direction to where the density first reaches the level; the brightness there
is that of a matt surface lit from the viewer's upper left (Lambert 1760), its normal the gradient of the density.
"""
from __future__ import annotations

from typing import Tuple

import numpy as np

LEVEL_FRAC = 0.35  # of the densest thousandth: inside the envelope of a protein, above what noise leaves around it
DENSE_PERCENTILE = 99.9
SIDE_PX = 128  # small maps are made finer up to about this: a surface of few voxels is a staircase
LIGHT = (-0.35, 0.45, 0.82)  # x to the right, y up, z to the viewer
AMBIENT = 0.35  # light from everywhere


def surface_level(array: np.ndarray) -> float:
    """Density at which the surface of a map is drawn: 0.35 of its densest thousandth."""
    return LEVEL_FRAC * float(np.percentile(array, DENSE_PERCENTILE))


def finer(array: np.ndarray, side_px: int = SIDE_PX) -> np.ndarray:
    """The map ``(d, d, d)`` on a grid a whole number of times finer, up to ``side_px``, by Fourier interpolation."""
    side = array.shape[0]
    factor = max(1, side_px // side)
    if factor == 1:
        return np.asarray(array, np.float32)
    coefficients = np.fft.fftshift(np.fft.fftn(array))
    if side % 2 == 0:  # the Nyquist planes stand for both signs
        for axis in range(3):
            index = [slice(None)] * 3
            index[axis] = slice(0, 1)
            coefficients[tuple(index)] = coefficients[tuple(index)] / 2
            coefficients = np.concatenate((coefficients, coefficients[tuple(index)]), axis=axis)
    padded = np.zeros((factor * side,) * 3, complex)
    start = factor * side // 2 - side // 2
    place = slice(start, start + coefficients.shape[0])
    padded[place, place, place] = coefficients
    return (np.fft.ifftn(np.fft.ifftshift(padded)).real * factor ** 3).astype(np.float32)


def surface_picture(array: np.ndarray, axis: int, level: float) -> np.ndarray:
    """Brightness ``(d, d)`` of the surface of a map ``(z, y, x)`` seen along an axis, NaN where there is none.

    ``axis``: 0, 1, 2 for z, y, x. The picture's axes are those of the section across it, row 0 lowest
    (``origin="lower"``): x to the right, y up; x, z; y, z. The viewer stands where this is no mirror image: at the high
    end of z and of x, at the low end of y.
    """
    planes = np.moveaxis(np.asarray(array, np.float32), axis, 0)
    seen = planes if axis == 1 else planes[::-1]  # the first plane is the nearest
    inside = seen >= level
    first = inside.argmax(axis=0)
    hit = inside.any(axis=0)
    slopes = [gradient_at(seen, first, along) for along in range(3)]
    # into the picture (away from the viewer), up, to the right; the normal points to lower density
    length = np.sqrt(sum(slope ** 2 for slope in slopes)) + 1e-20
    away, up, right = slopes
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    facing = (-right * light[0] - up * light[1] + away * light[2]) / length
    brightness = AMBIENT + (1 - AMBIENT) * np.clip(facing, 0, 1)
    # what lies deeper is dimmer by up to a quarter: depth is seen
    brightness = brightness * (1 - 0.25 * first / max(len(seen) - 1, 1))
    return np.where(hit, brightness, np.nan)


def gradient_at(array: np.ndarray, planes: np.ndarray, axis: int) -> np.ndarray:
    """Central difference along an axis of ``(d, d, d)`` at voxel ``(planes[i, j], i, j)``, one-sided at the border."""
    place = np.stack((planes, *np.indices(planes.shape)))
    before, after = place.copy(), place.copy()
    before[axis] = np.maximum(place[axis] - 1, 0)
    after[axis] = np.minimum(place[axis] + 1, array.shape[axis] - 1)
    return np.asarray(array[tuple(after)] - array[tuple(before)], np.float64)


def coloured(brightness: np.ndarray, rgb: Tuple[float, float, float]) -> np.ndarray:
    """Picture ``(d, d, 4)`` RGBA in [0, 1] of a surface in a colour, clear where there is none."""
    shade = np.nan_to_num(brightness)[..., None]
    tint = np.asarray(rgb) * 0.55 + 0.45  # a dark colour would hide its own shades
    return np.concatenate((np.clip(shade * tint, 0, 1), np.isfinite(brightness)[..., None]), axis=2)
