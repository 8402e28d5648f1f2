"""Particles of a RELION star file: ids, where their images are, CTF, pixel size, half set.

The pixels are read by ``stacks`` and prepared by ``image_preparation``.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..contract.errors import DataError
from ..contract.settings import DataConfig
from .image_names import find_images, split_names, with_one_name_each
from .neighbours import neighbours_ang
from .optics import pixel_size_ang, read_ctf, unit_ctf
from .stacks import StackHeader, common_box_px
from .star_files import RelionTable, read_star

PARTICLE_ID = "vaeParticleId"
RANDOM_SUBSET = "rlnRandomSubset"
LEAST_HALF_FRAC = 0.1  # of the particles in the smaller half set


@dataclass(frozen=True)
class ParticleTable:
    """One row per particle, in the star file's order; rows are joined by ``particle_id``."""

    star: Path
    particle_id: np.ndarray  # (n,) int64: vaeParticleId, else the star file's row number from 1
    row_number: np.ndarray  # (n,) int64: row of the star file from 1, for messages
    headers: tuple[StackHeader, ...]  # the stacks in use
    stack_index: np.ndarray  # (n,) int64 into headers
    slice_index: np.ndarray  # (n,) int64, 0-based image in its stack
    ctf: np.ndarray  # (n, 8) float32, columns as ctf.CTF_COLUMNS
    half_set: np.ndarray  # (n,) uint8, 1 or 2
    twin_id: np.ndarray  # (n,) int64, lowest id of the star file's rows of the same image, by its name or its pixels
    near_ang: np.ndarray | None  # (n, k, 2) where neighbours stand (``neighbours_ang``); None: not known
    pixel_size_ang: float
    box_px: int
    ctf_present: bool  # False: the CTF columns were ignored and ctf means 1 everywhere
    ids_are_rows: bool  # True: there is no vaeParticleId, so ids belong to this very file
    sha256: str  # of the star file
    notes: tuple[str, ...]  # what was ignored or changed, a sentence each

    def __len__(self) -> int:
        return len(self.particle_id)


def load_particles(data: DataConfig) -> ParticleTable:
    """Read and check a RELION 3.0 or 3.1+ star file and the headers of its stacks.

    Of ``data`` these settings count:

    particles : star file with ``rlnImageName``
    stack : one stack in place of those that the star file names (see ``image_names.find_images``)
    max_images : use only the first rows; 0 = all
    half_set : 0 = all, 1 or 2 = that half of these rows
    ignore_ctf : use a CTF of 1 in place of the CTF columns
    phase_flipped : the images were multiplied by the sign of their CTF; where the star file says so itself
        (``rlnCtfDataArePhaseFlipped``), it decides

    Raises DataError.
    """
    star, notes = Path(data.particles), []
    table = read_star(star)
    ids = particle_ids(table)
    names = split_names(table)
    twin = (names if data.stack else with_one_name_each(names, star)).first_of_same(ids)
    halves, said = half_sets(table, ids, twin)
    notes += said
    rows = _chosen_rows(table, halves, data.max_images, data.half_set)
    places = find_images(table, names, rows, data.stack)
    box_px = common_box_px(places.headers)
    _check_image_size(table, rows, places.headers, box_px)
    ctf = unit_ctf(len(rows))
    if not data.ignore_ctf:
        ctf, said = read_ctf(table, rows, data.phase_flipped)
        notes += said
    size_ang, said = pixel_size_ang(table, rows, places.headers)
    notes += said
    near_ang, said = neighbours_ang(table, rows, box_px * size_ang, data.micrograph_pixel_size_ang)
    notes += said
    return ParticleTable(star, ids[rows], rows + 1, places.headers, places.stack_index, places.slice_index, ctf,
                         halves[rows], ids[twin][rows], near_ang, size_ang, box_px, not data.ignore_ctf,
                         not table.has(PARTICLE_ID), table.sha256, tuple(f"{star}: {note}" for note in notes))


def particle_ids(table: RelionTable) -> np.ndarray:
    """(n,) int64: ``vaeParticleId``, else the row number from 1. Raises DataError."""
    if not table.has(PARTICLE_ID):
        return np.arange(1, len(table) + 1, dtype=np.int64)
    ids = table.integers(PARTICLE_ID)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(twice):
        row = int(order[twice[0] + 1])
        raise DataError(f"{table.star}: {PARTICLE_ID} {ids[row]} in particle row {row + 1} is used before.",
                        f"Give every particle its own whole number, or leave {PARTICLE_ID} out.")
    return ids


def half_sets(table: RelionTable, particle_id: np.ndarray, twin: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(n,) uint8 of 1 and 2: ``rlnRandomSubset`` where it splits the set, else drawn from the id; and what to say.

    0 and 1 are taken as 1 and 2 (cryoSPARC counts from 0). Rows that name one image (``twin`` (n,): the first of
    them, ``ImageNames.first_of_same``) are drawn into one half.
    """
    n_twins = int((twin != np.arange(len(twin))).sum())
    notes, halves = [], drawn_half_sets(particle_id[twin])
    if table.has(RANDOM_SUBSET):
        subset = table.numbers(RANDOM_SUBSET)
        values = np.unique(subset).tolist()
        if values in ([1.0, 2.0], [0.0, 1.0]):
            halves = (subset + (2 - values[-1])).astype(np.uint8)
        else:
            shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
            notes.append(f"{RANDOM_SUBSET} holds {shown}, which is no split into 1 and 2: the half sets are drawn "
                         "anew.")
        if values == [0.0, 1.0]:
            notes.append(f"{RANDOM_SUBSET} is 0 and 1: taken as half sets 1 and 2.")
    if n_twins:
        n_apart = int((halves != halves[twin]).sum())
        where = (f"{n_apart} of them lie in the other half set, so the half sets are not independent" if n_apart
                 else "they are kept in one half set")
        notes.append(f"{n_twins} rows name an image that another row names too; {where}.")
    return halves, notes


def smaller_half_frac(half_set: np.ndarray) -> float:
    """Part of the particles in the smaller of their half sets ``(n,)`` of 1 and 2."""
    return min(float((half_set == half).mean()) for half in (1, 2))


def with_copies_together(half_set: np.ndarray, twin_id: np.ndarray) -> np.ndarray:
    """Half sets ``(n,)`` in which all rows of one image, of one ``twin_id`` (n,), are where the first of them is."""
    _, first, group = np.unique(twin_id, return_index=True, return_inverse=True)
    together = half_set[first[group]]
    n_moved = int((together != half_set).sum())
    if not n_moved:
        return half_set
    print(f"half sets of the particles: {n_moved} that have the image of another one are taken into that one's half "
          "set, or both halves would share its noise", flush=True)
    return together


def with_both_halves(half_set: np.ndarray, twin_id: np.ndarray) -> np.ndarray:
    """Half sets ``(n,)`` that can be compared: drawn anew, by ``twin_id`` (n,), where those given are very uneven.

    All rows of one image are in one of them.
    """
    half_set = with_copies_together(half_set, twin_id)
    smaller = smaller_half_frac(half_set)
    if smaller >= LEAST_HALF_FRAC:
        return half_set
    print(f"half sets of the particles: {100 * smaller:.2g} % of these are in the smaller one, at least "
          f"{100 * LEAST_HALF_FRAC:g} % is asked for: NOT USED, both halves are drawn anew", flush=True)
    return drawn_half_sets(twin_id)


def with_same_pixels(table: ParticleTable, group: np.ndarray) -> ParticleTable:
    """The particles with images of one ``group`` (n,), pixel by pixel the same, as rows that name one image.

    They have one ``twin_id``, and one half set where half sets were drawn; those that the star file states stay.
    """
    lowest = np.full(group.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, group, table.twin_id)
    drawn = bool((table.half_set == drawn_half_sets(table.twin_id)).all())
    return replace(table, twin_id=lowest[group],
                   half_set=drawn_half_sets(lowest[group]) if drawn else table.half_set)


def drawn_half_sets(particle_id: np.ndarray) -> np.ndarray:
    """(n,) uint8 of 1 and 2, by a fixed hash of the id alone (splitmix64, Steele et al. 2014).

    So a particle stays in its half whatever the order of rows or the subset.
    """
    x = particle_id.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (1 + ((x ^ (x >> np.uint64(31))) & np.uint64(1))).astype(np.uint8)


def _chosen_rows(table: RelionTable, halves: np.ndarray, max_images: int, half_set: int) -> np.ndarray:
    rows = np.arange(len(table))[:max_images or None]
    if half_set:
        rows = rows[halves[rows] == half_set]
        if len(rows) == 0:
            raise DataError(f"{table.star}: half set {half_set} holds 0 of the particles in use.",
                            "Use more particles, or both halves.")
    return rows


def _check_image_size(table: RelionTable, rows: np.ndarray, headers: tuple[StackHeader, ...],
                      box_px: int) -> None:
    if not table.has("rlnImageSize"):
        return
    sizes = table.numbers("rlnImageSize")[rows]
    other = np.flatnonzero(sizes != box_px)
    if len(other):
        raise DataError(f"{table.star}: rlnImageSize is {sizes[other[0]]:g}, the images of {headers[0].path} "
                        f"are {box_px} pixels wide, so the pixel size cannot be trusted.",
                        "Use the stack that belongs to this star file.")
