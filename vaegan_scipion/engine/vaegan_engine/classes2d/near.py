"""Images near the poses of a search, in the few classes that they may belong to: detail, from two halves apart.

Images of each half set are compared with averages of that half alone, from here on: what both averages of a class then
have in common (their FRC) beyond the band of the search is signal.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..physics.fourier_band import make_band
from ..physics.shards import in_parts
from ..runtime.step_store import stored
from .near_kernels import near_images
from .planes import PlaneGrid
from .problem import Model, PlaneProblem, as_pairs, weighted
from .search import N_PARTS, Found

_CHUNK_IMAGES = 256
_MOST_SUMMED = 2 ** 29  # bytes of sums


@stored
@dataclass(frozen=True)
class Candidates:
    """Classes that n images may belong to, the likeliest first, and where they lie in each."""

    class_of: np.ndarray  # (n, q) int64, -1 = none
    pose: np.ndarray  # (n, q, 3): psi (rad), shift x, y (px)
    log_evidence: np.ndarray  # (n, q) against an empty image, with the prior of the search's poses
    contrast: np.ndarray  # (n,) in the likeliest
    misfit: np.ndarray  # (n, n_shells) there

    @property
    def best(self) -> np.ndarray:
        """Likeliest class ``(n,)``."""
        return np.asarray(self.class_of[:, 0])  # -1 = in none

    @property
    def probability(self) -> np.ndarray:
        """Posterior ``(n,)`` of the likeliest class among the candidates."""
        there = self.class_of >= 0
        apart = np.where(there, self.log_evidence, -np.inf) - np.where(there[:, :1], self.log_evidence[:, :1], 0)
        return np.asarray(np.where(there[:, 0], 1 / np.maximum(np.exp(apart).sum(1), 1e-300), 0.0))

    def renamed(self, new: np.ndarray) -> Candidates:
        """The same with class k called ``new[k]`` (c + 1,), and those that are -1 left out."""
        class_of = new[self.class_of]
        evidence = np.where(class_of >= 0, self.log_evidence, -np.inf)
        return sorted_candidates(class_of, self.pose, evidence, self.contrast, self.misfit)

    def with_rows(self, rows: np.ndarray, new: Candidates) -> Candidates:
        """The same with some images' candidates replaced, by at most as many."""
        n_more = self.class_of.shape[1] - new.class_of.shape[1]
        class_of, pose, evidence = self.class_of.copy(), self.pose.copy(), self.log_evidence.copy()
        class_of[rows] = np.pad(new.class_of, ((0, 0), (0, n_more)), constant_values=-1)
        pose[rows] = np.pad(new.pose, ((0, 0), (0, n_more), (0, 0)))
        evidence[rows] = np.pad(new.log_evidence, ((0, 0), (0, n_more)), constant_values=-np.inf)
        return replace(self, class_of=class_of, pose=pose, log_evidence=evidence)

    def sizes(self, n_classes: int) -> np.ndarray:
        """Images of each class."""
        return np.bincount(self.best[self.best >= 0], minlength=n_classes)


def candidates_of(result: Found, n_kept: int, least: float) -> Candidates:
    """The likeliest classes of every image after a search."""
    order = np.argsort(-result.of_class, axis=1, kind="stable")[:, :n_kept]
    evidence = np.take_along_axis(result.of_class, order, 1).astype(np.float64)
    pose = np.take_along_axis(result.pose, order[..., None], 1).astype(np.float64)
    return Candidates(np.where(evidence >= evidence[:, :1] + least, order, -1), pose, evidence, result.contrast,
                      result.misfit)


@dataclass(frozen=True)
class Near:
    """Turns and shifts about a pose that are tried, and the band."""

    turns_rad: np.ndarray
    shifts_px: np.ndarray  # (s, 2)
    radius: float


def near_grid(turn_rad: float, shift_px: float, radius: float) -> Near:
    """Two steps of turns and one of shifts to each side."""
    line = shift_px * np.arange(-1.0, 2.0)
    return Near(turn_rad * np.arange(-2.0, 3.0), np.stack(np.meshgrid(line, line), -1).reshape(-1, 2), radius)


def near_step(problem: PlaneProblem, model: Model, candidates: Candidates, near: Near) -> tuple[Candidates, Model]:
    """Candidates at better poses, and the model of the images there."""
    band, grid = make_band(problem.box_px, near.radius), PlaneGrid(problem.box_px, near.radius)
    planes = np.stack([grid.transforms(half) for half in model.half_averages(problem.mask)])
    angle = 2 * np.pi / problem.box_px * near.shifts_px @ band.kxy.numpy().T
    phases = np.stack((np.cos(angle), np.sin(angle)), 1).astype(np.float32)
    shape = (2, model.n_classes, grid.side, grid.side, 3)
    n_parts = max(1, min(N_PARTS, _MOST_SUMMED // (4 * int(np.prod(shape)))))
    ends = np.linspace(0, len(problem), n_parts + 1).astype(int)
    log_poses = np.log(len(near.turns_rad) * len(near.shifts_px))

    def part(k: int, _: int) -> tuple[np.ndarray, ...]:
        rows = np.arange(ends[k], ends[k + 1])
        pose, sums = candidates.pose[rows].copy(), np.zeros(shape, np.float32)
        n = len(rows)
        evidence = np.full((n, pose.shape[1]), -np.inf)
        contrast, misfit = np.zeros(n), np.zeros((n, problem.box_px // 2 + 1))
        for first in range(0, n, _CHUNK_IMAGES):
            at = slice(first, first + _CHUNK_IMAGES)
            some = weighted(problem.images, rows[at], band, model.noise)
            near_images(planes, sums, problem.half_set[rows[at]].astype(np.int64) - 1, candidates.class_of[rows[at]],
                        pose[at], as_pairs(some.plain), some.ctf, as_pairs(some.product), some.power,
                        grid.points(band), grid.step, near.turns_rad, near.shifts_px, phases, problem.contrast_prior,
                        problem.tuning.least_log_weight, band.shell.numpy(), band.weight.numpy(), evidence[at],
                        contrast[at], misfit[at])
        return pose, evidence, contrast, misfit, sums

    made = in_parts(part, n_parts, 1)
    pose, evidence, contrast, misfit = (np.concatenate([values[k] for values in made]) for k in range(4))
    sums = made[0][4]
    for values in made[1:]:
        sums += values[4]
    new = sorted_candidates(candidates.class_of, pose, evidence - log_poses, contrast, misfit)
    return new, Model(sums, model.noise, model.signal, problem.box_px, near.radius)


def sorted_candidates(class_of: np.ndarray, pose: np.ndarray, evidence: np.ndarray, contrast: np.ndarray,
                      misfit: np.ndarray) -> Candidates:
    """Candidates with the likeliest first."""
    order = np.argsort(-evidence, axis=1, kind="stable")
    return Candidates(np.take_along_axis(class_of, order, 1), np.take_along_axis(pose, order[..., None], 1),
                      np.take_along_axis(evidence, order, 1), contrast, misfit)
