"""Align one image to another over rotations, shifts and the mirror image.

Equation: ``aligned(r) = moving'(R(-a) (r - t))`` about pixel ``d // 2`` with ``moving'`` the image or
its mirror image in x, ``R(a)`` the rotation by a from x to y, sampled by cubic splines. All angles of a
grid are tried with every whole-pixel shift (by FFT); the best is refined in angle and shift together.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import affine_transform
from scipy.optimize import minimize

GRID_STEP_DEG = 4.0


class AlignedImage(NamedTuple):
    """A moved image and how it was moved."""

    image: np.ndarray  # (d, d) float64
    angle_deg: float
    shift_px: tuple[float, float]  # x, y
    mirrored: bool
    correlation: float


def move_image(image: np.ndarray, angle_deg: float, shift_px: tuple[float, float],
               mirrored: bool = False) -> np.ndarray:
    """``(d, d)`` float64: mirrored in x, rotated about ``d // 2``, then shifted (the module's equation)."""
    d = len(image)
    source = np.asarray(image, np.float64)
    if mirrored:
        source = source[:, ::-1]
        source = np.roll(source, 1, axis=1) if d % 2 == 0 else source
    a = np.deg2rad(angle_deg)
    # in (y, x): r_source = R(-a) (r - t - c) + c
    back = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    centre = np.full(2, d // 2)
    offset = centre - back @ (centre + np.array([shift_px[1], shift_px[0]]))
    return affine_transform(source, back, offset, order=3, mode="constant")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two arrays; 0 where one is constant."""
    u, v = a.ravel() - a.mean(), b.ravel() - b.mean()
    norm = float(np.linalg.norm(u) * np.linalg.norm(v))
    return float(u @ v) / norm if norm > 0 else 0.0


def align_image(moving: np.ndarray, reference: np.ndarray, allow_mirror: bool = True) -> AlignedImage:
    """Move ``moving`` ``(d, d)`` onto ``reference`` ``(d, d)``: the largest Pearson correlation."""
    if moving.shape != reference.shape or moving.shape[0] != moving.shape[1]:
        raise ValueError(f"images of shape {moving.shape} and {reference.shape} cannot be aligned")
    d = len(moving)
    target = np.fft.rfft2(reference - reference.mean())
    starts = []
    for mirrored in (False, True) if allow_mirror else (False,):
        for angle in np.arange(0, 360, GRID_STEP_DEG):
            turned = move_image(moving, angle, (0, 0), mirrored)
            turned -= turned.mean()
            overlap = np.fft.irfft2(target * np.fft.rfft2(turned).conj(), s=(d, d))
            place = int(overlap.argmax())
            y, x = ((value + d // 2) % d - d // 2 for value in divmod(place, d))
            norm = max(float(np.linalg.norm(turned)), 1e-30)
            starts.append((float(overlap.flat[place]) / norm, angle, x, y, mirrored))
    _, angle, x, y, mirrored = max(starts)

    def loss(parameters: np.ndarray) -> float:
        moved = move_image(moving, parameters[0], (parameters[1], parameters[2]), mirrored)
        return -correlation(moved, reference)

    start = np.array([angle, x, y], np.float64)
    simplex = start + np.array([[0, 0, 0], [GRID_STEP_DEG / 2, 0, 0], [0, 0.7, 0], [0, 0, 0.7]])
    best = minimize(loss, start, method="Nelder-Mead",
                     options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-7, "maxfev": 200}).x
    shift = (float(best[1]), float(best[2]))
    moved = move_image(moving, float(best[0]), shift, mirrored)
    return AlignedImage(moved, float(best[0]) % 360, shift, mirrored, correlation(moved, reference))
