"""Contrast of every particle: how much stronger it is than its state's map (ice thickness, dose, normalisation).

Model of an image at its pose: ``X_i = a_i C_i S_i[V] + n``. The least-squares value of a_i is

    a = sum_k w Re(X* C S[V]) / sum_k w |C S[V]|^2,    variance 1 / sum_k w |C S[V]|^2,

with w = degrees of freedom / noise variance, and V such that the peak of each state's values is 1. What the values
scatter above it more than their variances say is the spread tau of the particles: junk and images in wrong poses, which
match their state's map too little, lie below the peak and say nothing of it. Each value is then drawn to 1 by
``tau^2 / (tau^2 + variance)`` (empirical Bayes: James and Stein, 1961) and kept from 1 - 2 tau, or
``ContrastTuning.min_contrast``, to 1 + 6 tau: an image with nothing in it must not pass for a faint particle, while
strong ones do occur.

Poses and maps that are not right yet scatter these values as well: in the first map of three clean states of the 50S by
0.14. A contrast is common to all shells; what a wrong pose or another state leaves of the match is not, and least of
all at low resolution. So the same is asked of groups of shells alone, and contrasts are only modelled where each
group whose noise is low enough to tell (``ContrastTuning.max_group_noise``) shows them (``common_spread``).

Unmodelled, contrast is what differs most between images of one state: it would be the first principal map, hide the
states behind it and pass for a motion.
"""
from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ...physics.fourier_band import make_band
from ...physics.slices import transform_of
from ...reconstruction.least_squares import project, reconstruction, residual_noise
from ...reconstruction.posed_images import Coefficients, PosedImages, in_chunks
from ...stats.peak_width import peak_and_width
from ..problem import Problem
from ..states import State
from ..tuning import TUNING, ContrastTuning

_ERROR_OF_MEDIANS = 1.64  # times that of a standard deviation: their efficiency is 0.37


@dataclass(frozen=True)
class Fitted:
    """Least-squares contrasts of images, in the whole band and in its groups of shells."""

    value: np.ndarray  # (n,) the peak of each state's density at 1
    variance: np.ndarray  # (n,)
    group_value: np.ndarray  # (n, g) as value
    group_variance: np.ndarray  # (n, g)


def group_edges(max_shell: int, tuning: ContrastTuning = TUNING.contrast) -> list[int]:
    """First shell of each group, and the one after the last; the mean of an image, shell 0, is in none."""
    return [*range(1, max(max_shell, 2), tuning.group_shells), max_shell + 1]


def fit_contrasts(problem: Problem, state: State, max_shell: float) -> Fitted:
    """Least-squares contrasts of a state's images."""
    band = make_band(problem.box_px, max_shell, problem.device)
    images = PosedImages(Coefficients(problem.images, state.rows, band), state.rotations, state.shifts_px)
    map_ = reconstruction(images, torch.ones_like(band.weight), problem.constraint)
    precision = band.weight / residual_noise(images, map_)[band.shell]
    map_ft = transform_of(map_, band)
    edges = torch.tensor(group_edges(int(band.shell.max()), problem.tuning.contrast), device=problem.device)
    group = torch.bucketize(band.shell, edges, right=True)  # 0: the mean

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        made = project(own, map_ft)
        products = precision * (own.moved.conj() * made).real, precision * made.abs().square()
        return torch.stack([each.new_zeros(len(each), len(edges)).index_add_(1, group, each) for each in products])

    product, power = torch.cat(in_chunks(part, len(state.rows)), 1).double().cpu().numpy()
    value, variance = _at_one(product.sum(1), power.sum(1))
    groups = [_at_one(product[:, k], power[:, k]) for k in range(1, len(edges))]
    return Fitted(value, variance, *(np.stack(column, 1) for column in zip(*groups, strict=True)))


def _at_one(product: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contrasts ``(n,)``, the peak of their density at 1, and their variances."""
    value = product / np.maximum(power, np.finfo(np.float64).tiny)
    peak, _ = peak_and_width(value)
    if peak <= 0:  # nothing of the map is in them
        peak = max(float(np.median(np.abs(value))), np.finfo(np.float64).tiny)
    return value / peak, 1 / (np.maximum(power, np.finfo(np.float64).tiny) * peak ** 2)


def spread_of(value: np.ndarray, variance: np.ndarray) -> float:
    """What the particles' own contrasts scatter, beside their noise."""
    _, width = peak_and_width(value)
    return float(np.sqrt(max(width ** 2 - np.median(variance), 0.0)))


def common_spread(fitted: Fitted, tuning: ContrastTuning = TUNING.contrast) -> float:
    """The most that all contrasts can scatter together, as some group of shells says; infinite where none can tell.

    Of each group two standard errors above what it shows: a squared width from medians of n values has an error of
    ``_ERROR_OF_MEDIANS sqrt(2 / n)`` of it.
    """
    most = [np.inf]
    for value, variance in zip(fitted.group_value.T, fitted.group_variance.T, strict=True):
        if np.median(variance) <= tuning.max_group_noise ** 2:
            _, width = peak_and_width(value)
            error = _ERROR_OF_MEDIANS * width ** 2 * (2 / len(value)) ** 0.5
            most.append(float(np.sqrt(spread_of(value, variance) ** 2 + 2 * error)))
    return min(most)


def shrink(value: np.ndarray, variance: np.ndarray, tuning: ContrastTuning = TUNING.contrast
           ) -> tuple[np.ndarray, float]:
    """Contrasts ``(n,)`` drawn to 1 by what is known of each, and the spread of the particles' own."""
    spread = spread_of(value, variance)
    drawn = 1 + (value - 1) * spread ** 2 / (spread ** 2 + variance)
    return drawn.clip(max(1 - tuning.spreads_below * spread, tuning.min_contrast),
                      1 + tuning.spreads_above * spread), spread


def measure_contrasts(problem: Problem, states: list[State], max_shell: float) -> tuple[np.ndarray, float]:
    """Contrast of every image ``(n,)``, and the spread; all 1 below ``ContrastTuning.min_spread``.

    Images of no state keep the contrast they had, or 1.
    """
    known, tuning = problem.images.contrast, problem.tuning.contrast
    contrast = np.ones(len(problem), np.float32) if known is None else known.copy()
    plain = problem.with_contrast(None, problem.images.contrast_spread)
    rows = np.concatenate([state.rows for state in states])
    fitted = [fit_contrasts(plain, state, max_shell) for state in states]
    whole = Fitted(*(np.concatenate([getattr(one, name.name) for one in fitted]) for name in fields(Fitted)))
    drawn, spread = shrink(whole.value, whole.variance, tuning)
    least = min(spread, common_spread(whole, tuning))
    if least < tuning.min_spread:
        return np.ones(len(problem), np.float32), least
    contrast[rows] = drawn
    return contrast, spread
