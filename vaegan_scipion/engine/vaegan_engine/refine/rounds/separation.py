"""What makes two states two, and the settling of one state's poses before it is looked into.

Two maps are two states when (numbers: ``SplitTuning``)

* labels by maps from two disjoint halves of the images agree (adjusted mutual information at least ``min_agreement``):
  noise and overfitting do not repeat in images that were not used, and
* the preferences, each image's from the half that did not see it, have a valley between the two sides
  (``density_valley.valley_ratio`` at most ``max_valley``): a continuous family also repeats, without a valley. Where no
  single image can be told apart the valley that all images show together is enough (``min_valley_evidence``), and
* the viewing direction explains at most ``max_by_view`` of the sides (``view_dependence``), or the evidence is plain:
  a map that is cut divides its images by their view.

Which states there may be is read from the landscape of principal maps (``landscape``).
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...contract.records import Separation
from ...physics.fourier_band import Band
from ...reconstruction.least_squares import reconstruction, residual_noise
from ...reconstruction.posed_images import Coefficients, PosedImages
from ...stats.density_valley import valley_ratio
from ...stats.view_dependence import explained_by_view
from ..problem import Problem
from ..states import State
from ..tuning import TUNING, SplitTuning


def settle_poses(problem: Problem, state: State, band: Band) -> tuple[State, PosedImages, Tensor]:
    """Map from poses and poses from map in turn. Returns the state, its images in the band, the precision (p,)."""
    tuning = problem.tuning.split
    images = PosedImages(Coefficients(problem.images, state.rows, band), state.rotations, state.shifts_px)
    map_, precision = state.map, torch.ones_like(band.weight)
    for number in range(tuning.settle_rounds + 1):
        map_ = reconstruction(images, precision, problem.constraint)
        precision = band.weight / residual_noise(images, map_)[band.shell]
        if number < tuning.settle_rounds:
            images, _ = images.refined(map_, precision, tuning.pose_iterations)
    return State(state.rows, images.rotations, images.shifts_px, map_), images, precision


def separation(first: Tensor, second: Tensor, unseen: Tensor, rotations: Tensor, tuning: SplitTuning = TUNING.split
               ) -> Separation:
    """Evidence that two maps are two states; which two, and what all images together say, is left open.

    ``first``, ``second``: every image's preference (n,) by maps from one half of the images and from the other;
    ``unseen``: the preference by the half that did not hold the image (the mean, where neither did), of images of one
    strength: those of faint particles would fill the valley. ``rotations`` (n, 3, 3): theirs, in one frame.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    side = (unseen > 0).cpu().numpy()
    values = unseen.cpu().numpy()[:, None].astype(np.float64)
    bound = np.quantile(np.abs(values), tuning.preference_quantile)
    values = values.clip(-bound, bound)
    two_sides = side.any() and not side.all()
    return Separation(
        states=[], n_particles=len(side), n_second=int(side.sum()),
        agreement=float(adjusted_mutual_info_score((first > 0).cpu().numpy(), (second > 0).cpu().numpy())),
        valley=float(valley_ratio(values[~side], values[side])) if two_sides else 1.0, valley_evidence=0.0,
        by_view=explained_by_view((unseen > 0).float(), rotations),
        median_preference=float(np.median(np.abs(values))))


def is_separate(pair: Separation, tuning: SplitTuning = TUNING.split) -> bool:
    """Whether the numbers speak for two states."""
    agreement, valley = pair.agreement, pair.valley
    adds_up = pair.valley_evidence >= tuning.min_valley_evidence
    if pair.by_view > tuning.max_by_view:  # states in wrong poses are parted by views too, and plainly
        return bool(agreement >= tuning.plain_agreement and valley <= tuning.plain_valley)
    if adds_up:
        return bool(agreement >= tuning.min_agreement_adding)
    return bool(agreement >= tuning.min_agreement and valley <= tuning.max_valley)
