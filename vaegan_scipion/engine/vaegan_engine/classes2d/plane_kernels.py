"""Transforms of class averages on a CPU, compiled: values at turned frequencies, and sums of images turned back.

A plane is a square grid ``(g, g)`` of frequencies ``kx, ky = -m .. m`` in steps of a padded box, ``g = 2 m + 1``,
indexed (ky, kx), as its real and imaginary parts. Points between grid points are read, and added, bilinearly.
A point (x, y) turned by psi is ``(x cos psi - y sin psi, x sin psi + y cos psi)``: RELION's psi.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..physics.compiled import compiled


@compiled
def plane_value(plane: np.ndarray, x: Any, y: Any) -> tuple:
    """Real and imaginary part of a plane ``(g, g, 2)`` at a point in grid units from its corner."""
    one = np.float32(1.0)
    ix, iy = int(x), int(y)
    fx, fy = np.float32(x - ix), np.float32(y - iy)
    a, b, c, d = (one - fx) * (one - fy), fx * (one - fy), (one - fx) * fy, fx * fy
    low, high = plane[iy], plane[iy + 1]
    return (a * low[ix, 0] + b * low[ix + 1, 0] + c * high[ix, 0] + d * high[ix + 1, 0],
            a * low[ix, 1] + b * low[ix + 1, 1] + c * high[ix, 1] + d * high[ix + 1, 1])


@compiled
def add_to_plane(grid: np.ndarray, x: Any, y: Any, real: Any, imag: Any, power: Any) -> None:
    """The adjoint: adds a coefficient and its power to a grid ``(g, g, 3)``."""
    one = np.float32(1.0)
    ix, iy = int(x), int(y)
    fx, fy = np.float32(x - ix), np.float32(y - iy)
    for dy in range(2):
        wy = fy if dy else one - fy
        for dx in range(2):
            f = wy * (fx if dx else one - fx)
            cell = grid[iy + dy, ix + dx]
            cell[0] += f * real
            cell[1] += f * imag
            cell[2] += f * power


@compiled
def turned_values(planes: np.ndarray, points: np.ndarray, turns_rad: np.ndarray, out: np.ndarray) -> None:
    """Values of planes ``(c, g, g, 2)`` at ``points`` (p, 2) turned by each angle, into ``out`` (c, r, p, 2)."""
    middle = np.float32(planes.shape[1] // 2)
    for c in range(len(planes)):
        for j in range(len(turns_rad)):
            cosine, sine = np.float32(math.cos(turns_rad[j])), np.float32(math.sin(turns_rad[j]))
            for k in range(len(points)):
                x, y = points[k, 0], points[k, 1]
                out[c, j, k, 0], out[c, j, k, 1] = plane_value(planes[c], middle + x * cosine - y * sine,
                                                            middle + x * sine + y * cosine)


@compiled
def sum_shifted(images: np.ndarray, power: np.ndarray, row: np.ndarray, shift: np.ndarray, column: np.ndarray,
                weight: np.ndarray, power_weight: np.ndarray, sums: np.ndarray) -> None:
    """Adds images to ``sums`` (m, 3, p), one row per class and turn: real part, imaginary part, power.

    Entry e adds ``weight[e]`` times ``images[row[e], shift[e]]`` (n, s, p, 2), their shifts taken back, and
    ``power_weight[e]`` times ``power[row[e]]`` (n, p) to row ``column[e]``.
    """
    for e in range(len(row)):
        own, image, squares = sums[column[e]], images[row[e], shift[e]], power[row[e]]
        w, pw = np.float32(weight[e]), np.float32(power_weight[e])
        for k in range(len(squares)):
            own[0, k] += w * image[k, 0]
            own[1, k] += w * image[k, 1]
            own[2, k] += pw * squares[k]


@compiled
def turn_back(values: np.ndarray, points: np.ndarray, turns_rad: np.ndarray, sums: np.ndarray) -> None:
    """Adds sums of images ``(c, r, 3, p)`` at the turns of a grid to the frames of their classes ``(c, g, g, 3)``."""
    middle = np.float32(sums.shape[1] // 2)
    for c in range(len(values)):
        for j in range(len(turns_rad)):
            own = values[c, j]
            cosine, sine = np.float32(math.cos(turns_rad[j])), np.float32(math.sin(turns_rad[j]))
            for k in range(len(points)):
                x, y = points[k, 0], points[k, 1]
                add_to_plane(sums[c], middle + x * cosine - y * sine, middle + x * sine + y * cosine, own[0, k],
                             own[1, k], own[2, k])
