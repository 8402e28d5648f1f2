"""Poses refined on a CPU, compiled: all steps of one image in one go; ``pose_refinement`` holds the definitions.

Sums over the points are held in double precision.
"""
from __future__ import annotations

import math

import numpy as np

from ..physics.compiled import compiled
from ..physics.slice_kernels import trilinear, trilinear_slopes


@compiled
def _moved(image: np.ndarray, k: np.ndarray, turn: float, shift: np.ndarray, phases: np.ndarray, moved: np.ndarray
           ) -> None:
    """``X exp(i turn k.s)`` of one image (2 p), into ``moved`` (2 p); ``phases`` (2, 2 r + 1, 2) is scratch."""
    reach = phases.shape[1] // 2
    for axis in range(2):
        for j in range(-reach, reach + 1):
            angle = turn * shift[axis] * j
            phases[axis, j + reach, 0], phases[axis, j + reach, 1] = math.cos(angle), math.sin(angle)
    for p in range(len(k)):
        x, y = phases[0, k[p, 0] + reach], phases[1, k[p, 1] + reach]
        real, imag = x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]
        moved[2 * p] = image[2 * p] * real - image[2 * p + 1] * imag
        moved[2 * p + 1] = image[2 * p] * imag + image[2 * p + 1] * real


@compiled
def _misfit(volume: np.ndarray, size: int, points: np.ndarray, moved: np.ndarray, ctf: np.ndarray,
            precision: np.ndarray, A: np.ndarray) -> float:
    """``1/2 sum_k w |X - C S|^2`` of one image whose shift is taken back."""
    total = 0.0
    for p in range(len(points)):
        u, v = points[p, 0], points[p, 1]
        real, imag = trilinear(volume, size, u * A[0, 0] + v * A[1, 0], u * A[0, 1] + v * A[1, 1],
                               u * A[0, 2] + v * A[1, 2])
        real, imag = moved[2 * p] - ctf[p] * real, moved[2 * p + 1] - ctf[p] * imag
        total += precision[p] * (real * real + imag * imag)
    return 0.5 * total


@compiled
def _normal_equations(volume: np.ndarray, size: int, points: np.ndarray, moved: np.ndarray, ctf: np.ndarray,
                      precision: np.ndarray, A: np.ndarray, shift_slope: float, normal: np.ndarray,
                      gradient: np.ndarray) -> float:
    """The misfit, ``J^T W J`` into ``normal`` (5, 5) and ``-J^T W r`` into ``gradient`` (5,)."""
    normal[:], gradient[:] = 0.0, 0.0
    jr, ji = np.empty(5, np.float32), np.empty(5, np.float32)
    total = 0.0
    for p in range(len(points)):
        u, v = points[p, 0], points[p, 1]
        s_r, s_i, x_r, x_i, y_r, y_i, z_r, z_i = trilinear_slopes(
            volume, size, u * A[0, 0] + v * A[1, 0], u * A[0, 1] + v * A[1, 1], u * A[0, 2] + v * A[1, 2])
        c, w = ctf[p], precision[p]
        # derivatives along the rows of A: those of the slice's point are v * -A_2, u * A_2, v * A_0 - u * A_1
        a_r, a_i = x_r * A[0, 0] + y_r * A[0, 1] + z_r * A[0, 2], x_i * A[0, 0] + y_i * A[0, 1] + z_i * A[0, 2]
        b_r, b_i = x_r * A[1, 0] + y_r * A[1, 1] + z_r * A[1, 2], x_i * A[1, 0] + y_i * A[1, 1] + z_i * A[1, 2]
        n_r, n_i = x_r * A[2, 0] + y_r * A[2, 1] + z_r * A[2, 2], x_i * A[2, 0] + y_i * A[2, 1] + z_i * A[2, 2]
        jr[0], ji[0] = c * v * n_r, c * v * n_i
        jr[1], ji[1] = -c * u * n_r, -c * u * n_i
        jr[2], ji[2] = c * (u * b_r - v * a_r), c * (u * b_i - v * a_i)
        m_r, m_i = moved[2 * p], moved[2 * p + 1]
        jr[3], ji[3] = -shift_slope * u * m_i, shift_slope * u * m_r
        jr[4], ji[4] = -shift_slope * v * m_i, shift_slope * v * m_r
        r_r, r_i = m_r - c * s_r, m_i - c * s_i
        total += w * (r_r * r_r + r_i * r_i)
        for a in range(5):
            wr, wi = w * jr[a], w * ji[a]
            gradient[a] -= wr * r_r + wi * r_i
            for b in range(a + 1):
                normal[a, b] += wr * jr[b] + wi * ji[b]
    for a in range(5):
        for b in range(a):
            normal[b, a] = normal[a, b]
    return 0.5 * total


@compiled
def _solve(normal: np.ndarray, gradient: np.ndarray, damping: float, step: np.ndarray) -> None:
    """``(N + damping diag N + 1e-6 max diag N + 1e-12) step = gradient`` by Cholesky's method."""
    largest = 0.0
    for a in range(5):
        largest = max(largest, normal[a, a])
    low = np.zeros((5, 5))
    for a in range(5):
        for b in range(a + 1):
            value = normal[a, b]
            if a == b:
                value += damping * normal[a, a] + 1e-6 * largest + 1e-12
            for j in range(b):
                value -= low[a, j] * low[b, j]
            low[a, b] = math.sqrt(max(value, 1e-30)) if a == b else value / low[b, b]
    for a in range(5):
        value = gradient[a]
        for j in range(a):
            value -= low[a, j] * step[j]
        step[a] = value / low[a, a]
    for a in range(4, -1, -1):
        value = step[a]
        for j in range(a + 1, 5):
            value -= low[j, a] * step[j]
        step[a] = value / low[a, a]


@compiled
def _turned(w: np.ndarray, A: np.ndarray, out: np.ndarray) -> None:
    """``exp([w]x) A`` into ``out``, by Rodrigues' formula on the columns of A."""
    angle = math.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    s = math.sin(angle) / angle if angle > 1e-12 else 1.0
    c = (1 - math.cos(angle)) / (angle * angle) if angle > 1e-6 else 0.5
    for j in range(3):
        x, y, z = A[0, j], A[1, j], A[2, j]
        cx, cy, cz = w[1] * z - w[2] * y, w[2] * x - w[0] * z, w[0] * y - w[1] * x
        out[0, j] = x + s * cx + c * (w[1] * cz - w[2] * cy)
        out[1, j] = y + s * cy + c * (w[2] * cx - w[0] * cz)
        out[2, j] = z + s * cz + c * (w[0] * cy - w[1] * cx)


@compiled
def refine_images(volume: np.ndarray, size: int, k: np.ndarray, pad: int, turn: float, images: np.ndarray,
                  ctf: np.ndarray, precision: np.ndarray, A: np.ndarray, shifts: np.ndarray, cost: np.ndarray,
                  iterations: int, first_damping: float, less: float, more: float) -> None:
    """Refine ``A`` (n, 3, 3) and ``shifts`` (n, 2) in place, the misfit into ``cost`` (n,).

    ``images`` (n, 2 p), ``ctf`` (n, p), ``precision`` (n or 1, p); ``k`` (p, 2) int32 in cycles per box, ``turn``
    2 pi / d.
    """
    n_points = len(k)
    points = (pad * k).astype(np.float32)
    phases = np.empty((2, 2 * int(np.abs(k).max()) + 1, 2), np.float32)
    moved, new_moved = np.empty(2 * n_points, np.float32), np.empty(2 * n_points, np.float32)
    normal, gradient, step = np.empty((5, 5)), np.empty(5), np.empty(5)
    new_normal, new_gradient = np.empty((5, 5)), np.empty(5)
    new_A, new_shift = np.empty((3, 3), np.float32), np.empty(2, np.float32)
    for i in range(len(A)):
        w = precision[i if len(precision) > 1 else 0]
        damping = first_damping
        _moved(images[i], k, turn, shifts[i], phases, moved)
        cost[i] = _normal_equations(volume, size, points, moved, ctf[i], w, A[i], turn / pad, normal, gradient)
        for j in range(iterations):
            _solve(normal, gradient, damping, step)
            _turned(step, A[i], new_A)
            new_shift[0], new_shift[1] = shifts[i, 0] + step[3], shifts[i, 1] + step[4]
            _moved(images[i], k, turn, new_shift, phases, new_moved)
            if j == iterations - 1:  # the last step needs no slopes
                new_cost = _misfit(volume, size, points, new_moved, ctf[i], w, new_A)
            else:
                new_cost = _normal_equations(volume, size, points, new_moved, ctf[i], w, new_A, turn / pad, new_normal,
                                             new_gradient)
            if new_cost < cost[i]:
                cost[i] = new_cost
                A[i], shifts[i] = new_A, new_shift
                moved, new_moved = new_moved, moved
                normal, new_normal = new_normal, normal
                gradient, new_gradient = new_gradient, gradient
                damping *= less
            else:
                damping *= more
