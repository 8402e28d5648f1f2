"""Slices of maps on a CPU, compiled: values, sums into the volume, and poses refined image by image.

The same as ``slices.gather`` and ``slices.scatter`` through ``slices.stencil``, which hold the definitions, without
arrays of neighbours and weights in between. All arrays are contiguous numpy arrays; a half transform
``(s, s, s//2 + 1)`` is given as its real and imaginary parts, float32, flat.
"""
from __future__ import annotations

import math

import numpy as np

from .compiled import compiled


@compiled
def corner(x: float, y: float, z: float, size: int) -> tuple:
    """Offsets of the four lines of neighbours along x (of floats), and the fractions, of a point with x >= 0."""
    half = size // 2 + 1
    ix, iy, iz = int(x), math.floor(y), math.floor(z)
    fx, fy, fz = np.float32(x - ix), np.float32(y - iy), np.float32(z - iz)
    if ix >= half - 1:  # on the last plane its neighbour has no weight
        ix, fx = half - 2, np.float32(1.0)
    y0 = iy + size if iy < 0 else iy
    y1 = iy + 1 + size if iy + 1 < 0 else iy + 1
    z0 = iz + size if iz < 0 else iz
    z1 = iz + 1 + size if iz + 1 < 0 else iz + 1
    return (2 * ((z0 * size + y0) * half + ix), 2 * ((z0 * size + y1) * half + ix),
            2 * ((z1 * size + y0) * half + ix), 2 * ((z1 * size + y1) * half + ix), fx, fy, fz)


@compiled
def trilinear(volume: np.ndarray, size: int, x: float, y: float, z: float) -> tuple:
    """Trilinear value (real, imaginary) at a point in grid units."""
    sign = np.float32(1.0)
    if x < 0:
        x, y, z, sign = -x, -y, -z, np.float32(-1.0)
    a, b, c, d, fx, fy, fz = corner(x, y, z, size)
    wa, wb = (1 - fz) * (1 - fy), (1 - fz) * fy
    wc, wd = fz * (1 - fy), fz * fy
    near_re = wa * volume[a] + wb * volume[b] + wc * volume[c] + wd * volume[d]
    near_im = wa * volume[a + 1] + wb * volume[b + 1] + wc * volume[c + 1] + wd * volume[d + 1]
    far_re = wa * volume[a + 2] + wb * volume[b + 2] + wc * volume[c + 2] + wd * volume[d + 2]
    far_im = wa * volume[a + 3] + wb * volume[b + 3] + wc * volume[c + 3] + wd * volume[d + 3]
    return near_re + fx * (far_re - near_re), sign * (near_im + fx * (far_im - near_im))


@compiled
def trilinear_slopes(volume: np.ndarray, size: int, x: float, y: float, z: float) -> tuple:
    """Trilinear value and its derivatives along x, y and z, real and imaginary part of each."""
    one = np.float32(1.0)
    sign = one
    if x < 0:
        x, y, z, sign = -x, -y, -z, -one
    a, b, c, d, fx, fy, fz = corner(x, y, z, size)
    # along x at the four lines: value and difference
    dar, dbr = volume[a + 2] - volume[a], volume[b + 2] - volume[b]
    dcr, ddr = volume[c + 2] - volume[c], volume[d + 2] - volume[d]
    dai, dbi = volume[a + 3] - volume[a + 1], volume[b + 3] - volume[b + 1]
    dci, ddi = volume[c + 3] - volume[c + 1], volume[d + 3] - volume[d + 1]
    ar, br = volume[a] + fx * dar, volume[b] + fx * dbr
    cr, dr = volume[c] + fx * dcr, volume[d] + fx * ddr
    ai, bi = volume[a + 1] + fx * dai, volume[b + 1] + fx * dbi
    ci, di = volume[c + 1] + fx * dci, volume[d + 1] + fx * ddi
    low_r, high_r = ar + fy * (br - ar), cr + fy * (dr - cr)
    low_i, high_i = ai + fy * (bi - ai), ci + fy * (di - ci)
    wa, wb = (one - fz) * (one - fy), (one - fz) * fy
    wc, wd = fz * (one - fy), fz * fy
    x_r, x_i = wa * dar + wb * dbr + wc * dcr + wd * ddr, wa * dai + wb * dbi + wc * dci + wd * ddi
    y_r = (br - ar) + fz * ((dr - cr) - (br - ar))
    y_i = (bi - ai) + fz * ((di - ci) - (bi - ai))
    # the value is the conjugate of that at minus the point: its derivatives turn their sign twice in the imaginary part
    return (low_r + fz * (high_r - low_r), sign * (low_i + fz * (high_i - low_i)),
            sign * x_r, x_i, sign * y_r, y_i, sign * (high_r - low_r), high_i - low_i)


@compiled
def slice_values(volume: np.ndarray, size: int, points: np.ndarray, A: np.ndarray, out: np.ndarray) -> None:
    """Slices along ``A`` (n, 3, 3) at ``points`` (p, 2) of the padded grid, into ``out`` (n, 2 p)."""
    for i in range(len(A)):
        for k in range(len(points)):
            u, v = points[k, 0], points[k, 1]
            out[i, 2 * k], out[i, 2 * k + 1] = trilinear(volume, size, u * A[i, 0, 0] + v * A[i, 1, 0],
                                                      u * A[i, 0, 1] + v * A[i, 1, 1], u * A[i, 0, 2] + v * A[i, 1, 2])


@compiled
def values_at(volume: np.ndarray, size: int, points: np.ndarray, R: np.ndarray, out: np.ndarray) -> None:
    """Values at points ``R q`` of the padded grid, ``points`` (p, 3) and ``R`` (n, 3, 3), into ``out`` (n, 2 p)."""
    for i in range(len(R)):
        for k in range(len(points)):
            x, y, z = points[k, 0], points[k, 1], points[k, 2]
            out[i, 2 * k], out[i, 2 * k + 1] = trilinear(
                volume, size, R[i, 0, 0] * x + R[i, 0, 1] * y + R[i, 0, 2] * z,
                R[i, 1, 0] * x + R[i, 1, 1] * y + R[i, 1, 2] * z, R[i, 2, 0] * x + R[i, 2, 1] * y + R[i, 2, 2] * z)


@compiled
def add_overlap(volume: np.ndarray, size: int, points: np.ndarray, reference: np.ndarray, weight: np.ndarray,
                R: np.ndarray, turn: np.ndarray, sums: np.ndarray) -> None:
    """Adds what the overlap of two maps and its slopes are made of to ``sums`` (2, 13), one point after the other.

    With ``S`` the value at ``R q``, q a row of ``points`` (p, 3), ``m = S exp(-i q.turn)`` and w ``weight`` (p,):
    ``sum w Re(m ref*)`` and ``sum w |m|^2``, then of both the slopes along R (9, row by row) and along ``turn`` (3).
    """
    for k in range(len(points)):
        x, y, z = points[k, 0], points[k, 1], points[k, 2]
        s_r, s_i, x_r, x_i, y_r, y_i, z_r, z_i = trilinear_slopes(
            volume, size, R[0, 0] * x + R[0, 1] * y + R[0, 2] * z, R[1, 0] * x + R[1, 1] * y + R[1, 2] * z,
            R[2, 0] * x + R[2, 1] * y + R[2, 2] * z)
        angle = x * turn[0] + y * turn[1] + z * turn[2]
        c, s, w = math.cos(angle), -math.sin(angle), weight[k]
        ref_r, ref_i = reference[2 * k], reference[2 * k + 1]
        g_r, g_i = w * (c * ref_r + s * ref_i), w * (s * ref_r - c * ref_i)  # w exp(-i q.turn) ref*
        sums[0, 0] += s_r * g_r - s_i * g_i
        sums[1, 0] += w * (s_r * s_r + s_i * s_i)
        across = s_r * g_i + s_i * g_r
        for row, (d_r, d_i) in enumerate(((x_r, x_i), (y_r, y_i), (z_r, z_i))):
            first, second = d_r * g_r - d_i * g_i, 2 * w * (s_r * d_r + s_i * d_i)
            for column, q in enumerate((x, y, z)):
                sums[0, 1 + 3 * row + column] += first * q
                sums[1, 1 + 3 * row + column] += second * q
        for column, q in enumerate((x, y, z)):
            sums[0, 10 + column] += across * q


@compiled
def add_at_points(values: np.ndarray, size: int, points: np.ndarray, A: np.ndarray, volume: np.ndarray) -> None:
    """Adjoint of ``slice_values``: adds ``values`` (n, 2 p) to the half transform that they were read from, flat."""
    one = np.float32(1.0)
    for i in range(len(A)):
        for k in range(len(points)):
            u, v = points[k, 0], points[k, 1]
            x = u * A[i, 0, 0] + v * A[i, 1, 0]
            y = u * A[i, 0, 1] + v * A[i, 1, 1]
            z = u * A[i, 0, 2] + v * A[i, 1, 2]
            real, imag = values[i, 2 * k], values[i, 2 * k + 1]
            if x < 0:
                x, y, z, imag = -x, -y, -z, -imag
            a, b, c, d, fx, fy, fz = corner(x, y, z, size)
            low, high = one - fz, fz
            for line, weight in ((a, low * (one - fy)), (b, low * fy), (c, high * (one - fy)), (d, high * fy)):
                far = weight * fx
                near = weight - far
                volume[line] += near * real
                volume[line + 1] += near * imag
                volume[line + 2] += far * real
                volume[line + 3] += far * imag


@compiled
def add_slices(values: np.ndarray, powers: np.ndarray, points: np.ndarray, A: np.ndarray, cube: np.ndarray) -> None:
    """The adjoint: adds slices ``values`` (n, 2 p) and real ``powers`` (n, p) to ``cube``.

    ``cube`` (2 r + 1, 2 r + 1, r + 1, 3) holds real part, imaginary part and power about its middle, x from 0 on.
    """
    r = len(cube) // 2
    for i in range(len(A)):
        for k in range(len(points)):
            u, v = points[k, 0], points[k, 1]
            x = u * A[i, 0, 0] + v * A[i, 1, 0]
            y = u * A[i, 0, 1] + v * A[i, 1, 1]
            z = u * A[i, 0, 2] + v * A[i, 1, 2]
            real, imag, power = values[i, 2 * k], values[i, 2 * k + 1], powers[i, k]
            if x < 0:
                x, y, z, imag = -x, -y, -z, -imag
            ix, iy, iz = int(x), math.floor(y), math.floor(z)
            fx, fy, fz = np.float32(x - ix), np.float32(y - iy), np.float32(z - iz)
            for dz in range(2):
                wz = fz if dz else 1 - fz
                for dy in range(2):
                    w = wz * (fy if dy else 1 - fy)
                    line = cube[iz + dz + r, iy + dy + r]
                    far = w * fx
                    near = w - far
                    line[ix, 0] += near * real
                    line[ix, 1] += near * imag
                    line[ix, 2] += near * power
                    line[ix + 1, 0] += far * real
                    line[ix + 1, 1] += far * imag
                    line[ix + 1, 2] += far * power


@compiled
def add_cube(cube: np.ndarray, size: int, sums: np.ndarray, powers: np.ndarray) -> None:
    """Adds a cube of ``add_slices`` to half transforms ``sums`` (s, s, s//2 + 1, 2) and ``powers`` (s, s, s//2 + 1).

    The plane x = 0 gets each coefficient and its conjugate.
    """
    r, half = len(cube) // 2, size // 2 + 1
    for z in range(-r, r + 1):
        for y in range(-r, r + 1):
            line = cube[z + r, y + r]
            sums_line, powers_line = sums[z % size, y % size], powers[z % size, y % size]
            for x in range(min(half, cube.shape[2])):
                sums_line[x, 0] += line[x, 0]
                sums_line[x, 1] += line[x, 1]
                powers_line[x] += line[x, 2]
            sums[-z % size, -y % size, 0, 0] += line[0, 0]
            sums[-z % size, -y % size, 0, 1] -= line[0, 1]
            powers[-z % size, -y % size, 0] += line[0, 2]
