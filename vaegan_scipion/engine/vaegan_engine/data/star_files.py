"""RELION star files, 3.0 and 3.1+, as one table of particles with typed columns.

RELION 3.0 has one data block; from 3.1 on, values shared by an optics group stand in the block ``optics`` and are
joined by ``rlnOpticsGroup``. Blocks and columns may come in any order; other blocks (micrographs, ``general``) are
carried along. Where particles and optics both hold a column, the particle's value counts, as in RELION.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np

from ..contract.errors import DataError
from .stacks import unreadable
from .star_text import StarBlock, decoded, read_blocks

IMAGE_NAME = "rlnImageName"
OPTICS_GROUP = "rlnOpticsGroup"
STAR_ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")
OLD_ORIGINS = ("rlnOriginX", "rlnOriginY")  # before RELION 3.1, in pixels
OPTICS, PARTICLES = "optics", "particles"  # RELION's names of the blocks
_READ_BYTES = 2 ** 22


@dataclass(frozen=True)
class RelionTable:
    """One row per particle; shared optics values are looked up on demand."""

    star: Path
    blocks: tuple[StarBlock, ...]  # all of the file, in its order
    particles: StarBlock
    optics: StarBlock | None
    optics_row: np.ndarray  # (n,) row of ``optics`` of each particle
    sha256: str  # of the file

    def __len__(self) -> int:
        return len(self.particles)

    def has(self, name: str) -> bool:
        """Whether the particles or their optics groups have this column."""
        return name in self.particles or (self.optics is not None and name in self.optics)

    def numbers(self, name: str) -> np.ndarray:
        """Column ``name`` as (n,) float64, finite. Raises DataError that names row and value."""
        if name in self.particles:
            return self._finite(self.particles, name, "particle")
        if self.optics is None or name not in self.optics:
            raise missing_columns(self.star, [name])
        return self._finite(self.optics, name, OPTICS, np.unique(self.optics_row))[self.optics_row]

    def integers(self, name: str) -> np.ndarray:
        """Column ``name`` as (n,) int64 with all its digits. Raises DataError that names row and value."""
        block, what = (self.particles, "particle") if name in self.particles else (self.optics, OPTICS)
        if block is None or name not in block:
            raise missing_columns(self.star, [name])
        texts = block.text(name)
        values = np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            try:
                values[row] = _whole(text)
            except (ValueError, ArithmeticError):
                raise DataError(f"{self.star}: {name} {text} in {what} row {row + 1} is no whole number "
                                f"between {-2 ** 63} and {2 ** 63 - 1}.", f"Correct or leave out {name}.") from None
        return values if block is self.particles else values[self.optics_row]

    def text(self, name: str) -> list[str]:
        """Column ``name``, n texts without quotes. Raises DataError where it is missing."""
        if name in self.particles:
            return self.particles.text(name)
        if self.optics is None or name not in self.optics:
            raise missing_columns(self.star, [name])
        of_group = self.optics.text(name)
        return [of_group[row] for row in self.optics_row]

    def _finite(self, block: StarBlock, name: str, what: str, used: np.ndarray | None = None) -> np.ndarray:
        """Numbers of a column, finite in the rows ``used`` (all): a group without particles may lack a value."""
        values = as_numbers(block.columns[name])
        bad = np.flatnonzero(~np.isfinite(values))
        if used is not None:
            bad = np.intersect1d(bad, used)
        if len(bad):
            raise DataError(f"{self.star}: {name} is {decoded(block.columns[name][bad[:1]])[0]!r} in {what} row "
                            f"{bad[0] + 1} ({len(bad)} such rows), it must be a finite number.",
                            "Correct or remove these rows.")
        return values


def as_numbers(column: np.ndarray) -> np.ndarray:
    """(n,) float64 of STAR values, NaN where one is no number (``1_000`` and ``1,5`` are none)."""
    try:
        if b"_" not in b"".join(column.tolist()):
            return column.astype(np.float64)
    except ValueError:
        pass
    return np.array([_number(text) for text in decoded(column)], np.float64)


def _number(text: str) -> float:
    try:
        return float("nan") if "_" in text else float(text)
    except ValueError:
        return float("nan")


def _whole(text: str) -> int:
    """A whole number with all its digits, also one written as ``12.0``. Raises ValueError or ArithmeticError."""
    if "_" in text:
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        value = Decimal(text)
        if not abs(value) < 2 ** 63 or value != value.to_integral_value():
            raise
        return int(value)


def missing_columns(star: Path, names: list[str]) -> DataError:
    """One sentence for columns that the star file lacks."""
    what = "column" if len(names) == 1 else "columns"
    return DataError(f"{star}: the {what} {', '.join(names)} {'is' if len(names) == 1 else 'are'} missing "
                     "from the particles and the optics groups.",
                     "Export the particles with their CTF and optics from RELION or Scipion.")


def file_digest(path: Path) -> str:
    """SHA-256 of a star file. Raises DataError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise unreadable("star file", path, error) from error
    return digest.hexdigest()


def read_star(star: Path) -> RelionTable:
    """Read the particles of a RELION star file. Raises DataError."""
    blocks, sha256 = read_blocks(star)
    if not blocks:
        raise _no_particles(star)
    particles = _particles(star, blocks)
    if len(particles) == 0:
        raise _no_particles(star)
    optics = next((block for block in blocks if block.name == OPTICS and block is not particles), None)
    if optics is not None and OPTICS_GROUP not in optics:
        raise DataError(f"{star}: the block data_{OPTICS} has no column {OPTICS_GROUP}.",
                        "Add it, or write the star file again from RELION or Scipion.")
    return RelionTable(star, tuple(blocks), particles, optics, _optics_rows(star, particles, optics), sha256)


def _particles(star: Path, blocks: list[StarBlock]) -> StarBlock:
    """The block ``particles``, else the only one with images."""
    with_images = [block for block in blocks if IMAGE_NAME in block]
    named = [block for block in with_images if block.name == PARTICLES]
    if not with_images:
        raise DataError(f"{star}: no data block has the column {IMAGE_NAME} "
                        f"(blocks found: {', '.join(repr(block.name) for block in blocks)}).",
                        "Give the star file of extracted particles.")
    if len(with_images) > 1 and not named:
        raise DataError(f"{star}: the blocks {', '.join(repr(block.name) for block in with_images)} all have the "
                        f"column {IMAGE_NAME}, and none is named {PARTICLES!r}.", "Keep one of them.")
    return named[0] if named else with_images[0]


def _no_particles(star: Path) -> DataError:
    return DataError(f"{star}: the star file holds 0 particles, at least 1 is needed.",
                     "Check the job that wrote it.")


def _optics_rows(star: Path, particles: StarBlock, optics: StarBlock | None) -> np.ndarray:
    n = len(particles)
    if optics is None:
        return np.zeros(n, np.int64)
    if OPTICS_GROUP not in particles:
        if len(optics) == 1:
            return np.zeros(n, np.int64)
        raise DataError(f"{star}: there are {len(optics)} optics groups but the particles have no column "
                        f"{OPTICS_GROUP}.", "Add the column, or keep one optics group.")
    groups = as_numbers(optics.columns[OPTICS_GROUP])
    row_of: dict[float, int] = {}
    for row, group in enumerate(groups.tolist()):
        if not np.isfinite(group):
            raise DataError(f"{star}: {OPTICS_GROUP} is {optics.text(OPTICS_GROUP)[row]!r} in {OPTICS} row {row + 1}, "
                            "it must be a number.", "Number the optics groups, in the particles too.")
        if group in row_of:
            raise DataError(f"{star}: optics group {group:g} is defined twice.", "Keep one row per optics group.")
        row_of[group] = row
    rows = np.array([row_of.get(group, -1) for group in as_numbers(particles.columns[OPTICS_GROUP]).tolist()], np.int64)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        raise DataError(f"{star}: particle row {unknown[0] + 1} has {OPTICS_GROUP} "
                        f"{particles.text(OPTICS_GROUP)[unknown[0]]}, the optics block has "
                        f"{', '.join(f'{group:g}' for group in groups[:10])}.",
                        "Add the optics group or remove these particles.")
    return rows
