"""How many states are in a state: it is split in two as long as two halves of the images agree on the split.

A state with known poses is split by ``two_maps.split_in_two`` twice, from two disjoint halves of its
images. Each result labels *all* images. A split is kept when (numbers: ``SplitTuning``)

* both labellings agree (adjusted mutual information at least ``min_agreement``): noise and overfitting do
  not repeat in images that were not used, and
* the preferences, each image's from the half that did not see it, have a valley between the two sides
  (``density_valley.valley_ratio`` at most ``max_valley``): a continuous family also repeats, without a valley, and
* the viewing direction explains at most ``max_by_view`` of the sides (``view_dependence``), or the evidence is plain:
  a map that is cut divides its images by their view, and
* both sides hold at least ``min_state`` images.

The children are tried again. Every trial is recorded, kept or not.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, make_band
from ..reconstruction.least_squares import reconstruction, residual_noise
from ..reconstruction.posed_images import Coefficients, Posed, PosedImages
from ..stats.density_valley import valley_ratio
from ..stats.view_dependence import explained_by_view
from .problem import Problem
from .states import State
from .tuning import TUNING, SplitTuning
from .two_maps import MapModel, preference, split_in_two


def settle_poses(problem: Problem, state: State, band: Band) -> tuple[State, PosedImages, Tensor]:
    """Map from poses and poses from map in turn. Returns the state, its images in the band, the precision (p,)."""
    tuning = problem.tuning.split
    images = PosedImages(Coefficients(problem.images, state.rows, band), state.A, state.shifts_px)
    map_, precision = state.volume, torch.ones_like(band.weight)
    for number in range(tuning.settle_rounds + 1):
        map_ = reconstruction(images, precision, problem.mask)
        precision = band.weight / residual_noise(images, map_)[band.shell]
        if number < tuning.settle_rounds:
            images, _ = images.refined(map_, precision, tuning.pose_iterations)
    return State(state.rows, images.A, images.shifts_px, map_), images, precision


def separation(first: Tensor, second: Tensor, unseen: Tensor, A: Tensor, tuning: SplitTuning = TUNING.split
               ) -> dict[str, Any]:
    """Evidence that two maps are two states.

    ``first``, ``second``: every image's preference (n,) by maps from one half of the images and from the other;
    ``unseen``: the preference by the half that did not hold the image (the mean, where neither did), of images of one
    strength: those of faint particles would fill the valley. ``A`` (n, 3, 3): their rotations, in one frame.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    side = (unseen > 0).cpu().numpy()
    values = unseen.cpu().numpy()[:, None].astype(np.float64)
    bound = np.quantile(np.abs(values), tuning.preference_quantile)
    values = values.clip(-bound, bound)
    two_sides = side.any() and not side.all()
    return {
        "n_particles": len(side), "n_second": int(side.sum()),
        "agreement": float(adjusted_mutual_info_score((first > 0).cpu().numpy(), (second > 0).cpu().numpy())),
        "valley": valley_ratio(values[~side], values[side]) if two_sides else 1.0,
        "by_view": explained_by_view((unseen > 0).float(), A),
        "median_preference": float(np.median(np.abs(values))),
    }


def is_separate(evidence: dict[str, Any], tuning: SplitTuning = TUNING.split) -> bool:
    """Whether the evidence of ``separation`` speaks for two states."""
    agreement, valley = evidence["agreement"], evidence["valley"]
    adds_up = evidence.get("valley_evidence", 0.0) >= tuning.min_valley_evidence
    if evidence["by_view"] > tuning.max_by_view:  # states in wrong poses are parted by views too, and plainly
        return bool(agreement >= tuning.plain_agreement and valley <= tuning.plain_valley)
    if adds_up:
        return bool(agreement >= tuning.min_agreement_adding)
    return bool(agreement >= tuning.min_agreement and valley <= tuning.max_valley)


def try_split(images: Posed | PosedImages, model: MapModel, rng: torch.Generator, strength: Tensor | None = None
              ) -> tuple[np.ndarray, Tensor, dict[str, Any]]:
    """Side of each image (bool), the two maps ``(2, d, d, d)``, and the evidence.

    ``strength`` (n,), where images differ in contrast: what their preferences are proportional to.
    """
    n, tuning = len(images.A), model.tuning.split
    order = torch.randperm(n, generator=rng).to(images.A.device)
    n_half = min(n // 2, tuning.max_images // 2)
    halves = order[:n_half], order[n_half:2 * n_half]
    splits = [split_in_two(images.part(half), model, rng) for half in halves]
    odds = [preference(images, split.maps, model) for split in splits]
    if float(((odds[0] > 0) == (odds[1] > 0)).float().mean()) < 0.5:  # the second half numbers its sides otherwise
        odds[1], splits[1] = -odds[1], splits[1]._replace(maps=splits[1].maps.flip(0))
    unseen = 0.5 * (odds[0] + odds[1])
    unseen[halves[0]], unseen[halves[1]] = odds[1][halves[0]], odds[0][halves[1]]
    evidence = separation(odds[0], odds[1], unseen if strength is None else unseen / strength, images.A, tuning)
    return (unseen > 0).cpu().numpy(), 0.5 * (splits[0].maps + splits[1].maps), evidence


def split_state(problem: Problem, root: State, max_shell: float, rng: torch.Generator,
                report: Callable[[dict[str, Any]], None] | None = None) -> list[State]:
    """Leaves of the tree of splits under one state; ``report(evidence)`` sees every trial."""
    band = make_band(problem.box_px, max_shell, problem.device)
    open_states, leaves = [root], []
    while open_states:
        state, images, precision = settle_poses(problem, open_states.pop(), band)
        if len(state.rows) < 2 * problem.min_state:
            leaves.append(state)
            continue
        model = MapModel(state.volume, precision, problem.mask, problem.images.contrast_spread, problem.tuning)
        side, maps, evidence = try_split(images, model, rng, problem.images.strength(state.rows))
        large = min(int(side.sum()), int((~side).sum())) >= problem.min_state
        evidence["kept"] = large and is_separate(evidence, problem.tuning.split)
        if report:
            report(evidence)
        if evidence["kept"]:
            open_states += [replace(state.part(chosen), volume=map_)
                            for chosen, map_ in ((~side, maps[0]), (side, maps[1]))]
        else:
            leaves.append(state)
    return sorted(leaves, key=lambda leaf: -len(leaf.rows))
