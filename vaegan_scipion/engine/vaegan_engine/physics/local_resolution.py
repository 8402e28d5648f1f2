"""Local resolution: the FSC of two half maps inside a small window, moved over the map (Cardone *et al.*, J. Struct.
Biol. 184, 226, 2013).

At a point, both half maps (not masked) are multiplied by the same raised-cosine ball ``w(r) = (1 + cos(pi r / R)) / 2``
of radius R about it, and cut out; the resolution there is where the FSC of the two first falls below 0.5. The window
spreads every shell over about its neighbours, so values are good to one shell of the window, ``1 / (2 R)``; the
threshold of 0.5 keeps chance out, of which small windows hold much. R is in proportion to the resolution of the whole.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .fsc import fourier_shell_correlation, resolution_at
from .shards import in_parts

THRESHOLD = 0.5
WINDOW_RESOLUTIONS = 7.0  # side of the window / resolution of the whole map
MIN_WINDOW_PX = 16
STEPS_PER_WINDOW = 4.0  # points on the grid, along an axis
INSIDE = 0.95  # of the mask, where points are: not on its soft edge
_PLANES = 16  # interpolated at a time
_POINTS = 32  # that one thread looks at in turn


@dataclass(frozen=True)
class LocalResolution:
    """A resolution at every voxel; its spread is that of the points inside the mask."""

    map: np.ndarray  # (d, d, d) float32, A
    at_points_ang: np.ndarray  # (m,)
    window_px: int
    step_px: int


def window_px(resolution_ang: float, voxel_size_ang: float, box_px: int) -> int:
    """Side of the window, an even number of voxels, at most the box."""
    wanted = 2 * round(WINDOW_RESOLUTIONS * resolution_ang / voxel_size_ang / 2)
    return max(min(MIN_WINDOW_PX, box_px), min(wanted, box_px - box_px % 2))


def local_resolution(half_maps: np.ndarray, mask: np.ndarray, voxel_size_ang: float, resolution_ang: float,
                     progress: Callable[[int], None] | None = None) -> LocalResolution:
    """Local resolution of half maps ``(2, d, d, d)`` inside a mask ``(d, d, d)``.

    Values between grid points are interpolated; outside of the mask stands that of the nearest point. ``progress`` is
    called with the number of points done.
    """
    d, side = len(mask), window_px(resolution_ang, voxel_size_ang, len(mask))
    step = max(1, round(side / STEPS_PER_WINDOW))
    ticks = np.arange(d // 2 % step, d, step)
    inside = mask[np.ix_(ticks, ticks, ticks)] > INSIDE
    if not inside.any():
        inside[tuple(len(ticks) // 2 for _ in range(3))] = True
    ball = _ball(side)
    padded = np.pad(half_maps, ((0, 0), *((side // 2, side // 2),) * 3))
    points = np.argwhere(inside)

    def at_points(first: int, end: int) -> list[float]:
        resolutions_ang = []
        for corner in ticks[points[first:end]]:
            halves = padded[(slice(None), *(slice(t, t + side) for t in corner))] * ball
            resolutions_ang.append(
                resolution_at(fourier_shell_correlation(*halves), THRESHOLD, side, voxel_size_ang).ang)
        if progress:
            progress(end - first)
        return resolutions_ang

    grid = np.full(inside.shape, np.nan)
    grid[inside] = np.concatenate(in_parts(at_points, len(points), _POINTS))
    at = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    places = (np.arange(d) - ticks[0]) / step
    filled = grid[tuple(at)]
    values = np.concatenate([_planes(filled, places, slice(z, z + _PLANES)) for z in range(0, d, _PLANES)])
    return LocalResolution(values, grid[inside], side, step)


def _ball(side: int) -> np.ndarray:
    """The window ``(s, s, s)``, 1 at its centre ``s // 2``."""
    x = np.arange(side) - side // 2
    r = np.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2) / (side / 2)
    return 0.5 * (1 + np.cos(np.pi * np.clip(r, 0, 1)))


def _planes(grid: np.ndarray, places: np.ndarray, planes: slice) -> np.ndarray:
    """Some planes z of a grid read at ``places`` (d,) along each axis, trilinearly; float32."""
    at = np.stack(np.meshgrid(places[planes], places, places, indexing="ij"))
    return ndimage.map_coordinates(grid, at, order=1, mode="nearest").astype(np.float32)
