"""Before there are classes: spectra of noise and signal, and averages of single images to start from.

Noise variance of a shell: the power of the images outside of the particle's circle, per area. What the images have
above it, over the mean squared CTF, is the signal variance. A class starts from one image, which the signal variance
draws far down: its templates are weak, and the first steps have soft classes.
"""
from __future__ import annotations

import numpy as np
import torch

from ..physics.fourier_band import image_transforms, make_band
from ..reconstruction.images import spread_rows
from .plane_kernels import sum_shifted, turn_back
from .planes import PlaneGrid, disc_mask
from .problem import Model, PlaneProblem, as_pairs, weighted

_SAMPLE_IMAGES = 1000
_MIN_SIGNAL_FRAC = 0.02  # of the images' power
_MIN_CTF2 = 0.05


def spectra(problem: PlaneProblem) -> tuple[np.ndarray, np.ndarray]:
    """Noise and signal variance ``(n_shells,)`` of a coefficient, of the first look at the images."""
    d, images = problem.box_px, problem.images
    band, rows = make_band(d, d / 2), spread_rows(len(problem), _SAMPLE_IMAGES)
    shell, weight = band.shell.numpy(), band.weight.numpy()
    counts = np.maximum(np.bincount(shell, weight, minlength=d // 2 + 1), 1)

    def means(values: torch.Tensor) -> np.ndarray:
        mean_of_shell = np.bincount(shell, weight * values.double().mean(0).numpy(), minlength=d // 2 + 1) / counts
        mean_of_shell[-1] = mean_of_shell[-2]  # the corner shell has too few points inside the Nyquist circle
        return np.asarray(mean_of_shell)

    transforms, ctf = images.coefficients(rows, band)
    power = means(transforms.abs().square())
    outside = 1 - disc_mask(d, problem.particle_radius_frac * d, 1.0)
    background = np.asarray(images.images[rows], np.float32) * outside
    noise = means(image_transforms(torch.from_numpy(background), band).abs().square()) / (outside ** 2).mean()
    noise = np.clip(noise, 1e-3 * power.max() * problem.tuning.noise_floor, power)
    noise[0] = noise[1]
    signal = np.maximum(power - noise, _MIN_SIGNAL_FRAC * power) / np.maximum(means(ctf.square()), _MIN_CTF2)
    return noise, signal


def first_model(problem: PlaneProblem, rng: np.random.Generator) -> Model:
    """Classes of one image each."""
    noise, signal = spectra(problem)
    n = problem.n_classes
    rows = np.sort(rng.choice(len(problem), n, replace=n > len(problem)))
    grid, band = PlaneGrid(problem.box_px, problem.search_radius), make_band(problem.box_px, problem.search_radius)
    some, place = weighted(problem.images, rows, band, noise), np.arange(n)
    turned = np.zeros((n, 3, len(band.index)), np.float32)
    half = np.full(n, 0.5)
    sum_shifted(as_pairs(some.product)[:, None], some.power, place, np.zeros(n, np.int64), place, half, half, turned)
    sums = grid.empty_sums(n)
    turn_back(turned[:, None], grid.points(band), np.zeros(1), sums)
    return Model(np.stack((sums, sums)), noise, signal, problem.box_px, grid.radius)
