"""Searches of images whose centres are known: all rotations, but only shifts near the known ones.

An image's centre is found long before its rotation is, and stays where it is while that changes. So of a grid of 50 to
120 shifts nine are left. How far from the known ones the shifts must be tried is not assumed: a sample of the images is
searched at all shifts first, and the others as far as all but ``MAX_OUTSIDE`` of the sample have gone. Where that is
no less, all are searched at all shifts.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .images import Images, spread_rows
from .map_mixture import MapMixture
from .pose_search import PoseGrid, Search, search_all, shift_grid_of, shift_step_px

MAX_OUTSIDE = 0.01  # of the sample, that may have gone further than the others are tried
WORTH_TWO_PASSES = 0.8  # of the poses of one pass: maps one by one cost a fifth more per pose than all together
_SAMPLE = 200  # images


class Placed(NamedTuple):
    """Images and their shifts in the frame of every map."""

    rows: np.ndarray  # (n,)
    shifts_px: Tensor  # (n, c, 2)
    n_sample: int = _SAMPLE  # images that are searched at all shifts


def search_near(data: Images, model: MapMixture, placed: Placed, grid: PoseGrid,
                progress: Callable[[int], None] | None = None) -> Search:
    """``search_all`` of images near the shifts that they have in each map.

    Log evidences of one image can be compared with each other, and not with those of another one.
    """
    n, every = len(placed.rows), np.arange(len(placed.rows))
    some = spread_rows(n, placed.n_sample)
    sample = search_all(data, model, placed.rows[some], grid, progress)
    others = np.setdiff1d(every, some)
    if not len(others):
        return sample
    n_steps = steps_to_try(sample, placed.shifts_px[torch.from_numpy(some)], _step_px(data, grid))
    if _n_near(n_steps) >= len(shift_grid_of(data, grid.radius, grid.largest_shift_px, grid.finer_shifts)):
        rest = search_all(data, model, placed.rows[others], grid, progress)
    else:
        rest = _search_maps(data, model, Placed(placed.rows[others], placed.shifts_px[torch.from_numpy(others)]),
                            replace(grid, n_steps=n_steps), progress)
    return _in_order((sample, some), (rest, others))


def _step_px(data: Images, grid: PoseGrid) -> float:
    return shift_step_px(data.box_px, grid.radius) / grid.finer_shifts


def _n_near(n_steps: int) -> int:
    """Shifts within so many steps of the grid."""
    return (2 * n_steps + 1) ** 2


def _in_order(*parts: tuple[Search, np.ndarray]) -> Search:
    """Searches of some images each, and their places, as one of all."""
    order = np.argsort(np.concatenate([places for _, places in parts]))
    found = [search for search, _ in parts]
    at = torch.from_numpy(order).to(found[0].rotations.device)
    return Search(np.concatenate([one.log_evidence for one in found])[order],
                  torch.cat([one.rotations for one in found])[at], torch.cat([one.shifts_px for one in found])[at])


def steps_to_try(sample: Search, known_px: Tensor, step_px: float) -> int:
    """Steps of the grid within which the sample has stayed: the likeliest map's pose against shifts (n, c, 2)."""
    best = torch.from_numpy(sample.log_evidence.argmax(1)).to(known_px.device)
    at = torch.arange(len(best), device=best.device)
    moved = (sample.shifts_px[at, best] - known_px[at, best]).abs().amax(1) / step_px
    far = float(np.quantile(moved.cpu().numpy(), 1 - MAX_OUTSIDE, method="higher"))
    return max(1, math.ceil(far - 0.5))  # a step reaches half a step further


def passes_in_one_frame(model: MapMixture) -> int:
    """How often ``search_in_one_frame`` tells of each image: of several maps the first may be searched before all."""
    return 1 if model.n_maps == 1 else 2


def search_in_one_frame(data: Images, model: MapMixture, rows: np.ndarray, grid: PoseGrid,
                        progress: Callable[[int], None] | None = None) -> Search:
    """``search_all`` in maps of one frame: at all shifts in the first of them, then near what is found there.

    A sample in all maps at all shifts tells how near, and whether that is less work than all shifts in all maps; else
    these are searched. ``progress`` is told of every image ``passes_in_one_frame`` times.
    """
    if model.n_maps == 1:
        return search_all(data, model, rows, grid, progress)

    def in_all_maps(n: int) -> None:
        if progress:
            progress(2 * n)

    some = spread_rows(len(rows), _SAMPLE)
    sample, others = search_all(data, model, rows[some], grid, in_all_maps), np.setdiff1d(np.arange(len(rows)), some)
    if not len(others):
        return sample
    n_steps = steps_to_try(sample, sample.shifts_px[:, :1].expand(-1, model.n_maps, 2), _step_px(data, grid))
    n_shifts = len(shift_grid_of(data, grid.radius, grid.largest_shift_px, grid.finer_shifts))
    if n_shifts + model.n_maps * _n_near(n_steps) >= WORTH_TWO_PASSES * model.n_maps * n_shifts:
        return _in_order((sample, some), (search_all(data, model, rows[others], grid, in_all_maps), others))
    first = search_all(data, _one_map(model, 0), rows[others], grid, progress)
    rest = _search_maps(data, model, Placed(rows[others], first.shifts_px.expand(-1, model.n_maps, 2)),
                        replace(grid, n_steps=n_steps), progress)
    return _in_order((sample, some), (rest, others))


def _search_maps(data: Images, model: MapMixture, placed: Placed, grid: PoseGrid,
                 progress: Callable[[int], None] | None) -> Search:
    """Every map by itself, about its own shifts; an image is done with the last of them."""
    found = [search_all(data, _one_map(model, k), placed.rows, replace(grid, around=placed.shifts_px[:, k]),
                        progress if k == model.n_maps - 1 else None) for k in range(model.n_maps)]
    return Search(np.concatenate([one.log_evidence for one in found], 1),
                  torch.cat([one.rotations for one in found], 1), torch.cat([one.shifts_px for one in found], 1))


def _one_map(model: MapMixture, k: int) -> MapMixture:
    return MapMixture(model.maps[k:k + 1], model.noise, model.constraint)
