"""Maps from particles without poses: mini-batch expectation maximisation, coarse to fine.

Starts from maps (the VAE-GAN's, one per cluster) or from soft random blobs. Every step searches all
rotations of an even grid, turned at random so that no grid direction is preferred, and all shifts. Of a symmetric map
one of all rotations that show the same is tried (``map_constraint``).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import make_band, shift_grid, shift_phases
from ..physics.rotations import random_rotations, super_fibonacci_rotations
from ..physics.shards import n_processes, shared_parts
from .images import Images
from .map_mixture import MapMixture, Posterior, Shifted, Templates, accumulate, search
from .polar_search import PolarTemplates, polar_templates, search_polar
from .pose_count import count_poses

SHIFTS_PER_PERIOD = 3.0  # of the shift grid, in the finest period of the band; poses are refined afterwards
_KEEP_SUMS = 0.9  # of the sums of maps and noise, per step
_SEARCHED_TOGETHER = 256  # images


@dataclass(frozen=True)
class PoseGrid:
    """The poses that a search tries."""

    radius: float  # shells (cycles per box) that are compared
    n_rotations: int
    largest_shift_px: float
    finer_shifts: float = 1.0  # times finer than the band needs
    around: Tensor | None = None  # (n, 2) px, where every image's own shifts are known: its grid lies about them
    n_steps: int = 1  # of the shifts' grid, that it then reaches to each side


@dataclass(frozen=True)
class Stage:
    """Steps at one resolution."""

    radius: float  # shells (cycles per box)
    n_rotations: int
    steps: int
    batch: int
    largest_shift_px: float
    finer_shifts: float = 1.0  # times finer than the band needs

    @property
    def grid(self) -> PoseGrid:
        """The poses that a step tries."""
        return PoseGrid(self.radius, self.n_rotations, self.largest_shift_px, self.finer_shifts)


class Batches:
    """Row numbers in shuffled order, every image once per epoch."""

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self._rows, self._rng = rows, np.random.default_rng(seed)
        self._order, self._next = self._rng.permutation(rows), 0

    def take(self, n: int) -> np.ndarray:
        """The next ``n`` rows (fewer only where there are fewer in all), sorted for the memory map."""
        n = min(n, len(self._rows))
        if self._next + n > len(self._order):
            self._order, self._next = self._rng.permutation(self._rows), 0
        taken = self._order[self._next:self._next + n]
        self._next += n
        return np.sort(taken)

    def state(self) -> dict[str, Any]:
        """Where in which order they are, for ``restore``."""
        return {"order": self._order, "next": self._next, "rng": self._rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as from ``state``."""
        self._order, self._next = state["order"], state["next"]
        self._rng.bit_generator.state = state["rng"]


@dataclass(frozen=True)
class Course:
    """Where a stage is: the images whose turn it is, the turns of its grids, and how many steps are done."""

    batches: Batches
    rng: torch.Generator
    done: int = 0


@dataclass(frozen=True)
class EmStep:
    """What a step of expectation maximisation says of itself."""

    step: int  # from 1
    shares: list[float]  # of the images, of every map
    log_evidence: float  # mean of the batch


def run_stage(data: Images, model: MapMixture, stage: Stage, course: Course,
              after_step: Callable[[EmStep], None] | None = None) -> None:
    """EM steps of one stage, from where ``course`` is; changes ``model`` in place."""
    band = make_band(data.box_px, stage.radius, data.device)
    model.fit_box(stage.radius)
    phases = shift_phases(band, shift_grid_of(data, stage.radius, stage.largest_shift_px, stage.finer_shifts))
    for step in range(course.done, stage.steps):
        rows = course.batches.take(stage.batch)
        images = Shifted(*data.coefficients(rows, band), band, phases)
        turn = random_rotations(1, course.rng).to(data.device)[0]
        templates = templates_for(images, model, stage.n_rotations, turn)
        count_poses(len(rows) * len(phases) * model.n_maps * len(templates.rotations))
        posterior = searched(images, model, templates, spread=data.contrast_spread)
        model.forget(_KEEP_SUMS)
        accumulate(model, posterior, images._replace(ctf=images.ctf * posterior.contrast[:, None]), templates)
        model.solve(stage.radius)
        if after_step:
            shares = posterior.map_posterior().mean(0)
            after_step(EmStep(step + 1, [round(float(x), 4) for x in shares],
                              float(posterior.log_evidence.logsumexp(1).mean())))


def templates_for(images: Shifted, model: MapMixture, n_rotations: int, turn: Tensor) -> Templates | PolarTemplates:
    """Templates of all maps at about ``n_rotations`` even rotations, all of them times ``turn`` (3, 3).

    On a CPU the views of a product grid, whose in-plane rotations cost little (``polar_search``); on a GPU slices at
    all rotations of a grid, as one large matrix product with the images is what it does fastest.
    """
    if images.transforms.device.type == "cpu":
        return polar_templates(model, images.band, n_rotations, turn, images.ctf.square().mean(0))
    return model.templates(images.band, model.constraint.rotations(super_fibonacci_rotations(n_rotations, turn.device)
                                                                   @ turn))


def searched(images: Shifted, model: MapMixture, templates: Templates | PolarTemplates, entries: bool = True,
             spread: float = 0.0) -> Posterior:
    """The E step with templates of ``templates_for``."""
    if isinstance(templates, PolarTemplates):
        return search_polar(images, model, templates, entries, spread)
    return search(images, model, templates, entries, spread)


def shift_grid_of(data: Images, radius: float, max_shift_px: float, finer: float = 1.0) -> Tensor:
    """The shifts ``(s, 2)`` that a search within ``radius`` shells tries, or so many times finer ones."""
    return shift_grid(max_shift_px, shift_step_px(data.box_px, radius) / finer, data.device)


def shift_step_px(box_px: int, radius: float) -> float:
    """Step of the shift grid: a part of the finest period in the band, at least half a pixel."""
    return max(0.5, box_px / (SHIFTS_PER_PERIOD * radius))


@dataclass(frozen=True)
class Search:
    """Best poses of all images per class, and the evidence of each class."""

    log_evidence: np.ndarray  # (n, c)
    rotations: Tensor  # (n, c, 3, 3)
    shifts_px: Tensor  # (n, c, 2)


def search_all(data: Images, model: MapMixture, rows: np.ndarray, grid: PoseGrid,
               progress: Callable[[int], None] | None = None) -> Search:
    """E step over ``rows`` at all poses of the grid with the maps held fixed."""
    band = make_band(data.box_px, grid.radius, data.device)
    shifts, middle = _shifts_of(data, grid)
    phases = shift_phases(band, shifts)

    def images_of(first: int, end: int) -> Shifted:
        transforms, ctf = data.coefficients(rows[first:end], band)
        if middle is not None:
            transforms = transforms * shift_phases(band, middle[first:end])
        return Shifted(transforms, ctf, band, phases)

    first_images = images_of(0, _SEARCHED_TOGETHER)
    templates = templates_for(first_images, model, grid.n_rotations, torch.eye(3, device=data.device))
    count_poses(len(rows) * len(shifts) * model.n_maps * len(templates.rotations))
    done, together = 0, n_processes()

    def part(first: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal done
        images = first_images if first == 0 else images_of(first, end)
        found = searched(images, model, templates, entries=False, spread=data.contrast_spread)
        if progress:
            more = min(together * (end - first), len(rows) - done)  # other processes are about as fast
            progress(more)
            done += more
        return found.best_rotation, found.best_shift, found.log_evidence

    parts = shared_parts(part, len(rows), _SEARCHED_TOGETHER, threads=False)
    rotation, shift, evidence = map(torch.cat, zip(*parts, strict=True))
    found = shifts[shift] if middle is None else middle[:, None] + shifts[shift]
    return Search(evidence.cpu().numpy(), templates.rotations[rotation], found)


def _shifts_of(data: Images, grid: PoseGrid) -> tuple[Tensor, Tensor | None]:
    """The shifts ``(s, 2)`` of a grid, and what they lie about ``(n, 2)``: no shift is larger than the largest."""
    if grid.around is None:
        return shift_grid_of(data, grid.radius, grid.largest_shift_px, grid.finer_shifts), None
    step_px = shift_step_px(data.box_px, grid.radius) / grid.finer_shifts
    reach_px = min(grid.n_steps * step_px, grid.largest_shift_px)
    inner_px = grid.largest_shift_px - reach_px
    return shift_grid(reach_px, step_px, data.device), grid.around.clamp(-inner_px, inner_px)
