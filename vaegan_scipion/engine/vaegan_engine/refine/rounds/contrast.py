"""Contrast of every particle: how much stronger it is than its state's map (ice thickness, dose, normalisation).

Model of an image at its pose: ``X_i = a_i C_i S_i[V] + n``. The least-squares value of a_i is

    a = sum_k w Re(X* C S[V]) / sum_k w |C S[V]|^2,    variance 1 / sum_k w |C S[V]|^2,

with w = degrees of freedom / noise variance, and V such that the peak of each state's values is 1. What the values
scatter above it more than their variances say is the spread tau of the particles: junk and images in wrong poses, which
match their state's map too little, lie below the peak and say nothing of it. Each value is then drawn to 1 by
``tau^2 / (tau^2 + variance)`` (empirical Bayes: James and Stein, 1961) and kept from 1 - 2 tau, or
``ContrastTuning.min_contrast``, to 1 + 6 tau: an image with nothing in it must not pass for a faint particle, while
strong ones do occur.

Unmodelled, contrast is what differs most between images of one state: it would be the first principal map, hide the
states behind it and pass for a motion.
"""
from __future__ import annotations

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


def fit_contrasts(problem: Problem, state: State, max_shell: float) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares contrasts ``(n,)`` of a state's images, the peak of their density at 1, and their variances."""
    band = make_band(problem.box_px, max_shell, problem.device)
    images = PosedImages(Coefficients(problem.images, state.rows, band), state.rotations, state.shifts_px)
    map_ = reconstruction(images, torch.ones_like(band.weight), problem.constraint)
    precision = band.weight / residual_noise(images, map_)[band.shell]
    map_ft = transform_of(map_, band)

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        made = project(own, map_ft)
        return torch.stack(((precision * (own.moved.conj() * made).real).sum(1),
                            (precision * made.abs().square()).sum(1)))

    product, power = torch.cat(in_chunks(part, len(state.rows)), 1).double().cpu().numpy()
    value = product / power
    peak, _ = peak_and_width(value)
    if peak <= 0:  # nothing of the map is in them
        peak = float(np.median(np.abs(value)))
    return value / peak, 1 / (power * peak ** 2)


def shrink(value: np.ndarray, variance: np.ndarray, tuning: ContrastTuning = TUNING.contrast
           ) -> tuple[np.ndarray, float]:
    """Contrasts ``(n,)`` drawn to 1 by what is known of each, and the spread of the particles' own."""
    _, width = peak_and_width(value)
    spread = float(np.sqrt(max(width ** 2 - np.median(variance), 0.0)))
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
    value, variance = (np.concatenate(column) for column in zip(
        *(fit_contrasts(plain, state, max_shell) for state in states), strict=True))
    drawn, spread = shrink(value, variance, tuning)
    if spread < tuning.min_spread:
        return np.ones(len(problem), np.float32), spread
    contrast[rows] = drawn
    return contrast, spread
