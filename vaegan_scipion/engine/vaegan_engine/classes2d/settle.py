"""What is done to classes between searches: noise measured, averages centred, small ones dissolved, equal ones joined.

Two classes are one where their averages, one turned and moved onto the other, are no further apart than what single
images can be told by:

    distance^2 = Re sum_k w <C^2> (A_1 - T A_2)^1* (A_1 - T A_2)^2,

the superscripts being the half sets, so that noise of the averages adds nothing on average. At distance e a likelihood
ratio between both has standard deviation e about a mean of e^2 / 2; noise sorted into two equal classes makes 1.6.
"""
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..physics.fourier_band import make_band
from ..reconstruction.images import spread_rows
from .near import Candidates, near_grid
from .near_kernels import nearest_poses
from .plane_kernels import turned_values
from .planes import PlaneGrid
from .problem import Model, PlaneProblem, as_pairs, weighted
from .search import Found, search_steps, templates_of

_FINER_LEVELS = 4  # of halved steps between the points of the grid
_NOISE_MOVES = 0.5  # of the way to what was measured last


def with_noise(problem: PlaneProblem, model: Model, result: Found | Candidates, radius: float) -> Model:
    """The model with the noise that the images have about their templates, within a band."""
    band = make_band(problem.box_px, radius)
    counts = np.bincount(band.shell.numpy(), band.weight.numpy(), minlength=problem.box_px // 2 + 1)
    seen = counts > 0
    seen[int(radius):] = False  # shells that are whole
    noise = model.noise.copy()
    measured = result.misfit.mean(0, dtype=np.float64)[seen] / counts[seen]
    noise[seen] += _NOISE_MOVES * (measured - noise[seen])
    return replace(model, noise=noise)


def with_signal(problem: PlaneProblem, model: Model, share: np.ndarray) -> Model:
    """The model with the signal variance that the averages of both half sets share, weighted by ``share`` (c,)."""
    grid = model.grid
    numerator, power = grid.split(model.sums)
    least = 1e-3 * max(float(power.max()), 1e-12)
    first, second = numerator / np.maximum(power, least)
    common = np.einsum("c,cyx->yx", share / share.sum(), (first * second.conj()).real)
    measured = grid.shell_means(common)
    signal = model.signal.copy()
    seen = np.arange(len(signal)) < int(grid.radius)
    signal[seen] = np.maximum(measured[seen], 1e-3 * model.signal[seen])
    return replace(model, signal=signal)


def shares(result: Found) -> np.ndarray:
    """Part ``(c,)`` of the images in each class, by their posteriors."""
    weight = np.exp(result.of_class - result.of_class.max(1, keepdims=True), dtype=np.float64)
    return np.asarray((weight / weight.sum(1, keepdims=True)).mean(0))


def with_copies(problem: PlaneProblem, model: Model, share: np.ndarray, rng: np.random.Generator) -> Model:
    """The model with its weakest classes given to the largest ones, each of which then has a copy.

    A class is weak below ``weak_share`` of a fair share, and large above ``large_share`` of one. A copy differs from
    its class by a draw from the posterior of an average, ``N(A, 1 / D)``; where the images of the class differ, both
    part.
    """
    fair, tuning = 1 / model.n_classes, problem.tuning
    weak = [k for k in np.argsort(share, kind="stable") if share[k] < tuning.weak_share * fair]
    large = [k for k in np.argsort(-share, kind="stable") if share[k] > tuning.large_share * fair]
    sums = model.sums.copy()
    for new, old in zip(weak, large, strict=False):
        power = np.maximum(sums[:, old, :, :, 2].sum(0), 0)
        draw = np.sqrt(power)[..., None] * rng.standard_normal((*power.shape, 2)) / 2
        sums[:, new] = sums[:, old] / 2
        sums[:, old] /= 2
        sums[:, new, :, :, :2] += draw
    return replace(model, sums=sums.astype(np.float32))


def centres_px(averages: np.ndarray) -> np.ndarray:
    """Centres of mass ``(c, 2)``, x and y from ``d // 2``, of what stands out in averages ``(c, d, d)``."""
    d = averages.shape[-1]
    axis = np.arange(d) - d // 2
    high = np.maximum(averages - 0.25 * averages.max((1, 2), keepdims=True), 0).astype(np.float64)
    total = np.maximum(high.sum((1, 2)), 1e-12)
    return np.stack((high.sum(1) @ axis / total, high.sum(2) @ axis / total), 1)


def moved_sums(grid: PlaneGrid, sums: np.ndarray, shifts_px: np.ndarray) -> np.ndarray:
    """Sums ``(2, c, g, g, 3)`` with what is at ``shifts_px`` (c, 2) brought to the centre."""
    k = grid.step * np.arange(-grid.middle, grid.middle + 1)
    angle = shifts_px[:, 0, None, None] * k + shifts_px[:, 1, None, None] * k[:, None]
    moved = (sums[..., 0] + 1j * sums[..., 1]) * np.exp(1j * angle)
    return np.stack((moved.real, moved.imag, sums[..., 2]), -1).astype(np.float32)


def centred(problem: PlaneProblem, model: Model) -> tuple[Model, np.ndarray]:
    """The model with its averages centred, and the shifts ``(c, 2)`` px by which they were moved.

    An average further off centre than particles may be is left: its images cannot follow.
    """
    centre = centres_px(model.averages(problem.mask))
    centre[np.hypot(*centre.T) > problem.max_centre_px] = 0
    return replace(model, sums=moved_sums(model.grid, model.sums, centre)), centre


def squared_distances(problem: PlaneProblem, model: Model, radius: float) -> np.ndarray:
    """``(c, c)`` of the module's equation, in a band; 0 on the diagonal.

    The pose that lays one average on another is searched on the grid of the images' search, then between its points:
    at high signal half a step would pass for a difference.
    """
    templates = templates_of(problem, model, radius)
    band, grid, c = templates.band, model.grid, model.n_classes
    weight, points = mean_power(problem, model, radius), grid.points(band)
    planes = grid.transforms(model.averages(problem.mask))
    halves = [grid.transforms(half) for half in model.half_averages(problem.mask)]
    n_turns, step_px = search_steps(problem, radius)
    phases = np.exp(2j * np.pi / problem.box_px * templates.shifts_px @ band.kxy.numpy().T).astype(np.complex64)
    upright = templates.values.reshape(c, n_turns, -1)[:, 0]
    distances = np.zeros((c, c))
    for i in range(c):
        product = (upright[i] * weight * phases).view(np.float32) @ templates.values.view(np.float32).T  # (s, c r)
        turn = product.max(0).reshape(c, n_turns).argmax(1)
        shift = product.reshape(len(phases), c, n_turns)[:, np.arange(c), turn].argmax(0)
        pose = np.concatenate((templates.turns_rad[turn, None], templates.shifts_px[shift]), 1).astype(np.float64)
        image = as_pairs(upright[i] * weight)
        for level in range(_FINER_LEVELS):
            near = near_grid(np.pi / n_turns / 2 ** level, step_px / 2 / 2 ** level, radius)
            nearest_poses(planes, pose, image, weight, points, grid.step, near.turns_rad, near.shifts_px)
        distances[i] = differences(halves, i, pose, Samples(points, weight, grid.step))
    distances = np.minimum(distances, distances.T)
    np.fill_diagonal(distances, 0)
    return distances


class Samples(NamedTuple):
    """Where planes are compared: points ``(p, 2)`` of their grid, weights ``(p,)``, the grid's step in rad per px."""

    points: np.ndarray
    weight: np.ndarray
    step: float


def differences(halves: list[np.ndarray], i: int, pose: np.ndarray, samples: Samples) -> np.ndarray:
    """Squared distances ``(c,)`` of class i from all classes at ``pose`` (c, 3), of planes of both half sets."""
    points = samples.points
    moved = np.exp(1j * samples.step * pose[:, 1:] @ points.T)
    apart = []
    for planes in halves:
        values = np.empty((len(pose), 1, len(points), 2), np.float32)
        for k in range(len(pose)):
            turned_values(planes[k:k + 1], points, pose[k, :1], values[k:k + 1])
        own = np.empty((1, 1, len(points), 2), np.float32)
        turned_values(planes[i:i + 1], points, np.zeros(1), own)
        apart.append(own.view(np.complex64)[0, 0, :, 0] * moved - values.view(np.complex64)[:, 0, :, 0])
    return np.asarray(((apart[0] * apart[1].conj()).real * samples.weight).sum(1))


def mean_power(problem: PlaneProblem, model: Model, radius: float) -> np.ndarray:
    """``w <C^2>`` ``(p,)`` of the images, in a band."""
    rows = spread_rows(len(problem), 500)
    return np.asarray(weighted(problem.images, rows, make_band(problem.box_px, radius), model.noise).power.mean(0))


def joined(problem: PlaneProblem, model: Model, share: np.ndarray, radius: float) -> np.ndarray:
    """Classes ``(m,)`` that stay: of equal ones the largest. Their images find it in the next search."""
    distance = squared_distances(problem, model, radius)
    kept: list[int] = []
    for k in np.argsort(-share, kind="stable"):
        if all(distance[k, other] > problem.tuning.min_distance ** 2 for other in kept):
            kept.append(int(k))
    return np.sort(kept)
