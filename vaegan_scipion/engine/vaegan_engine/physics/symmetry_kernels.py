"""Sums over a point group on a CPU, compiled; ``map_constraint`` holds the equation."""
from __future__ import annotations

import numpy as np

from .compiled import compiled
from .slice_kernels import corner


@compiled
def add_turned(volumes: np.ndarray, size: int, points: np.ndarray, group: np.ndarray, out: np.ndarray) -> None:
    """Adds ``F(G k)`` of half transforms, real and imaginary parts ``(v, n)`` flat, for all G of a group.

    ``points`` k (p, 3), ``out`` (v, 2 p). The neighbours of a point are found once for all transforms.
    """
    for k in range(len(points)):
        for turn in group:
            x = turn[0, 0] * points[k, 0] + turn[0, 1] * points[k, 1] + turn[0, 2] * points[k, 2]
            y = turn[1, 0] * points[k, 0] + turn[1, 1] * points[k, 1] + turn[1, 2] * points[k, 2]
            z = turn[2, 0] * points[k, 0] + turn[2, 1] * points[k, 1] + turn[2, 2] * points[k, 2]
            sign = np.float32(1.0)
            if x < 0:
                x, y, z, sign = -x, -y, -z, np.float32(-1.0)
            a, b, c, d, fx, fy, fz = corner(x, y, z, size)
            wa, wb, wc, wd = (1 - fz) * (1 - fy), (1 - fz) * fy, fz * (1 - fy), fz * fy
            for v in range(len(volumes)):
                volume = volumes[v]
                near_re = wa * volume[a] + wb * volume[b] + wc * volume[c] + wd * volume[d]
                near_im = wa * volume[a + 1] + wb * volume[b + 1] + wc * volume[c + 1] + wd * volume[d + 1]
                far_re = wa * volume[a + 2] + wb * volume[b + 2] + wc * volume[c + 2] + wd * volume[d + 2]
                far_im = wa * volume[a + 3] + wb * volume[b + 3] + wc * volume[c + 3] + wd * volume[d + 3]
                out[v, 2 * k] += near_re + fx * (far_re - near_re)
                out[v, 2 * k + 1] += sign * (near_im + fx * (far_im - near_im))
