"""The search in the plane: every image at every pose of a grid, in every class; and the sums of images there.

An image X of class c at angle psi and shift s is modelled as ``a C T + noise``, ``T(k) = A_c(R_psi k) exp(-2 pi i k.s
/ d)``, with the contrast a normal about 1. Its log likelihood ratio against an empty image is that of
``search_kernels`` with ``B = Re sum w X* C T`` and ``P = sum w C^2 |T|^2``. All pairs of images at their shifts with
templates at their turns are one matrix product.
"""
from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from ..physics.fourier_band import Band, make_band, shift_grid, shift_phases
from ..physics.shards import in_parts
from .plane_kernels import sum_shifted, turn_back
from .problem import Model, PlaneProblem, Weighted, as_pairs, weighted
from .search_kernels import count_entries, score_image, sum_image, take_entries

_CHUNK_BYTES = 2 ** 25  # of products at a time
N_PARTS = 8  # that sums are made in, whatever the number of threads


@dataclass(frozen=True)
class Templates:
    """Class averages at every turn of a grid, in a band."""

    values: np.ndarray  # (c r, p) complex64, class by class
    turns_rad: np.ndarray  # (r,)
    shifts_px: np.ndarray  # (s, 2)
    band: Band

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.values) // len(self.turns_rad)

    @property
    def log_poses(self) -> float:
        """Logarithm of the number of poses in all classes: each has the same prior."""
        return float(np.log(len(self.values) * len(self.shifts_px)))


@dataclass(frozen=True)
class Found:
    """What a search says of n images, row by row as they were given."""

    log_evidence: np.ndarray  # (n,) of all classes and poses against an empty image
    of_class: np.ndarray  # (n, c) of each class
    pose: np.ndarray  # (n, c, 3): psi (rad), shift x, y (px) of the best pose in each class
    contrast: np.ndarray  # (n,) at the best pose
    misfit: np.ndarray  # (n, n_shells) ``|X - a C T|^2`` there, summed over each shell


class Step(NamedTuple):
    """A search and the sums ``(2, c, g, g, 3)`` of the images at what it found."""

    found: Found
    sums: np.ndarray


def search_steps(problem: PlaneProblem, radius: float) -> tuple[int, float]:
    """Number of turns and step of shifts in px of a search in a band: parts of its finest period, at the particle's
    edge."""
    per_period = problem.tuning.steps_per_period
    n_turns = int(np.ceil(2 * np.pi * per_period * radius * problem.particle_radius_frac))
    return n_turns, max(0.5, problem.box_px / (per_period * radius))


def templates_of(problem: PlaneProblem, model: Model, radius: float) -> Templates:
    """Templates of all classes in a band."""
    band = make_band(problem.box_px, radius)
    n_turns, step_px = search_steps(problem, radius)
    turns = 2 * np.pi * np.arange(n_turns) / n_turns
    shifts = shift_grid(problem.max_shift_px, step_px).numpy()
    planes = model.grid.transforms(model.averages(problem.mask))
    return Templates(model.grid.turned(planes, band, turns).reshape(model.n_classes * n_turns, -1), turns, shifts, band)


def search(problem: PlaneProblem, model: Model, rows: np.ndarray, radius: float) -> Step:
    """Search some images in all classes, in a band."""
    templates = templates_of(problem, model, radius)
    ends = np.linspace(0, len(rows), N_PARTS + 1).astype(int)
    parts = [rows[first:end] for first, end in pairwise(ends) if end > first]
    made = in_parts(lambda k, _: _Searcher(problem, model, templates).search(parts[k]), len(parts), 1)
    result = Found(*(np.concatenate([getattr(part, name) for part, _ in made])
                    for name in ("log_evidence", "of_class", "pose", "contrast", "misfit")))
    total = made[0][1]
    for _, sums in made[1:]:
        total += sums
    return Step(result, _in_frames(model, templates, total))


def _in_frames(model: Model, templates: Templates, total: np.ndarray) -> np.ndarray:
    """Sums ``(2, c r, 3, p)`` at turns, turned back into the classes' frames."""
    sums, points = np.zeros_like(model.sums), model.grid.points(templates.band)
    shape = (templates.n_classes, len(templates.turns_rad), *total.shape[2:])
    for half in range(2):
        turn_back(total[half].reshape(shape), points, templates.turns_rad, sums[half])
    return sums


class _Searcher:
    """Searches part of the images, on one thread."""

    def __init__(self, problem: PlaneProblem, model: Model, templates: Templates) -> None:
        self.problem, self.model, self.templates = problem, model, templates
        values, band = templates.values, templates.band
        self.as_real = torch.from_numpy(values.view(np.float32)).T
        self.squared = torch.from_numpy(values.real ** 2 + values.imag ** 2).T
        self.phases = shift_phases(band, torch.from_numpy(templates.shifts_px)).numpy()
        self.shell, self.weight = band.shell.numpy(), band.weight.numpy()
        self.sums = np.zeros((2, len(values), 3, len(self.shell)), np.float32)

    def search(self, rows: np.ndarray) -> tuple[Found, np.ndarray]:
        """What is found, and the sums of the images at turns ``(2, c r, 3, p)``."""
        n, c, n_shells = len(rows), self.templates.n_classes, self.problem.box_px // 2 + 1
        result = Found(np.zeros(n), np.zeros((n, c), np.float32), np.zeros((n, c, 3), np.float32),
                      np.zeros(n, np.float32), np.zeros((n, n_shells), np.float32))
        chunk = max(1, _CHUNK_BYTES // (4 * len(self.templates.values) * len(self.phases)))
        for first in range(0, n, chunk):
            own = rows[first:first + chunk]
            some = weighted(self.problem.images, own, self.templates.band, self.model.noise)
            self._search(some, self.problem.half_set[own], result, first)
        return result, self.sums

    def _search(self, some: Weighted, half_set: np.ndarray, result: Found, first: int) -> None:
        n, n_turns, prior = len(half_set), len(self.templates.turns_rad), self.problem.contrast_prior
        least = self.problem.tuning.least_log_weight
        moved = as_pairs(some.product[:, None] * self.phases)
        products = torch.mm(torch.from_numpy(moved.reshape(n * len(self.phases), -1)), self.as_real).numpy()
        products = products.reshape(n, len(self.phases), -1)
        powers = torch.mm(torch.from_numpy(some.power), self.squared).numpy()
        highest = np.empty((len(self.phases), self.templates.n_classes), np.float32)
        best = np.zeros((self.templates.n_classes, 2), np.int64)
        for i, scores in enumerate(products):
            at = first + i
            score_image(scores, powers[i], prior, n_turns, highest)
            result.log_evidence[at] = sum_image(scores, highest, n_turns, least, result.of_class[at], best)
            result.pose[at, :, 0] = self.templates.turns_rad[best[:, 0] % n_turns]
            result.pose[at, :, 1:] = self.templates.shifts_px[best[:, 1]]
            column, shift = best[int(highest.max(0).argmax())]
            self._add(i, half_set[i] - 1, (moved, some.power, scores, powers), highest)
            a = _contrast(scores[shift, column], powers[i, column], prior)
            result.contrast[at] = a
            apart = some.plain[i] * self.phases[shift] - a * some.ctf[i] * self.templates.values[column]
            result.misfit[at] = np.bincount(self.shell, self.weight * (apart.real ** 2 + apart.imag ** 2),
                                           minlength=result.misfit.shape[1])
        result.log_evidence[first:first + n] -= self.templates.log_poses
        result.of_class[first:first + n] -= self.templates.log_poses

    def _add(self, i: int, half: int, chunk: tuple[np.ndarray, ...], highest: np.ndarray) -> None:
        """Add image i of a chunk at all poses that count."""
        moved, power, scores, powers = chunk
        n_turns, prior = len(self.templates.turns_rad), self.problem.contrast_prior
        limit = float(highest.max()) + self.problem.tuning.least_log_weight
        n = count_entries(scores, highest, n_turns, limit)
        column, shift, score = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float32)
        take_entries(scores, highest, n_turns, limit, (column, shift, score))
        weight = np.exp(score - score.max())
        weight /= weight.sum()
        a = _contrast(score, powers[i, column], prior)
        sum_shifted(moved, power, np.full(n, i), shift, column, weight * a, weight * a * a, self.sums[half])


def _contrast(score: np.ndarray, power: np.ndarray, prior: float) -> np.ndarray:
    """Mean contrast of an image at poses of these log likelihood ratios and powers."""
    whole = power + prior
    return np.asarray(np.sqrt(np.maximum(2 * (score + 0.5 * (prior + np.log(whole / prior))) / whole, 0)), np.float32)
