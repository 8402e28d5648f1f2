"""What surrounds particles on a real micrograph: neighbours that reach into the image, and noise that differs between
micrographs.

Neighbours are particles of the same set, at random poses, their centres 1.1 to 1.5 particle diameters away; each of
four quadrants holds one with probability ``crowding``. Those too far out to reach into the image are left out. The
noise of a micrograph has a standard deviation of its own, log-normal about 1.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..physics.rotations import random_rotations
from .junk_images import Junk

DISTANCE_DIAMETERS = (1.1, 1.5)
QUADRANTS = 4
PARTICLES_PER_MICROGRAPH = 100
_DENSITY_FRAC = 0.1  # of the largest: what counts as the particle when its diameter is measured


def particle_diameter_px(maps: np.ndarray) -> float:
    """Twice the largest distance from the centre ``d // 2`` of a voxel with a tenth of its map's largest density.

    ``maps``: ``(v, d, d, d)``.
    """
    d = maps.shape[-1]
    axis = np.arange(d) - d // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis ** 2)
    return 2 * max(float(radius[one >= _DENSITY_FRAC * one.max()].max()) for one in maps)


def draw_crowd(crowding: float, n: int, n_maps: int, diameter_px: float, rng: np.random.Generator) -> Junk:
    """Neighbours of ``n`` images: which map, at which pose and place (px, x and y)."""
    there = rng.random((n, QUADRANTS)) < crowding
    owner, quadrant = np.nonzero(there)
    angle = (quadrant + rng.random(len(owner))) * 2 * np.pi / QUADRANTS
    distance = diameter_px * rng.uniform(*DISTANCE_DIAMETERS, len(owner))
    generator = torch.Generator().manual_seed(int(rng.integers(2 ** 62)))
    place = np.stack((distance * np.cos(angle), distance * np.sin(angle)), 1).astype(np.float32)
    return Junk(np.zeros(n, np.int64), owner, rng.integers(n_maps, size=len(owner)),
                random_rotations(len(owner), generator), torch.from_numpy(place))


def within_reach(crowd: Junk, diameter_px: float, box_px: int) -> Junk:
    """The neighbours that can reach into an image of ``box_px``.

    They are made in a box of twice the side (``junk_images``). A neighbour of radius r whose centre is further than
    ``3/2 d - r`` along x or y would come in again on the other side; unless the particle is wider than the box it is
    not seen from there.
    """
    near = (crowd.shift_px.abs().amax(1) <= 1.5 * box_px - diameter_px / 2).numpy()
    return Junk(crowd.kind, crowd.owner[near], crowd.map_index[near], crowd.rotations[near], crowd.shift_px[near])


def draw_micrographs(spread: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
    """Micrograph ``(n,)`` of each image, from 0, and its noise's standard deviation over the mean one ``(n,)``."""
    micrograph = np.arange(n) // PARTICLES_PER_MICROGRAPH
    variance = np.log1p(spread ** 2)
    factor = np.exp(np.sqrt(variance) * rng.standard_normal(int(micrograph.max(initial=0)) + 1) - variance / 2)
    return micrograph, torch.from_numpy(factor[micrograph].astype(np.float32))
