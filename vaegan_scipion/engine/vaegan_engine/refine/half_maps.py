"""Detail from independent halves of a state, the band growing with their FSC."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import make_band
from ..physics.fsc import fourier_shell_correlation
from ..reconstruction.images import Images, low_passed
from ..reconstruction.least_squares import residual_noise
from ..reconstruction.posed_images import Coefficients, PosedImages
from ..runtime.step_store import stored
from .assignment import class_map
from .states import Assignment

_HALF_ITERATIONS = 3


def smaller_halves(found: Assignment, half_set: np.ndarray) -> np.ndarray:
    """Part of each class's images that are in its smaller half set ``(c,)``; ``half_set`` (n,) of 1 and 2."""
    second = np.array([np.mean(half_set[found.members(c)] == 2) for c in range(found.n_classes)])
    return np.minimum(second, 1 - second)


@stored
@dataclass
class Halves:
    """Maps of one class from two disjoint halves, and their FSC."""

    maps: np.ndarray  # (2, d, d, d) float32
    full: np.ndarray  # (d, d, d) float32, all images
    fsc: np.ndarray  # (d//2 + 1,)


def refine_halves(data: Images, found: Assignment, c: int, half_set: np.ndarray, start_radius: float, mask: Tensor,
                  rounds: int, threshold: float = 0.143) -> Halves:
    """Detail of class c: two halves refined apart, the band growing with their FSC; poses are kept in ``found``.

    The band of the next round reaches two shells past the FSC's fall below ``threshold``, at most Nyquist.
    """
    d, radius = data.box_px, start_radius
    rows = found.members(c)
    members = [rows[half_set[rows] == half] for half in (1, 2)]
    volumes = [low_passed(found.volumes[c][None], start_radius)[0]] * 2
    fsc = np.ones(d // 2 + 1)
    for _ in range(rounds):
        band = make_band(d, radius, data.device)
        made = []
        for rows, volume in zip(members, volumes, strict=True):
            images = PosedImages(Coefficients(data, rows, band), *found.poses(rows))
            precision = band.weight / residual_noise(images, volume)[band.shell]
            better, _ = images.refined(volume, precision, _HALF_ITERATIONS)
            at = torch.from_numpy(rows)
            found.A[at, c], found.shifts_px[at, c] = better.A, better.shifts_px
            wide = make_band(d, min(d / 2, radius + 4), data.device)
            made.append(class_map(data, found, rows, wide, torch.ones_like(wide.weight), mask)[0])
        volumes = made
        fsc = fourier_shell_correlation(*(v.cpu().numpy() for v in volumes))
        below = np.flatnonzero(fsc[1:] < threshold)
        reached = (below[0] + 1) if len(below) else d // 2
        radius = float(min(d / 2, max(radius, reached + 2)))
    return halves_at(data, found, c, half_set, mask)


def halves_at(data: Images, found: Assignment, c: int, half_set: np.ndarray, mask: Tensor) -> Halves:
    """Maps of class c at its poses as they are, to Nyquist."""
    rows = found.members(c)
    wide = make_band(data.box_px, data.box_px / 2, data.device)
    flat = torch.ones_like(wide.weight)
    maps = [class_map(data, found, rows[half_set[rows] == half], wide, flat, mask)[0].cpu().numpy() for half in (1, 2)]
    full, _ = class_map(data, found, rows[half_set[rows] > 0], wide, flat, mask)
    return Halves(np.stack(maps), full.cpu().numpy(), fourier_shell_correlation(*maps))
