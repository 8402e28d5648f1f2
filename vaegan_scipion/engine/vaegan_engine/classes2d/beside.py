"""What lies beside the particle of an image: another one?

What an image holds beyond its class average is compared with a particle seen from anywhere: a round blob, ``T(k)`` the
mean of all class averages over each shell. At a shift s from the particle it has

    B(s) = Re sum_k w (X - a C A)^* C T exp(-2 pi i k.s / d),    P = sum_k w C^2 T^2,

contrast ``B / P`` and log likelihood ratio ``B^2 / 2 P``. What a particle's own view, state or pose leaves over is as
often above as below its average, and weighs nothing: a blob does not see it. It is looked for between half a radius
and a radius of the particle's circle. Nearer, it is the particle itself; further, a neighbour outside the circle.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..physics.fourier_band import Band, make_band, shift_grid, shift_phases
from ..physics.shards import in_parts
from .near import Candidates
from .near_kernels import residuals
from .problem import Model, PlaneProblem, as_pairs, weighted
from .search import N_PARTS, search_steps

_CHUNK_IMAGES = 256


@dataclass(frozen=True)
class Beside:
    """What n images have beside their particle, where it is strongest."""

    contrast: np.ndarray  # (n,) of a second particle, on the scale of ``Candidates.contrast``
    gain: np.ndarray  # (n,) log likelihood ratio of there being one
    power: np.ndarray  # (n, n_shells) ``sum w C^2`` of the image's CTF over each shell


def look_beside(problem: PlaneProblem, model: Model, best: Candidates, share: np.ndarray) -> Beside:
    """A second particle beside that of each image, whose class and pose are the first of ``best``.

    ``model`` has the averages that each half set is compared with; ``share`` (c,): the weights of its classes in the
    blob.
    """
    band = make_band(problem.box_px, min(problem.search_radius, model.radius))
    grid, shell, n_shells = model.grid, band.shell.numpy(), problem.box_px // 2 + 1
    planes = np.stack([grid.transforms(half) for half in model.half_averages(problem.mask)])
    blob = blob_of(problem, model, share, band)
    phases = shift_phases(band, ring(problem)).numpy().T
    half, class_of = problem.half_set.astype(np.int64) - 1, best.best.clip(0)
    ends = np.linspace(0, len(problem), N_PARTS + 1).astype(int)

    def part(number: int, _: int) -> tuple[np.ndarray, ...]:
        n = ends[number + 1] - ends[number]
        contrast, gain, power = np.zeros(n), np.zeros(n), np.zeros((n, n_shells))
        for first in range(0, n, _CHUNK_IMAGES):
            at = slice(first, min(first + _CHUNK_IMAGES, n))
            rows = ends[number] + np.arange(at.start, at.stop)
            some = weighted(problem.images, rows, band, model.noise)
            left = np.empty((len(rows), 2, len(blob)), np.float32)
            residuals(planes, half[rows], class_of[rows], best.pose[rows, 0], best.contrast[rows],
                      as_pairs(some.plain), some.ctf, grid.points(band), grid.step, left)
            precision = (band.weight.numpy() / model.noise[shell]).astype(np.float32)
            own = some.ctf * (precision * blob)
            product = np.maximum((((left[:, 0] + 1j * left[:, 1]) * own) @ phases).real.max(1), 0)
            whole = np.maximum((own * some.ctf * blob).sum(1), 1e-12)
            contrast[at], gain[at] = product / whole, product ** 2 / (2 * whole)
            squares = some.ctf ** 2 * band.weight.numpy()
            power[at] = np.stack([np.bincount(shell, row, minlength=n_shells) for row in squares])
        return contrast, gain, power

    made = in_parts(part, N_PARTS, 1)
    return Beside(*(np.concatenate([values[k] for values in made]) for k in range(3)))


def blob_of(problem: PlaneProblem, model: Model, share: np.ndarray, band: Band) -> np.ndarray:
    """``T`` ``(p,)`` float32 of the module's equation; 0 in shell 0, where backgrounds differ."""
    planes = model.grid.transforms(model.averages(problem.mask))[..., 0]
    profile = model.grid.shell_means(np.tensordot(share / max(share.sum(), 1e-12), planes, 1))
    frequency = np.hypot(*band.kxy.numpy().T)
    blob = np.interp(frequency, np.arange(len(profile)), profile)
    return np.where(band.shell.numpy() > 0, blob, 0.0).astype(np.float32)


def ring(problem: PlaneProblem) -> torch.Tensor:
    """Shifts ``(s, 2)`` in px of what is looked for beside a particle."""
    radius_px = problem.particle_radius_frac * problem.box_px
    shifts = shift_grid(radius_px, search_steps(problem, problem.search_radius)[1])
    distance = shifts.norm(dim=1)
    return shifts[(distance >= radius_px / 2) & (distance <= radius_px)]
