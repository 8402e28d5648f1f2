"""How many states are in a class: it is split in two as long as two halves of the images agree on the split.

A class with known poses is split by ``heterogeneity.split_in_two`` twice, from two disjoint halves of its
images. Each result labels *all* images. A split is kept when

* both labellings agree (adjusted mutual information at least ``SMALLEST_AGREEMENT``): noise and overfitting do
  not repeat in images that were not used, and
* the preferences, each image's from the half that did not see it, have a valley between the two sides
  (``clustering.valley_ratio`` at most ``LARGEST_VALLEY``): a continuous family also repeats, without a valley, and
* the viewing direction explains at most ``MOST_BY_VIEW`` of the sides (``views``), or the evidence is ``PLAIN``: a map
  that is cut divides its images by their view, and
* both sides hold at least ``smallest`` images.

The children are tried again. Every trial is recorded, kept or not.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, make_band
from ..reconstruction.images import Images
from ..reconstruction.least_squares import reconstruction, residual_noise
from ..reconstruction.posed_images import Coefficients, Posed, PosedImages
from ..stats.density_valley import valley_ratio
from ..stats.view_dependence import explained_by_view
from .states import State
from .two_maps import preference, split_in_two

SMALLEST_AGREEMENT = 0.5  # adjusted mutual information of the labels from two halves
LARGEST_VALLEY = 0.6
MOST_BY_VIEW = 0.5  # of the variance of the sides
PLAIN_AGREEMENT, PLAIN_VALLEY = 0.9, 0.2  # states in wrong poses are parted by views too, and plainly
MOST_SPLIT_IMAGES = 4000  # that the two maps are made from; all images get a side
_SETTLE_ROUNDS = 3  # map and poses in turn before a split
_POSE_ITERATIONS = 3


def settled(data: Images, state: State, band: Band, mask: Tensor, rounds: int = _SETTLE_ROUNDS
            ) -> tuple[State, PosedImages, Tensor]:
    """Map from poses and poses from map in turn. Returns the state, its images in the band, the precision (p,)."""
    images = PosedImages(Coefficients(data, state.rows, band), state.A, state.shifts_px)
    volume, precision = state.volume, torch.ones_like(band.weight)
    for turn in range(rounds + 1):
        volume = reconstruction(images, precision, mask)
        precision = band.weight / residual_noise(images, volume)[band.shell]
        if turn < rounds:
            images, _ = images.refined(volume, precision, _POSE_ITERATIONS)
    return State(state.rows, images.A, images.shifts_px, volume), images, precision


def separation(first: Tensor, second: Tensor, unseen: Tensor, A: Tensor) -> dict[str, Any]:
    """Evidence that two maps are two states.

    ``first``, ``second``: every image's preference (n,) by maps from one half of the images and from the other;
    ``unseen``: the preference by the half that did not hold the image (the mean, where neither did), of images of one
    strength: those of faint particles would fill the valley. ``A`` (n, 3, 3): their rotations, in one frame.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    side = (unseen > 0).cpu().numpy()
    values = unseen.cpu().numpy()[:, None].astype(np.float64)
    bound = np.quantile(np.abs(values), 0.95)
    values = values.clip(-bound, bound)  # a few extreme images must not set the scale
    found = side.any() and not side.all()
    return {
        "n_particles": len(side), "n_second": int(side.sum()),
        "agreement": float(adjusted_mutual_info_score((first > 0).cpu().numpy(), (second > 0).cpu().numpy())),
        "valley": valley_ratio(values[~side], values[side]) if found else 1.0,
        "by_view": explained_by_view((unseen > 0).float(), A),
        "median_preference": float(np.median(np.abs(values))),
    }


def is_separate(evidence: dict[str, Any]) -> bool:
    """Whether the evidence of ``separation`` speaks for two states."""
    agreement, valley = evidence["agreement"], evidence["valley"]
    if evidence["by_view"] > MOST_BY_VIEW:
        return bool(agreement >= PLAIN_AGREEMENT and valley <= PLAIN_VALLEY)
    return bool(agreement >= SMALLEST_AGREEMENT and valley <= LARGEST_VALLEY)


def try_split(images: Posed | PosedImages, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
              strength: Tensor | None = None, spread: float = 0.0) -> tuple[np.ndarray, Tensor, dict[str, Any]]:
    """Side of each image (bool), the two maps ``(2, d, d, d)``, and the evidence.

    Where images differ in contrast: ``strength`` (n,), what their preferences are proportional to, and ``spread``
    (``Images``).
    """
    n = len(images.A)
    order = torch.randperm(n, generator=rng).to(images.A.device)
    each = min(n // 2, MOST_SPLIT_IMAGES // 2)
    halves = order[:each], order[each:2 * each]
    splits = [split_in_two(images.part(half), volume, precision, mask, rng, spread) for half in halves]
    odds = [preference(images, split.maps, precision, spread) for split in splits]
    if float(((odds[0] > 0) == (odds[1] > 0)).float().mean()) < 0.5:  # the second half numbers its sides otherwise
        odds[1], splits[1] = -odds[1], splits[1]._replace(maps=splits[1].maps.flip(0))
    unseen = 0.5 * (odds[0] + odds[1])
    unseen[halves[0]], unseen[halves[1]] = odds[1][halves[0]], odds[0][halves[1]]
    evidence = separation(odds[0], odds[1], unseen if strength is None else unseen / strength, images.A)
    return (unseen > 0).cpu().numpy(), 0.5 * (splits[0].maps + splits[1].maps), evidence


def divide(data: Images, root: State, radius: float, mask: Tensor, smallest: int, rng: torch.Generator,
           report: Any = None) -> list[State]:
    """Leaves of the tree of splits under one class; ``report(evidence)`` sees every trial."""
    band = make_band(data.box_px, radius, data.device)
    open_states, leaves = [root], []
    while open_states:
        state, images, precision = settled(data, open_states.pop(), band, mask)
        if len(state.rows) < 2 * smallest:
            leaves.append(state)
            continue
        side, maps, evidence = try_split(images, state.volume, precision, mask, rng, data.strength(state.rows),
                                         data.contrast_spread)
        large = min(int(side.sum()), int((~side).sum())) >= smallest
        kept = large and is_separate(evidence)
        evidence["kept"] = kept
        if report:
            report(evidence)
        if not kept:
            leaves.append(state)
            continue
        for chosen, volume in ((~side, maps[0]), (side, maps[1])):
            child = state.part(chosen)
            child.volume = volume
            open_states.append(child)
    return sorted(leaves, key=lambda leaf: -len(leaf.rows))
