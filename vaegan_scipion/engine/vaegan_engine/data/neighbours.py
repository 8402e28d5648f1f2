"""Where other particles of the micrograph stand, seen from each particle's image.

    ``v_ij = s (x_j - x_i) - o_j``

with coordinates x in pixels of the micrograph, s A each, and RELION's origins o in A (a particle lies at ``-o`` of the
middle of its image). All rows of the star file count, also those that are not used.
"""
from __future__ import annotations

import contextlib

import numpy as np
from scipy.spatial import cKDTree

from ..contract.errors import DataError
from .noise_groups import MICROGRAPH_COLUMNS
from .optics import pixel_size_ang
from .star_files import OLD_ORIGINS, STAR_ORIGINS, RelionTable, as_numbers

N_NEAR = 8  # of a particle, the nearest: six stand around one in the densest layer
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
MOVIE_PIXEL_SIZE = "rlnMicrographOriginalPixelSize"  # of movies; micrographs of binned ones have larger pixels
MICROGRAPH_PIXEL_SIZES = ("rlnMicrographPixelSize", MOVIE_PIXEL_SIZE)  # the first that is there
_SAME_PLACE_ANG = 1.0  # nearer rows are one particle
_WIDEST = 2 ** 0.5  # of the image: from further away no line halfway crosses it


def neighbours_ang(table: RelionTable, rows: np.ndarray, width_ang: float, micrograph_pixel_size_ang: float = 0.0
                   ) -> tuple[np.ndarray | None, list[str]]:
    """The ``N_NEAR`` nearest ``(n, N_NEAR, 2)`` float32 in A, x and y from the middle of each image, NaN where fewer.

    None where the star file does not say; and what to tell of it. ``width_ang`` of the images;
    ``micrograph_pixel_size_ang``: of the coordinates, 0 = what the star file says.
    """
    name = MICROGRAPH_COLUMNS[0]
    if not all(map(table.has, (name, *COORDINATES))):
        return None, []
    unit_ang, said = _unit_ang(table, micrograph_pixel_size_ang)
    if unit_ang is None:
        return None, said
    place = unit_ang[:, None] * np.stack([as_numbers(table.particles.columns[axis]) for axis in COORDINATES], 1)
    centre = place - _origins_ang(table)
    near = np.full((len(table), N_NEAR, 2), np.nan, np.float32)
    _, micrograph = np.unique(np.array(table.text(name)), return_inverse=True)
    order = np.argsort(micrograph, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(micrograph[order])) + 1):
        some = some[np.isfinite(centre[some]).all(axis=1)]
        if len(some) > 1:
            near[some] = _nearest(place[some], centre[some], _WIDEST * width_ang)
    near = near[rows]
    return (near, said) if np.isfinite(near).any() else (None, [])


def _nearest(place: np.ndarray, centre: np.ndarray, reach_ang: float) -> np.ndarray:
    """Of one micrograph, as ``neighbours_ang``: boxes about ``place`` (n, 2), particles at ``centre`` (n, 2)."""
    k = min(len(centre), 2 * N_NEAR)  # copies of a particle take some
    distance, other = cKDTree(centre).query(centre, k, distance_upper_bound=reach_ang)
    is_one = np.isfinite(distance) & (distance > _SAME_PLACE_ANG)
    made = np.full((len(centre), max(k, N_NEAR), 2), np.nan)
    offset = centre[np.where(is_one, other, 0)] - place[:, None]
    made[:, :k] = np.where(is_one[..., None], offset, np.nan)
    first = np.argsort(~np.isfinite(made[..., 0]), axis=1, kind="stable")[:, :N_NEAR]
    return np.take_along_axis(made, first[..., None], axis=1).astype(np.float32)


def _unit_ang(table: RelionTable, given_ang: float) -> tuple[np.ndarray | None, list[str]]:
    """A per pixel of the coordinates ``(n,)``, and a sentence where it may be another; None where it is not known."""
    if given_ang:
        return np.full(len(table), given_ang), []
    sizes = None
    for name in MICROGRAPH_PIXEL_SIZES:
        if table.has(name):
            with contextlib.suppress(DataError):  # a value that is no number is no reason to refuse the particles
                sizes = table.numbers(name)
            if sizes is not None and (sizes > 0).all():
                return sizes, [] if name != MOVIE_PIXEL_SIZE else [
                    f"for the neighbours that states hides, coordinates are read in pixels of {name}, {sizes[0]:g} A: "
                    "it is the movies' own, so where these were binned (super-resolution) give states that of the "
                    "micrographs, with --micrograph-pixel-size-ang."]
    return None, ["particles have coordinates, and no pixel size of their micrographs is stated "
                  f"({' or '.join(MICROGRAPH_PIXEL_SIZES)}): states hides no neighbours without it. Give it there with "
                  "--micrograph-pixel-size-ang."]


def _origins_ang(table: RelionTable) -> np.ndarray:
    """``(n, 2)``: RELION's origins; 0 where there are none, or no number."""
    names = STAR_ORIGINS if any(map(table.has, STAR_ORIGINS)) else OLD_ORIGINS
    columns = [as_numbers(table.particles.columns[name]) if name in table.particles else np.zeros(len(table))
               for name in names]
    unit_ang = 1.0
    if names is OLD_ORIGINS and all(map(table.has, OLD_ORIGINS)):
        try:
            unit_ang = pixel_size_ang(table, np.arange(len(table)), ())[0]
        except DataError:  # rows that are not used may have another; a particle's own box is good to a few pixels
            return np.zeros((len(table), 2))
    return unit_ang * np.nan_to_num(np.stack(columns, axis=1))
