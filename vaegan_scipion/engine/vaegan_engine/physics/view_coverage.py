"""How completely a set of views fills Fourier space: sampling and the SCF (Baldwin & Lyumkis 2020)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SHELL_PX = 20.0  # radius in voxels of the Fourier shell on which sampling is counted
MOST_COPIES = 300_000  # views of a symmetric map that are counted
VIEWS_PER_SHELL = 20  # an even set leaves a direction of a shell of n / 20 voxels empty once in e^10
N_POINTS = 4000  # directions on that shell
BLOCK = 2 ** 22  # products of direction and view at a time


@dataclass(frozen=True)
class Completeness:
    """Fourier completeness of a set of views."""

    scf: float
    unsampled_frac: float  # part of the shell that no view reaches
    n_views: int


def shell_directions(n: int) -> np.ndarray:
    """``(n, 3)`` unit vectors, even on the sphere (Fibonacci spiral, golden angle)."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.arange(n) * (np.pi * (3 - np.sqrt(5)))
    return np.stack((np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z), axis=1)


def sampling(views: np.ndarray, shell_px: float = SHELL_PX, n_points: int = N_POINTS) -> np.ndarray:
    """Sampling S ``(n_points,)`` of a Fourier shell by central slices; 1 everywhere for uniform views.

    ``S(k) = (2 r / N) #{i: |k . n_i| < 1 / (2 r)}`` for unit directions k of the shell of radius r voxels: slice i,
    perpendicular to the direction of view n_i, passes through the voxel at ``r k`` (half a voxel
    to either side). Uniform views have |k . n| uniform in [0, 1], so that S = 1 is expected.
    ``views (N, 3)`` are unit vectors; n and -n are the same slice.
    """
    k = shell_directions(n_points)
    counts = np.zeros(n_points)
    step = max(1, BLOCK // n_points)
    for start in range(0, len(views), step):
        counts += (np.abs(k @ views[start:start + step].T) < 0.5 / shell_px).sum(1)
    return counts * (2 * shell_px / len(views))


def completeness(views: np.ndarray, shell_px: float = SHELL_PX, n_points: int = N_POINTS) -> Completeness:
    """SCF of directions of view ``(N, 3)``: ``1 / SCF = <1 / S>`` over a Fourier shell.

    1 for uniform views, ``8 / pi^2`` for views from the side alone, 0 where part of the shell is not sampled
    at all (one direction, a missing cone, fewer views than fill the shell). Counting noise lowers
    it by about ``2 r / N``. The views of a symmetric map are all that show the same (``views_of``).
    Source: Baldwin and Lyumkis, Prog. Biophys. Mol. Biol. 150 (2020) 160-183.
    """
    sampled = sampling(np.asarray(views, np.float64), shell_px, n_points)
    empty = float((sampled == 0).mean())
    scf = 0.0 if empty else 1 / float((1 / sampled).mean())
    return Completeness(scf, empty, len(views))


def views_of(rotations: Tensor, group: Tensor | None = None) -> np.ndarray:
    """Directions of view ``(n, 3)``, the third rows of ``A (n, 3, 3)``; with a map's group, those of all ``A G``.

    A symmetric map has an image at all poses that show the same, ``(n g, 3)``; of rotations in a row at equal steps
    where these would be more than ``MOST_COPIES``.
    """
    views = rotations[:, 2].detach().double().cpu()
    if group is not None and len(group) > 1:
        step = -(-len(views) * len(group) // MOST_COPIES)
        views = torch.einsum("nj,gjk->ngk", views[::max(1, step)], group.double().cpu()).flatten(0, 1)
    return views.numpy()
