"""RELION star files, 3.0 and 3.1+, as one table of particles with typed columns.

RELION 3.0 has one data block; from 3.1 on, values shared by an optics group stand in a block of
their own and are joined by ``rlnOpticsGroup``. Blocks and columns may come in any order. Where
both blocks hold a column, the particle's value counts, as in RELION. Parser: ``starfile``.
"""
from __future__ import annotations

import hashlib
import linecache
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile

from ..contract.errors import DataError
from .stacks import unreadable

IMAGE_NAME = "rlnImageName"
NAMES = [IMAGE_NAME, "rlnMicrographName", "rlnGroupName", "rlnOpticsGroupName"]  # text, "002" included
OPTICS_GROUP = "rlnOpticsGroup"
_READ_BYTES = 2 ** 22


@dataclass(frozen=True)
class RelionTable:
    """One row per particle; shared optics values are looked up on demand."""

    star: Path
    particles: pd.DataFrame
    optics: pd.DataFrame | None
    optics_row: np.ndarray  # (n,) row of ``optics`` of each particle

    def __len__(self) -> int:
        return len(self.particles)

    def has(self, name: str) -> bool:
        """Whether the particles or their optics groups have this column."""
        return name in self.particles or (self.optics is not None and name in self.optics)

    def numbers(self, name: str) -> np.ndarray:
        """Column ``name`` as (n,) float64, finite. Raises DataError that names row and value."""
        if name in self.particles:
            return self._finite(self.particles[name], name, "particle")
        if self.optics is None or name not in self.optics:
            raise missing_columns(self.star, [name])
        return self._finite(self.optics[name], name, "optics")[self.optics_row]

    def _finite(self, column: pd.Series, name: str, block: str) -> np.ndarray:
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{self.star}: {name} is {column.iloc[bad[0]]!r} in {block} row {bad[0] + 1} "
                            f"({len(bad)} such rows), it must be a finite number.",
                            "Correct or remove these rows.")
        return values


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
    blocks = _blocks(star)
    tables = {name: pd.DataFrame([block]) if isinstance(block, Mapping) else block
              for name, block in blocks.items()}
    with_images = [name for name in tables if IMAGE_NAME in tables[name]]
    if not with_images:
        raise DataError(f"{star}: no data block has the column {IMAGE_NAME} "
                        f"(blocks found: {', '.join(map(repr, tables)) or 'none'}).",
                        "Give the star file of extracted particles.")
    name = "particles" if "particles" in with_images else with_images[0]
    particles = tables.pop(name)
    if len(particles) == 0:
        raise _no_particles(star)
    optics = next((table for table in tables.values()
                   if OPTICS_GROUP in table and IMAGE_NAME not in table), None)
    return RelionTable(star, particles, optics, _optics_rows(star, particles, optics))


def _no_particles(star: Path) -> DataError:
    return DataError(f"{star}: the star file holds 0 particles, at least 1 is needed.",
                     "Check the job that wrote it.")


def _blocks(star: Path) -> dict[str, Any]:
    try:
        with open(star, "rb") as stream:
            is_empty = not stream.read(1)
    except OSError as error:
        raise unreadable("star file", star, error) from error
    if is_empty:
        raise _no_particles(star)
    linecache.clearcache()  # the parser reads through it; an earlier failed parse leaves old lines
    try:
        return starfile.read(star, always_dict=True, parse_as_string=NAMES)
    except pd.errors.EmptyDataError as error:
        raise _no_particles(star) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{star}: cannot be read as a STAR file ({reason}).",
                        "Each row needs as many values as the loop has columns.") from error


def _optics_rows(star: Path, particles: pd.DataFrame, optics: pd.DataFrame | None) -> np.ndarray:
    n = len(particles)
    if optics is None:
        return np.zeros(n, np.int64)
    if OPTICS_GROUP not in particles:
        if len(optics) == 1:
            return np.zeros(n, np.int64)
        raise DataError(f"{star}: there are {len(optics)} optics groups but the particles have no column "
                        f"{OPTICS_GROUP}.", "Add the column, or keep one optics group.")
    groups = pd.Index(pd.to_numeric(optics[OPTICS_GROUP], errors="coerce"))
    if not groups.is_unique:
        raise DataError(f"{star}: optics group {groups[groups.duplicated()][0]} is defined twice.",
                        "Keep one row per optics group.")
    wanted = pd.to_numeric(particles[OPTICS_GROUP], errors="coerce")
    rows = groups.get_indexer(wanted)
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        raise DataError(f"{star}: particle row {unknown[0] + 1} has {OPTICS_GROUP} "
                        f"{particles[OPTICS_GROUP].iloc[unknown[0]]}, the optics block has "
                        f"{', '.join(map(str, groups[:10]))}.",
                        "Add the optics group or remove these particles.")
    return np.asarray(rows, np.int64)
