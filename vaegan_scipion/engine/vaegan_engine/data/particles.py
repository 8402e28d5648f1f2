"""Particles of a RELION star file: ids, where their images are, CTF, pixel size, half set.

The pixels are read by ``stacks`` and prepared by ``preprocess``.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..contract.errors import DataError
from .stacks import StackHeader, check_slices, common_box_px, locate_stacks, missing_stacks, read_header
from .star_files import IMAGE_NAME, OPTICS_GROUP, RelionTable, missing_columns, read_star

PARTICLE_ID = "vaeParticleId"
PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"
RANDOM_SUBSET = "rlnRandomSubset"
# RELION's names of the columns of a CTF table (ctf.CTF_COLUMNS), in its order
CTF_RELION = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnVoltage", "rlnSphericalAberration",
              "rlnAmplitudeContrast", "rlnPhaseShift")
CTF_OPTIONAL = ("rlnPhaseShift",)  # 0 where the column is missing
# No defocus, no aberration, amplitude contrast 1: chi = 0, so CTF = 1 at every frequency
UNIT_CTF = (0.0, 0.0, 0.0, 300.0, 0.0, 1.0, 0.0)
PIXEL_SIZE_TOLERANCE_FRAC = 0.005
VOLTAGE_LIMITS_KV = (10.0, 2000.0)


@dataclass(frozen=True)
class ParticleTable:
    """One row per particle, in the star file's order; rows are joined by ``particle_id``."""

    star: Path
    particle_id: np.ndarray  # (n,) int64: vaeParticleId, else the star file's row number from 1
    row_number: np.ndarray  # (n,) int64: row of the star file from 1, for messages
    headers: tuple[StackHeader, ...]  # the stacks in use
    stack_index: np.ndarray  # (n,) int64 into headers
    slice_index: np.ndarray  # (n,) int64, 0-based image in its stack
    ctf: np.ndarray  # (n, 7) float32, columns as ctf.CTF_COLUMNS
    half_set: np.ndarray  # (n,) uint8, 1 or 2
    pixel_size_ang: float
    box_px: int
    ctf_present: bool  # False: the CTF columns were ignored and ctf means 1 everywhere

    def __len__(self) -> int:
        return len(self.particle_id)


def load_particles(star: str | Path, stack: str | Path = "", max_images: int = 0, half_set: int = 0,
                   ignore_ctf: bool = False) -> ParticleTable:
    """Read and check a RELION 3.0 or 3.1+ star file and the headers of its stacks.

    Parameters
    ----------
    star : star file with ``rlnImageName``
    stack : one stack in place of those that the star file names. Where the star file names one
        stack, rows keep their image numbers; where it names several, row i is image i, and the
        counts must be equal (the order in which ``relion_stack_create`` writes).
    max_images : use only the first rows; 0 = all
    half_set : 0 = all, 1 or 2 = that half of these rows
    ignore_ctf : use a CTF of 1 in place of the CTF columns

    Raises DataError.
    """
    star = Path(star)
    table = read_star(star)
    particle_id = particle_ids(table)
    halves = half_sets(table, particle_id)
    rows = _chosen_rows(table, halves, max_images, half_set)
    headers, stack_index, slice_index = _images(table, rows, str(stack))
    check_slices(headers, stack_index, slice_index, rows + 1, star)
    box_px = common_box_px(headers)
    _check_image_size(table, rows, headers, box_px)
    ctf = _unit_ctf(len(rows)) if ignore_ctf else _ctf(table)[rows]
    return ParticleTable(star, particle_id[rows], rows + 1, headers, stack_index, slice_index, ctf,
                         halves[rows], _pixel_size_ang(table, rows), box_px, not ignore_ctf)


def particle_ids(table: RelionTable) -> np.ndarray:
    """(n,) int64: ``vaeParticleId``, else the row number from 1. Raises DataError."""
    if not table.has(PARTICLE_ID):
        return np.arange(1, len(table) + 1, dtype=np.int64)
    values = table.numbers(PARTICLE_ID)
    ids = values.astype(np.int64)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    fraction = np.flatnonzero(ids != values)
    if len(twice) or len(fraction):
        row = int(order[twice[0] + 1] if len(twice) else fraction[0])
        what = "used before" if len(twice) else "no whole number"
        raise DataError(f"{table.star}: {PARTICLE_ID} {values[row]:g} in particle row {row + 1} is {what}.",
                        f"Give every particle its own whole number, or leave {PARTICLE_ID} out.")
    return ids


def half_sets(table: RelionTable, particle_id: np.ndarray) -> np.ndarray:
    """(n,) uint8 of 1 and 2: ``rlnRandomSubset`` where it splits the set, else drawn from the id."""
    if table.has(RANDOM_SUBSET):
        subset = table.numbers(RANDOM_SUBSET)
        if set(np.unique(subset)) == {1.0, 2.0}:
            return subset.astype(np.uint8)
    return drawn_half_sets(particle_id)


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


def _images(table: RelionTable, rows: np.ndarray, stack: str) -> tuple[
        tuple[StackHeader, ...], np.ndarray, np.ndarray]:
    """Stack headers, and stack and slice of each chosen row."""
    all_names, all_slices = _split_image_names(table)
    stack_index, unique_names = pd.factorize(all_names[rows])
    names = [str(name) for name in unique_names]
    slice_index = all_slices[rows]
    if stack:
        header = read_header(Path(stack))
        slices = _slices_in_one_stack(table.star, all_names, all_slices, header)
        return (header,), np.zeros(len(rows), np.int64), slices[rows]
    found, folders = locate_stacks(names, table.star)
    if not all(found):
        raise missing_stacks(names, found, folders, table.star)
    return tuple(read_header(path) for path in found if path), stack_index, slice_index


def _slices_in_one_stack(star: Path, names: np.ndarray, slices: np.ndarray,
                         header: StackHeader) -> np.ndarray:
    """Slice in one given stack of every row of the star file (see ``load_particles``)."""
    if len(set(names)) == 1:
        return slices
    if header.n_images != len(names):
        raise DataError(f"{header.path}: holds {header.n_images} images, {star} has {len(names)} rows from "
                        f"{len(set(names))} stacks; row i can be image i only where the counts are equal.",
                        "Give the stack that was written from this star file.")
    return np.arange(len(names), dtype=np.int64)


def _split_image_names(table: RelionTable) -> tuple[np.ndarray, np.ndarray]:
    """(n,) stack names (objects) and (n,) 0-based slices of "000001@stack.mrcs"; no number means image 1."""
    column = table.particles[IMAGE_NAME]
    empty = np.flatnonzero(column.isna() | (column == ""))
    if len(empty):
        raise DataError(f"{table.star}: {IMAGE_NAME} is empty in particle row {empty[0] + 1}.",
                        "Each row needs as many values as the loop has columns.")
    parts = column.astype(str).str.partition("@")
    has_number = (parts[1] == "@").to_numpy()
    number_text = parts[0].where(has_number, "1")
    is_number = number_text.str.fullmatch(r"[0-9]{1,15}").to_numpy()
    if not is_number.all():
        row = int(np.flatnonzero(~is_number)[0])
        raise DataError(f"{table.star}: {IMAGE_NAME} is {column.iloc[row]!r} in particle row {row + 1}, "
                        "expected NUMBER@STACK.", "Correct the image name.")
    names = parts[2].where(has_number, parts[0]).to_numpy(object)
    return names, number_text.to_numpy(np.int64) - 1


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


def _unit_ctf(n: int) -> np.ndarray:
    return np.tile(np.array(UNIT_CTF, np.float32), (n, 1))


def _ctf(table: RelionTable) -> np.ndarray:
    missing = [name for name in CTF_RELION if name not in CTF_OPTIONAL and not table.has(name)]
    if missing:
        error = missing_columns(table.star, missing)
        raise DataError(error.message, error.hint + " To train without a CTF set data.ignore_ctf to true.")
    if table.has(PREMULTIPLIED) and (table.numbers(PREMULTIPLIED) == 1).any():
        raise DataError(f"{table.star}: {PREMULTIPLIED} is 1: the images were multiplied by their CTF, which the model "
                        "would apply once more.",
                        "Extract the particles again without multiplying them by their CTF.")
    ctf = np.stack([table.numbers(name) if table.has(name) else np.zeros(len(table))
                    for name in CTF_RELION], axis=1)
    _check_range(table.star, "rlnVoltage", ctf[:, 3], *VOLTAGE_LIMITS_KV, unit=" kV")
    _check_range(table.star, "rlnAmplitudeContrast", ctf[:, 5], 0.0, 1.0)
    return ctf.astype(np.float32)


def _check_range(star: Path, name: str, values: np.ndarray, low: float, high: float,
                 unit: str = "") -> None:
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        raise DataError(f"{star}: {name} is {values[outside[0]]:g} in particle row {outside[0] + 1}, it must "
                        f"lie between {low:g} and {high:g}{unit}.", "Correct the optics.")


def _pixel_size_ang(table: RelionTable, rows: np.ndarray) -> float:
    """Pixel size of the images; optics groups must agree within 0.5 %. Raises DataError."""
    name = next((name for name in ("rlnImagePixelSize", "rlnPixelSize") if table.has(name)), "")
    if name:
        sizes = table.numbers(name)[rows]
    elif table.has("rlnDetectorPixelSize") and table.has("rlnMagnification"):
        name = "rlnDetectorPixelSize * 10000 / rlnMagnification"
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = (table.numbers("rlnDetectorPixelSize") * 1e4 / table.numbers("rlnMagnification"))[rows]
    else:
        raise DataError(f"{table.star}: no pixel size: none of rlnImagePixelSize, rlnPixelSize, or "
                        "rlnDetectorPixelSize with rlnMagnification is there.",
                        "Add rlnImagePixelSize, in Angstrom, to the optics groups.")
    bad = np.flatnonzero(~((sizes > 0) & np.isfinite(sizes)))
    if len(bad):
        raise DataError(f"{table.star}: the pixel size ({name}) is {sizes[bad[0]]:g} A in particle row "
                        f"{rows[bad[0]] + 1}, it must be greater than 0.", "Correct the pixel size.")
    if sizes.max() > sizes.min() * (1 + PIXEL_SIZE_TOLERANCE_FRAC):
        groups = ""
        if table.has(OPTICS_GROUP):
            group = table.numbers(OPTICS_GROUP)[rows]
            groups = (f" (optics groups {group[sizes.argmin()]:g} and {group[sizes.argmax()]:g})")
        raise DataError(f"{table.star}: pixel sizes from {sizes.min():g} to {sizes.max():g} A{groups}, they "
                        f"may differ by {100 * PIXEL_SIZE_TOLERANCE_FRAC:g} %.",
                        "Rescale the particles to one pixel size, or give the sets one by one.")
    return float(sizes.mean())
