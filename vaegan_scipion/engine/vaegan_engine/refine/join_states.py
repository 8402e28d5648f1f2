"""Join states that are the same: two halves of the images must tell them apart, at equally good poses.

Two classes may hold one molecule in two frames or two hands. An image then prefers the class in which its
pose happens to be better, whatever the maps are. So the maps of the most similar pairs are aligned first, and
each image tries its pose of one class, carried over, in the other.

With the alignment ``F_a(k) = F_b'(R k) exp(-2 pi i k.t / d)`` (``alignment``; b' is b or its mirror image in z),
a pose (A, s) in a is ``(A R^T, s + A_xy t)`` in b', and its mirror image turns the z components of the rows.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import make_band
from ..physics.map_alignment import align_map, carried
from ..reconstruction.images import Images, low_passed
from ..reconstruction.least_squares import better_poses, misfits
from ..reconstruction.posed_images import Coefficients, PosedImages
from .assignment import class_map, reassign
from .split_states import is_separate, separation
from .states import Assignment

SURE_AGREEMENT, SURE_VALLEY = 0.97, 0.2  # beyond both, two states need no second look
_CARRIED_ITERATIONS = 3


def exchange_poses(data: Images, found: Assignment, a: int, b: int, radius: float) -> None:
    """The images of a and b try their poses of one in the other and keep the better; changes ``found``."""
    d = data.box_px
    maps = low_passed(found.volumes[[a, b]], radius).cpu().numpy()
    aligned = align_map(maps[1], maps[0], data.pixel_size_ang)
    rows = np.union1d(found.members(a), found.members(b))
    at = torch.from_numpy(rows).to(found.A.device)
    band = make_band(d, radius, data.device)
    source, precision = Coefficients(data, rows, band), band.weight / found.noise[band.shell]
    old = {c: (found.A[at, c], found.shifts_px[at, c]) for c in (a, b)}
    for c, carried_poses in ((b, carried(*old[a], aligned, True)), (a, carried(*old[b], aligned, False))):
        best, _ = better_poses(PosedImages(source, *old[c]), PosedImages(source, *carried_poses), found.volumes[c],
                               precision, _CARRIED_ITERATIONS)
        found.A[at, c], found.shifts_px[at, c] = best.A, best.shifts_px


def pair_evidence(data: Images, found: Assignment, radius: float, mask: Tensor, rng: torch.Generator
                  ) -> list[dict[str, Any]]:
    """``divide.separation`` of every pair of classes, by maps made from two halves of the images."""
    band = make_band(data.box_px, radius, data.device)
    source, precision = Coefficients(data, np.arange(len(data)), band), band.weight / found.noise[band.shell]
    half = torch.randperm(len(data), generator=rng).numpy() % 2
    costs = np.empty((2, len(data), found.n_classes), np.float32)
    for h in (0, 1):
        for c in range(found.n_classes):
            rows = found.members(c)
            volume, _ = class_map(data, found, rows[half[rows] == h], band, precision, mask)
            images = PosedImages(source, found.A[:, c], found.shifts_px[:, c])
            costs[h, :, c] = misfits(images, volume, precision, data.contrast_spread).cpu().numpy()
    pairs = []
    for a in range(found.n_classes):
        for b in range(a + 1, found.n_classes):
            rows = np.union1d(found.members(a), found.members(b))
            odds = torch.from_numpy(costs[:, rows, a] - costs[:, rows, b])
            unseen = torch.where(torch.from_numpy(half[rows]) == 0, odds[1], odds[0])
            strength = data.strength(rows)
            unseen = unseen if strength is None else unseen / strength.cpu()
            pairs.append({"classes": [a, b], **separation(odds[0], odds[1], unseen, found.A[rows, a])})
    return pairs


def doubtful_pairs(pairs: list[dict[str, Any]], n_classes: int) -> list[tuple[int, int]]:
    """Each class with the one that its images can best be mistaken for, unless the two are plainly apart."""
    found = set()
    for c in range(n_classes):
        nearest = min((pair for pair in pairs if c in pair["classes"]), key=lambda pair: pair["median_preference"])
        if nearest["agreement"] < SURE_AGREEMENT or nearest["valley"] > SURE_VALLEY:
            found.add((int(nearest["classes"][0]), int(nearest["classes"][1])))
    return sorted(found)


def merge_same(data: Images, found: Assignment, radius: float, mask: Tensor, smallest: int, rng: torch.Generator,
               report: Callable[[dict[str, Any]], None] | None = None) -> tuple[Assignment, list[dict[str, Any]]]:
    """Join classes that two halves of the images cannot tell apart. Returns the evidence of the pairs that stay."""
    while True:
        found = reassign(data, found, radius, mask, 1, smallest)
        if found.n_classes == 1:
            return found, []
        sizes = found.sizes()
        if sizes.min() < smallest:
            found = found.without(int(sizes.argmin()))
            continue
        pairs = pair_evidence(data, found, radius, mask, rng)
        doubtful = doubtful_pairs(pairs, found.n_classes)
        for a, b in doubtful:
            exchange_poses(data, found, a, b, radius)
        if doubtful:
            pairs = pair_evidence(data, found, radius, mask, rng)
        worst = min(pairs, key=lambda pair: (is_separate(pair), pair["agreement"]))
        if is_separate(worst):
            return found, pairs
        if report:
            report({**worst, "joined": True})
        found = found.without(min(worst["classes"], key=lambda c: int(sizes[c])))
