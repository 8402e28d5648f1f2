"""What an image with nothing in it gains by a pose search: the limit below which an image counts as empty.

Noise finds a pose that it fits by chance; how well depends on the maps, the band, the CTFs, the grid. So images of
nothing but noise, of the spectrum that the particles' noise has, are searched and refined in the states' maps as the
particles are. Above what nearly all of them gain something is seen.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...physics.fourier_band import Band
from ...reconstruction.images import Images, spread_rows
from ..assignment import misfit_and_gain
from ..problem import Problem
from ..states import Assignment
from .second_search import search_again


def noise_images(images: Images, noise: torch.Tensor, n: int, seed: int) -> Images:
    """``n`` images of noise of variance ``noise`` (d//2 + 1,) per coefficient and shell, with CTFs of the particles."""
    d, rows = images.box_px, spread_rows(len(images), n)
    white = torch.randn(len(rows), d, d, generator=torch.Generator().manual_seed(seed))
    k = (torch.fft.fftfreq(d, 1 / d)[:, None].square() + torch.fft.rfftfreq(d, 1 / d).square()).sqrt()
    shell = k.round().long().clamp_max(len(noise) - 1)
    made = torch.fft.irfft2(torch.fft.rfft2(white) * (noise.cpu()[shell].sqrt() / d), s=(d, d))
    return replace(images, images=made.numpy(), ctf=np.asarray(images.ctf[rows]), contrast=None, stored=None)


def gains_of_noise(problem: Problem, assignment: Assignment, band: Band) -> np.ndarray:
    """``assignment.misfit_and_gain`` of images of noise ``(n,)`` after a search in all states' maps."""
    images = noise_images(problem.images, assignment.noise, problem.tuning.junk.n_noise_images, problem.seed)
    n, n_states = len(images), assignment.n_states
    rotations = torch.eye(3, device=problem.device).repeat(n, n_states, 1, 1)
    at = spread_rows(len(problem), n)
    noise = replace(problem, images=images, half_set=problem.half_set[at], poses=None, twin_id=None)
    sizes = np.resize(np.repeat(np.arange(n_states), np.ceil(n * assignment.sizes() / assignment.sizes().sum()
                                                             ).astype(int)), n)
    begun = Assignment(sizes, np.zeros((n, n_states), np.float32), rotations, torch.zeros(n, n_states, 2).to(rotations),
                       assignment.maps, assignment.noise, np.zeros(n, bool))
    _, gain = misfit_and_gain(images, search_again(noise, begun, np.arange(n), band), band)
    return gain


def least_gain(problem: Problem, assignment: Assignment, gain: np.ndarray, band: Band) -> float:
    """Below it an image is empty; ``gain`` (n,) of the particles.

    ``JunkTuning.noise_percentile`` of the gains of noise, where a typical particle gains ``plain_gain`` times it; else
    ``min_gain``: particles as faint as noise must not be thrown away for it.
    """
    tuning = problem.tuning.junk
    of_noise = float(np.percentile(gains_of_noise(problem, assignment, band), tuning.noise_percentile))
    is_plain = typical_gain(gain[~assignment.aside], of_noise, problem.min_state) > tuning.plain_gain * of_noise
    return max(of_noise, tuning.min_gain) if is_plain else tuning.min_gain


def typical_gain(gain: np.ndarray, of_noise: float, least: int) -> float:
    """Median of gains ``(n,)``; where half of the images gain no more than noise does, that of the others.

    Half of the images may hold nothing. The others are ``least`` at least, or they are noise's own stragglers. Of
    particles all as faint as noise they gain little more than ``of_noise``, too.
    """
    middle, above = float(np.median(gain)), gain[gain > of_noise]
    return float(np.median(above)) if middle <= of_noise and len(above) >= least else middle
