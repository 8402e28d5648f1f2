"""Contrast of every particle: how much stronger it is than its state's map (ice thickness, dose, normalisation).

Model of an image at its pose: ``X_i = a_i C_i S_i[V] + n``. The least-squares value of a_i is

    a = sum_k w Re(X* C S[V]) / sum_k w |C S[V]|^2,    variance 1 / sum_k w |C S[V]|^2,

with w = degrees of freedom / noise variance, and V such that the median of each state is 1. What the values scatter
more than their variances say is the spread tau of the particles. Each value is then drawn to 1 by
``tau^2 / (tau^2 + variance)`` (empirical Bayes: James and Stein, 1961) and kept from 1 - 2 tau, or
``LEAST_CONTRAST``, to 1 + 6 tau: an image with nothing in it must not pass for a faint particle, while strong ones do
occur.

Unmodelled, contrast is what differs most between images of one state: it would be the first principal volume, hide the
states behind it and pass for a motion.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import make_band
from ..reconstruction.images import Images
from ..reconstruction.least_squares import project, reconstruction, residual_noise
from ..reconstruction.posed_images import Coefficients, PosedImages
from .states import State

LEAST_SPREAD = 0.08  # below it all contrasts are 1
LEAST_CONTRAST = 0.1
_LOWEST, _HIGHEST = 2.0, 6.0  # spreads below and above 1
_MAD = 1.4826  # median absolute deviation to standard deviation of a normal distribution


def fitted(data: Images, state: State, radius: float, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares contrasts ``(n,)`` of a state's images, their median 1, and their variances."""
    band = make_band(data.box_px, radius, data.device)
    images = PosedImages(Coefficients(data, state.rows, band), state.A, state.shifts_px)
    volume = reconstruction(images, torch.ones_like(band.weight), mask)
    precision = band.weight / residual_noise(images, volume)[band.shell]
    parts = []
    for part in images.chunks():
        made = project(part, volume)
        parts.append(torch.stack(((precision * (part.moved.conj() * made).real).sum(1),
                                  (precision * made.abs().square()).sum(1))))
    product, power = torch.cat(parts, 1).double().cpu().numpy()
    value = product / power
    middle = np.median(value)
    return value / middle, 1 / (power * middle ** 2)


def shrunk(value: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, float]:
    """Contrasts ``(n,)`` drawn to 1 by what is known of each, and the spread of the particles' own."""
    scatter = (_MAD * np.median(np.abs(value - 1))) ** 2
    spread = float(np.sqrt(max(scatter - np.median(variance), 0.0)))
    drawn = 1 + (value - 1) * spread ** 2 / (spread ** 2 + variance)
    return drawn.clip(max(1 - _LOWEST * spread, LEAST_CONTRAST), 1 + _HIGHEST * spread), spread


def measured(data: Images, states: list[State], radius: float, mask: Tensor) -> tuple[np.ndarray, float]:
    """Contrast of every image ``(n,)``, and the spread; all 1 below ``LEAST_SPREAD``.

    Images of no state keep the contrast they had, or 1.
    """
    contrast = np.ones(len(data), np.float32) if data.contrast is None else data.contrast.copy()
    data = replace(data, contrast=None)
    rows = np.concatenate([state.rows for state in states])
    value, variance = (np.concatenate(column) for column in zip(
        *(fitted(data, state, radius, mask) for state in states), strict=True))
    drawn, spread = shrunk(value, variance)
    if spread < LEAST_SPREAD:
        return np.ones(len(data), np.float32), spread
    contrast[rows] = drawn
    return contrast, spread
