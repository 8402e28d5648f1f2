"""Images in a simulated set that hold no single centred particle: what a picker also brings.

Kinds, in equal numbers:

* ``noise``: nothing at all;
* ``off-centre``: one particle of the set, 0.25 to 0.4 of the box away from the centre and cut by its edge;
* ``aggregate``: two or three particles of the set within one image, the second and third 0.2 to 0.35 of the box away;
* ``other``: another molecule (where maps of some are given), its projections scaled to the variance of the set's.

They are made in a box of twice the side, so that density and CTF fringes beyond the edge are cut and do not wrap round.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import zoom
from torch import Tensor

from ..contract.errors import DataError
from ..data.mrc_files import read_map
from ..physics.ctf import ctf_2d
from ..physics.projection import extract_slices, map_to_fourier, project, shift_slices, slices_to_images
from ..physics.rotations import random_rotations

KINDS = ("noise", "off-centre", "aggregate", "other")
OFF_CENTRE_FRAC, NEIGHBOUR_FRAC = (0.25, 0.4), (0.2, 0.35)  # distances, of the box
_SCALE_VIEWS = 64


@dataclass(frozen=True)
class Junk:
    """What m images of junk are made of: each image is the sum of its parts."""

    kind: np.ndarray  # (m,) int64 in KINDS
    owner: np.ndarray  # (p,) int64, ascending: the image of each part
    map_index: np.ndarray  # (p,) int64, in the set's maps, then the other molecules
    rotations: Tensor  # (p, 3, 3)
    shift_px: Tensor  # (p, 2)


def draw_junk(n: int, n_maps: tuple[int, int], box_px: int, max_shift_px: float, rng: np.random.Generator) -> Junk:
    """Kinds, maps, poses and places of ``n`` images of junk; ``n_maps``: of the set, and of other molecules."""
    n_own, n_others = n_maps
    kinds = np.arange(n) % (len(KINDS) if n_others else len(KINDS) - 1)
    kind = rng.permutation(kinds)
    owner, maps, places = [], [], []
    for row, name in enumerate(KINDS[k] for k in kind):
        if name == "noise":
            continue
        centred = rng.uniform(-max_shift_px, max_shift_px, 2)
        neighbours = [_away(NEIGHBOUR_FRAC, box_px, rng) for _ in range(rng.integers(1, 3))]
        around = {"off-centre": [_away(OFF_CENTRE_FRAC, box_px, rng)], "other": [centred],
                  "aggregate": [centred, *neighbours]}
        for place in around[name]:
            owner.append(row)
            maps.append(n_own + rng.integers(n_others) if name == "other" else rng.integers(n_own))
            places.append(place)
    generator = torch.Generator().manual_seed(int(rng.integers(2 ** 62)))
    shift_px = np.array(places, np.float32).reshape(-1, 2)
    return Junk(kind, np.array(owner, np.int64), np.array(maps, np.int64), random_rotations(len(owner), generator),
                torch.from_numpy(shift_px))


def _away(limits: tuple[float, float], box_px: int, rng: np.random.Generator) -> np.ndarray:
    angle, distance = rng.uniform(0, 2 * np.pi), box_px * rng.uniform(*limits)
    return distance * np.array([np.cos(angle), np.sin(angle)])


def load_others(paths: tuple[str, ...], maps: np.ndarray, voxel_size_ang: float) -> np.ndarray:
    """Other molecules ``(k, d, d, d)`` in the set's box and voxels, their projections as strong as those of ``maps``.

    Resampled by cubic splines; what is coarser than the set stays coarse. Raises DataError.
    """
    made = []
    wanted = projection_variance(maps)
    for path in paths:
        array, size_ang = read_map(path)
        scaled = zoom(array.astype(np.float32), size_ang / voxel_size_ang, order=3)
        boxed = _boxed(scaled, maps.shape[-1])
        variance = projection_variance(boxed[None])
        if not variance > 0:
            raise DataError(f"{path}: its projections have no signal.", "Give a map with density in its central part.")
        made.append(boxed * math.sqrt(wanted / variance))
    return np.stack(made) if made else np.zeros((0, *maps.shape[1:]), np.float32)


def projection_variance(maps: np.ndarray) -> float:
    """Mean variance of projections of maps ``(v, d, d, d)``, without CTF."""
    index = torch.arange(_SCALE_VIEWS) % len(maps)
    rotations = random_rotations(_SCALE_VIEWS, torch.Generator().manual_seed(0))
    return float(project(torch.from_numpy(maps), index, rotations).var((1, 2)).mean())


def _boxed(array: np.ndarray, box_px: int) -> np.ndarray:
    """The centre of a cube (voxel ``d // 2``) in a box of another size, cut or filled up with zeros."""
    boxed = np.zeros((box_px,) * 3, np.float32)
    shift = box_px // 2 - array.shape[0] // 2
    low, high = max(0, shift), min(box_px, shift + array.shape[0])
    boxed[(slice(low, high),) * 3] = array[(slice(low - shift, high - shift),) * 3]
    return boxed


class JunkImages:
    """Makes the images of a ``Junk``."""

    def __init__(self, junk: Junk, maps: Tensor, pixel_size_ang: float) -> None:
        self.junk, self.box_px, self.pixel_size_ang = junk, maps.shape[-1], pixel_size_ang
        self._wide_px = 2 * self.box_px
        edge = self._wide_px // 2 - self.box_px // 2
        self._map_ft = map_to_fourier(
            torch.nn.functional.pad(maps, (edge, self._wide_px - self.box_px - edge) * 3))

    def clean(self, row: int, ctf: Tensor) -> Tensor:
        """Noise-free image ``(d, d)`` of one row under its CTF ``(7,)``."""
        device, d = self._map_ft.device, self._wide_px
        first, last = np.searchsorted(self.junk.owner, (row, row + 1))
        if first == last:
            return torch.zeros(self.box_px, self.box_px, device=device)
        parts = slice(first, last)
        index = torch.from_numpy(self.junk.map_index[parts]).to(device)
        planes = extract_slices(self._map_ft, index, self.junk.rotations[parts].to(device), d)
        planes = shift_slices(planes, self.junk.shift_px[parts].to(device)).sum(0, keepdim=True)
        image = slices_to_images(planes * ctf_2d(ctf[None].to(device), d, self.pixel_size_ang))[0]
        edge = d // 2 - self.box_px // 2
        return image[edge:edge + self.box_px, edge:edge + self.box_px]
