"""Images and classes that are no particles: nothing that others share, off centre, more than one.

Every image is compared with the average of its class of the *other* half set, at the pose that its own half gave: what
was fitted to its noise does not help there.

* gain: log likelihood ratio against an empty image. A class whose typical image has less than
  ``min_gain`` is not reproduced: noise, or too few images. In a class of particles an image of less is empty, where
  that is also less than a part of what its class's typical image has.
* misfit: ``|X - a C A|^2`` over what a particle of that CTF and contrast leaves over (``unlike``).
* another particle beside the first, nearly as strong (``beside``).
* a class whose average stays off centre, further than particles may lie, is off centre: pieces at the image's edge.
* a class whose halves agree on nothing finer than a third of the particle has no features.

A class of which more than half is junk is junk, and so are images that were left without a class.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .beside import Beside, look_beside
from .near import Candidates, Near, near_step
from .problem import Model, PlaneProblem
from .rounds import Classified, half_frc, last_shells
from .settle import centres_px
from .unlike import compared

_MIN_FEATURES = 3.0  # periods across the particle
_SURE_FRC = 0.5


@dataclass(frozen=True)
class Judged:
    """What is junk."""

    image: np.ndarray  # (n,) bool
    reason: list[str]  # of each class; empty = a class of particles
    own_reason: np.ndarray  # (n,) str, of each image by itself; empty = a particle
    gain: np.ndarray  # (n,)
    misfit: np.ndarray  # (n,) 1 = typical
    misfit_limit: float


def other_half(problem: PlaneProblem, state: Classified) -> tuple[Model, Candidates]:
    """The averages of the other half sets, and the images with the one of their class."""
    swapped = replace(state.model, sums=state.model.sums[::-1].copy())
    only = replace(state.candidates, class_of=state.candidates.class_of[:, :1].clip(0),
                   pose=state.candidates.pose[:, :1], log_evidence=state.candidates.log_evidence[:, :1])
    return swapped, near_step(problem, swapped, only, Near(np.zeros(1), np.zeros((1, 2)), state.model.radius))[0]


def judge(problem: PlaneProblem, state: Classified) -> Judged:
    """Junk among images and classes."""
    tuning, best = problem.tuning, state.candidates.best
    swapped, compared_with = other_half(problem, state)
    gain = compared_with.log_evidence[:, 0]
    typical_gain, typical_contrast = (typical(values, best, state.model.n_classes)
                                      for values in (gain, compared_with.contrast))
    reasons = class_reasons(problem, state, typical_gain)
    plain = (best >= 0) & np.array([*(not reason for reason in reasons), False])[best]
    misfit, limit, own_reason = np.ones(len(best)), np.inf, np.full(len(best), "", "<U15")
    if plain.any():
        sizes = np.bincount(best[plain], minlength=state.model.n_classes)
        beside = look_beside(problem, swapped, compared_with, sizes)
        shells = slice(1, round(problem.shells(tuning.check_shells)) + 1)
        relative = compared_with.contrast / np.maximum(typical_contrast[best], 1e-6)
        misfit, limit = compared(compared_with.misfit[:, shells], beside.power[:, shells], relative, plain,
                                 tuning.misfit_widths)
        own_reason[misfit > limit] = "unlike"
        own_reason[second_particle(problem, beside, compared_with)] = "second particle"
        own_reason[gain < np.minimum(tuning.min_gain, tuning.empty_frac * typical_gain[best])] = "empty"
    wrong = own_reason != ""
    for k, reason in enumerate(reasons):
        if not reason and wrong[best == k].mean() > tuning.max_junk_frac:
            reasons[k] = "mixed"
    junk_class = np.array([*map(bool, reasons), True])
    return Judged(wrong | junk_class[best], reasons, own_reason, gain, misfit, float(limit))


def typical(values: np.ndarray, class_of: np.ndarray, n_classes: int) -> np.ndarray:
    """Medians ``(c + 1,)`` of the images of each class, and of the images in none."""
    return np.array([np.median(values[class_of == k]) if (class_of == k).any() else 0.0
                     for k in (*range(n_classes), -1)])


def class_reasons(problem: PlaneProblem, state: Classified, typical_gain: np.ndarray) -> list[str]:
    """Why each class is junk by its average; "" of the others."""
    centre = np.hypot(*centres_px(state.model.averages(problem.mask)).T)
    last = feature_shells(half_frc(problem, state.model))
    diameter = 2 * problem.particle_radius_frac
    return ["not reproduced" if typical_gain[k] < problem.tuning.min_gain else
            "off centre" if centre[k] > problem.max_centre_px else
            "no features" if last[k] * diameter < _MIN_FEATURES else "" for k in range(state.model.n_classes)]


def feature_shells(frc: np.ndarray) -> np.ndarray:
    """Last shell ``(c,)`` with features of the FRC ``(c, n_shells)`` of classes.

    ``last_shells``, but a single shell is passed over where both halves surely agree in the two beyond it: an average
    may have no power there.
    """
    passed = frc.copy()
    for k in range(1, frc.shape[1] - 2):
        sure = (frc[:, k + 1:k + 3] > _SURE_FRC).all(1)
        passed[sure, k] = np.maximum(passed[sure, k], _SURE_FRC)
    return last_shells(passed)


def second_particle(problem: PlaneProblem, beside: Beside, images: Candidates) -> np.ndarray:
    """Whether ``(n,)`` images surely have another particle beside theirs, nearly as strong."""
    tuning = problem.tuning
    return (beside.contrast > tuning.second_frac * images.contrast) & (beside.gain > tuning.min_second_gain)
