"""Images beside maps along a line on a CPU, compiled: what a misfit between every two of them is made of."""
from __future__ import annotations

import numpy as np

from ..physics.compiled import compiled
from ..physics.slice_kernels import corner


@compiled
def segment_sums(volumes: np.ndarray, size: int, points: np.ndarray, A: np.ndarray, moved: np.ndarray, ctf: np.ndarray,
                 precision: np.ndarray, sums: np.ndarray) -> None:
    """``|r|^2``, ``<r, D>`` and ``|D|^2`` of images from each of m maps to the next, into ``sums`` (3, n, m - 1).

    ``r = X - C S_j`` and ``D = C (S_(j + 1) - S_j)``, summed over the points with the precision (p,). ``volumes``
    (m, v) are half transforms, flat; ``points`` (p, 2) of the padded grid; ``moved`` (n, 2 p), ``ctf`` (n, p).
    """
    one, m = np.float32(1.0), len(volumes)
    own = np.empty((3, m - 1))
    for i in range(len(A)):
        own[:] = 0
        for k in range(len(points)):
            u, v = points[k, 0], points[k, 1]
            x = u * A[i, 0, 0] + v * A[i, 1, 0]
            y = u * A[i, 0, 1] + v * A[i, 1, 1]
            z = u * A[i, 0, 2] + v * A[i, 1, 2]
            sign = one
            if x < 0:
                x, y, z, sign = -x, -y, -z, -one
            a, b, c, d, fx, fy, fz = corner(x, y, z, size)
            factor, w = ctf[i, k], precision[k]
            wa, wb = factor * (one - fz) * (one - fy), factor * (one - fz) * fy
            wc, wd = factor * fz * (one - fy), factor * fz * fy
            before_r = before_i = np.float32(0.0)
            for j in range(m):
                volume = volumes[j]
                near_r = wa * volume[a] + wb * volume[b] + wc * volume[c] + wd * volume[d]
                near_i = wa * volume[a + 1] + wb * volume[b + 1] + wc * volume[c + 1] + wd * volume[d + 1]
                far_r = wa * volume[a + 2] + wb * volume[b + 2] + wc * volume[c + 2] + wd * volume[d + 2]
                far_i = wa * volume[a + 3] + wb * volume[b + 3] + wc * volume[c + 3] + wd * volume[d + 3]
                made_r, made_i = near_r + fx * (far_r - near_r), sign * (near_i + fx * (far_i - near_i))
                if j > 0:
                    r_r, r_i = moved[i, 2 * k] - before_r, moved[i, 2 * k + 1] - before_i
                    step_r, step_i = made_r - before_r, made_i - before_i
                    own[0, j - 1] += w * (r_r * r_r + r_i * r_i)
                    own[1, j - 1] += w * (r_r * step_r + r_i * step_i)
                    own[2, j - 1] += w * (step_r * step_r + step_i * step_i)
                before_r, before_i = made_r, made_i
        sums[:, i] = own
