"""Images and classes that are no particles: nothing that others share, off centre, more than one.

Every image is compared with the average of its class of the *other* half set, at the pose that its own half gave: what
was fitted to its noise does not help there.

* gain: log likelihood ratio against an empty image. A class whose typical image has less than
  ``min_gain`` is not reproduced: noise, or too few images.
* misfit: ``|X - a C A|^2`` over its median, mean of the first shells. What is in an image and not in its class, as a
  second particle beside the first, raises it. The limit is the median and ``misfit_widths`` widths of its lower side.
* a class whose average stays off centre, further than particles may lie, is off centre: pieces at the image's edge.
* a class whose halves agree on nothing finer than a third of the particle has no features.

A class of which more than half is junk is junk, and so are images that were left without a class.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .near import Near, near_step
from .problem import PlaneProblem
from .rounds import Classified, half_frc, last_shells
from .settle import centres_px

_LOWER_PERCENT = 15.87  # of a normal distribution lies more than one standard deviation below its middle
_MIN_FEATURES = 3.0  # periods across the particle


@dataclass(frozen=True)
class Judged:
    """What is junk."""

    image: np.ndarray  # (n,) bool
    reason: list[str]  # of each class; empty = a class of particles
    gain: np.ndarray  # (n,)
    misfit: np.ndarray  # (n,) 1 = typical
    misfit_limit: float


def other_half(problem: PlaneProblem, state: Classified) -> tuple[np.ndarray, np.ndarray]:
    """Gain ``(n,)`` and misfit ``(n, n_shells)`` of every image with the other half's average of its class."""
    swapped = replace(state.model, sums=state.model.sums[::-1].copy())
    only = replace(state.candidates, class_of=state.candidates.class_of[:, :1].clip(0),
                   pose=state.candidates.pose[:, :1], log_evidence=state.candidates.log_evidence[:, :1])
    here = Near(np.zeros(1), np.zeros((1, 2)), state.model.radius)
    in_other_half, _ = near_step(problem, swapped, only, here)
    return in_other_half.log_evidence[:, 0], in_other_half.misfit


def judge(problem: PlaneProblem, state: Classified) -> Judged:
    """Junk among images and classes."""
    tuning, best = problem.tuning, state.candidates.best
    gain, misfit_of_shell = other_half(problem, state)
    shells = slice(1, round(problem.shells(tuning.check_shells)) + 1)
    misfit = (misfit_of_shell[:, shells] / np.maximum(np.median(misfit_of_shell[:, shells], axis=0), 1e-30)).mean(1)
    centre = np.hypot(*centres_px(state.model.averages(problem.mask)).T)
    last = last_shells(half_frc(problem, state.model))
    n_classes = state.model.n_classes
    typical_gain = np.array([np.median(gain[best == k]) for k in range(n_classes)])
    diameter = 2 * problem.particle_radius_frac
    reasons = []
    for k in range(n_classes):
        reasons.append("not reproduced" if typical_gain[k] < tuning.min_gain else
                       "off centre" if centre[k] > problem.max_centre_px else
                       "no features" if last[k] * diameter < _MIN_FEATURES else "")
    plain = (best >= 0) & np.array([*(not reason for reason in reasons), False])[best]
    limit = misfit_limit(misfit[plain], tuning.misfit_widths) if plain.any() else np.inf
    unlike = misfit > limit
    for k, reason in enumerate(reasons):
        if not reason and unlike[best == k].mean() > tuning.max_junk_frac:
            reasons[k] = "mixed"
    junk_class = np.array([*map(bool, reasons), True])
    return Judged(unlike | junk_class[best], reasons, gain, misfit, float(limit))


def misfit_limit(misfit: np.ndarray, widths: float) -> float:
    """Above it an image is junk: the median and some widths of the lower side, where no junk is."""
    low, middle = np.percentile(misfit, (_LOWER_PERCENT, 50))
    return float(middle + widths * (middle - low))
