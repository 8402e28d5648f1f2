"""Images beside a family of maps on a CPU, compiled; ``map_family`` holds the definitions.

A family's table has a row of floats per voxel of a half transform ``(s, s, s//2 + 1)``: real and imaginary part of
every map in turn, and zeros up to a multiple of ``LANES``. So the eight neighbours of a slice point are eight rows that
are read in one go, for all maps.
"""
from __future__ import annotations

import numpy as np

from ..physics.compiled import compiled
from ..physics.slice_kernels import corner

LANES = 8  # floats


@compiled
def read_columns(table: np.ndarray, size: int, k: np.ndarray, pad: int, A: np.ndarray, moved: np.ndarray,
                 weights: np.ndarray, spreads: np.ndarray, columns: np.ndarray, products: np.ndarray) -> None:
    """Whitened columns of images at rotations ``A`` (n, 3, 3), into ``columns`` (n, 6 + m + 1, 2 p).

    Their products with each other go into ``products`` (n, 6 + m + 1, 6 + m + 1).

    ``table`` (v, l) of mean, m maps and three moments of the mean; ``k`` (p, 2) in cycles per box; ``moved`` (n, 2 p)
    the whitened images; ``weights`` (n, p) ``C / s``; ``spreads`` (6,) times the factors of the derivatives: 1,
    ``2 pi / d`` three times, ``2 pi`` twice.
    """
    one, lanes = np.float32(1.0), table.shape[1]
    n_maps, n_points = columns.shape[1] - 7, len(k)
    row = np.empty(lanes, np.float32)
    for i in range(len(A)):
        made = columns[i]
        for p in range(n_points):
            u, v = k[p, 0], k[p, 1]
            qx, qy = u * A[i, 0, 0] + v * A[i, 1, 0], u * A[i, 0, 1] + v * A[i, 1, 1]
            qz = u * A[i, 0, 2] + v * A[i, 1, 2]
            x, y, z, sign = pad * qx, pad * qy, pad * qz, one
            if x < 0:
                x, y, z, sign = -x, -y, -z, -one
            a, b, c, d, fx, fy, fz = corner(x, y, z, size)
            a, b, c, d = a // 2, b // 2, c // 2, d // 2
            wa, wb, wc, wd = (one - fz) * (one - fy), (one - fz) * fy, fz * (one - fy), fz * fy
            near = one - fx
            a0, a1, b0, b1 = near * wa, fx * wa, near * wb, fx * wb
            c0, c1, d0, d1 = near * wc, fx * wc, near * wd, fx * wd
            for j in range(lanes):
                row[j] = (a0 * table[a, j] + a1 * table[a + 1, j] + b0 * table[b, j] + b1 * table[b + 1, j]
                          + c0 * table[c, j] + c1 * table[c + 1, j] + d0 * table[d, j] + d1 * table[d + 1, j])
            w = weights[i, p]
            ws, re, im = sign * w, 2 * p, 2 * p + 1
            mean_re, mean_im = w * row[0], ws * row[1]
            made[0, re], made[0, im] = spreads[0] * mean_re, spreads[0] * mean_im
            at = 2 * (n_maps + 1)
            x_re, x_im = ws * row[at + 1], -w * row[at]  # -i times the moments
            y_re, y_im = ws * row[at + 3], -w * row[at + 2]
            z_re, z_im = ws * row[at + 5], -w * row[at + 4]
            made[1, re], made[1, im] = spreads[1] * (qy * z_re - qz * y_re), spreads[1] * (qy * z_im - qz * y_im)
            made[2, re], made[2, im] = spreads[2] * (qz * x_re - qx * z_re), spreads[2] * (qz * x_im - qx * z_im)
            made[3, re], made[3, im] = spreads[3] * (qx * y_re - qy * x_re), spreads[3] * (qx * y_im - qy * x_im)
            made[4, re], made[4, im] = spreads[4] * u * mean_im, -spreads[4] * u * mean_re
            made[5, re], made[5, im] = spreads[5] * v * mean_im, -spreads[5] * v * mean_re
            for m in range(n_maps):
                made[6 + m, re], made[6 + m, im] = w * row[2 * m + 2], ws * row[2 * m + 3]
            made[6 + n_maps, re], made[6 + n_maps, im] = moved[i, re] - mean_re, moved[i, im] - mean_im
        for a in range(len(made)):
            for b in range(a + 1):
                total = np.float32(0.0)
                for t in range(2 * n_points):
                    total += made[a, t] * made[b, t]
                products[i, a, b] = products[i, b, a] = total


@compiled
def add_residuals(columns: np.ndarray, factors: np.ndarray, weights: np.ndarray, k: np.ndarray, pad: int, size: int,
                  A: np.ndarray, sums: np.ndarray, power: np.ndarray) -> None:
    """Adds the combinations ``factors`` (n, 1 + m, 6 + m + 1) of columns, times their weights, to ``sums`` (v, l).

    A row of ``sums`` holds them as a row of the table does, then the sum of the squared weights. ``power`` (p,) gets
    the squared first combination.
    """
    one, lanes = np.float32(1.0), sums.shape[1]
    n_made, n_columns, n_points = factors.shape[1], factors.shape[2], len(k)
    made = np.empty((n_made, 2 * n_points), np.float32)
    row = np.zeros(lanes, np.float32)
    for i in range(len(A)):
        made[:] = 0
        for m in range(n_made):
            for j in range(n_columns):
                factor = factors[i, m, j]
                for t in range(2 * n_points):
                    made[m, t] += factor * columns[i, j, t]
        for p in range(n_points):
            power[p] += made[0, 2 * p] * made[0, 2 * p] + made[0, 2 * p + 1] * made[0, 2 * p + 1]
            u, v = pad * k[p, 0], pad * k[p, 1]
            x, y = u * A[i, 0, 0] + v * A[i, 1, 0], u * A[i, 0, 1] + v * A[i, 1, 1]
            z = u * A[i, 0, 2] + v * A[i, 1, 2]
            w = weights[i, p]
            ws = w
            if x < 0:
                x, y, z, ws = -x, -y, -z, -w
            a, b, c, d, fx, fy, fz = corner(x, y, z, size)
            for m in range(n_made):
                row[2 * m], row[2 * m + 1] = w * made[m, 2 * p], ws * made[m, 2 * p + 1]
            row[2 * n_made] = w * w
            low, high = one - fz, fz
            for line, weight in ((a // 2, low * (one - fy)), (b // 2, low * fy), (c // 2, high * (one - fy)),
                                 (d // 2, high * fy)):
                far = weight * fx
                near = weight - far
                for j in range(lanes):
                    sums[line, j] += near * row[j]
                for j in range(lanes):
                    sums[line + 1, j] += far * row[j]
