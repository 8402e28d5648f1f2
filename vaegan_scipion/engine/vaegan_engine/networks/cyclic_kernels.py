"""Adaptive polyphase sampling and cyclic padding on a CPU, compiled, each with its adjoint.

The same as ``cyclic.components`` and ``functional.pad(mode="circular")``, which hold the definitions, in one pass each.
Images are contiguous float32 arrays (n, c, h, w); ``chosen`` (n,) is 2 i + j of component (i, j), h and w even there.
"""
from __future__ import annotations

import numpy as np

from ..physics.compiled import compiled


@compiled
def strongest(images: np.ndarray, blurred: bool, chosen: np.ndarray) -> None:
    """The component of each image with the largest sum of squares, into ``chosen``; of equal ones the first."""
    n, channels, h, w = images.shape
    for m in range(n):
        powers = np.zeros(4)
        for c in range(channels):
            for y in range(0, h, 2):
                row, next_row, last_row = images[m, c, y], images[m, c, y + 1], images[m, c, (y + 2) % h]
                first = second = third = fourth = np.float32(0.0)
                for x in range(0, w, 2):
                    if blurred:
                        after = (x + 2) % w
                        left, middle = row[x] + next_row[x], row[x + 1] + next_row[x + 1]
                        right = row[after] + next_row[after]
                        low_left, low_middle = next_row[x] + last_row[x], next_row[x + 1] + last_row[x + 1]
                        low_right = next_row[after] + last_row[after]
                        first += (left + middle) ** 2
                        second += (middle + right) ** 2
                        third += (low_left + low_middle) ** 2
                        fourth += (low_middle + low_right) ** 2
                    else:
                        first += row[x] ** 2
                        second += row[x + 1] ** 2
                        third += next_row[x] ** 2
                        fourth += next_row[x + 1] ** 2
                powers[0] += first
                powers[1] += second
                powers[2] += third
                powers[3] += fourth
        best = 0
        for k in range(1, 4):
            if powers[k] > powers[best]:
                best = k
        chosen[m] = best


@compiled
def take(images: np.ndarray, chosen: np.ndarray, blurred: bool, out: np.ndarray) -> None:
    """The chosen component of each image, into ``out`` (n, c, h/2, w/2)."""
    n, channels, h, w = images.shape
    quarter = np.float32(0.25)
    for m in range(n):
        i, j = chosen[m] // 2, chosen[m] % 2
        for c in range(channels):
            for y in range(h // 2):
                row, line = images[m, c, 2 * y + i], out[m, c, y]
                if not blurred:
                    for x in range(w // 2):
                        line[x] = row[2 * x + j]
                    continue
                next_row = images[m, c, (2 * y + i + 1) % h]
                inner = w // 2 - j
                for x in range(inner):
                    at = 2 * x + j
                    line[x] = quarter * (row[at] + row[at + 1] + next_row[at] + next_row[at + 1])
                if j:
                    line[inner] = quarter * (row[w - 1] + row[0] + next_row[w - 1] + next_row[0])


@compiled
def give(values: np.ndarray, chosen: np.ndarray, blurred: bool, out: np.ndarray) -> None:
    """Adjoint of ``take``: ``values`` (n, c, h/2, w/2) to ``out`` (n, c, h, w), all of which is written."""
    n, channels, h, w = out.shape
    quarter = np.float32(0.25)
    for m in range(n):
        i, j = chosen[m] // 2, chosen[m] % 2
        for c in range(channels):
            for y in range(h // 2):
                line, row, next_row = values[m, c, y], out[m, c, 2 * y + i], out[m, c, (2 * y + i + 1) % h]
                if not blurred:
                    for x in range(w // 2):
                        row[2 * x + j], row[2 * x + 1 - j] = line[x], np.float32(0.0)
                        next_row[2 * x], next_row[2 * x + 1] = np.float32(0.0), np.float32(0.0)
                    continue
                inner = w // 2 - j
                for x in range(inner):
                    at, value = 2 * x + j, quarter * line[x]
                    row[at], row[at + 1] = value, value
                    next_row[at], next_row[at + 1] = value, value
                if j:
                    value = quarter * line[inner]
                    row[w - 1], row[0] = value, value
                    next_row[w - 1], next_row[0] = value, value


@compiled
def pad(images: np.ndarray, margin: int, out: np.ndarray) -> None:
    """Images (m, h, w) continued cyclically by ``margin`` <= h, w on all sides, into ``out``."""
    m, h, w = images.shape
    for k in range(m):
        for y in range(h + 2 * margin):
            row, line = images[k, (y - margin) % h], out[k, y]
            for x in range(margin):
                line[x], line[w + margin + x] = row[w - margin + x], row[x]
            for x in range(w):
                line[margin + x] = row[x]


@compiled
def fold(values: np.ndarray, margin: int, out: np.ndarray) -> None:
    """Adjoint of ``pad``: ``values`` (m, h + 2 margin, w + 2 margin) summed into ``out`` (m, h, w)."""
    m, h, w = out.shape
    for k in range(m):
        for y in range(h):
            row, line = out[k, y], values[k, y + margin]
            for x in range(w):
                row[x] = line[margin + x]
            for x in range(margin):
                row[w - margin + x] += line[x]
                row[x] += line[w + margin + x]
        for y in range(margin):
            for from_y, to_y in ((y, h - margin + y), (h + margin + y, y)):
                row, line = out[k, to_y], values[k, from_y]
                for x in range(w):
                    row[x] += line[margin + x]
                for x in range(margin):
                    row[w - margin + x] += line[x]
                    row[x] += line[w + margin + x]
