"""Image names of RELION star files, ``000001@stack.mrcs``: read, found, and written for another folder."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract.errors import DataError
from .stacks import StackHeader, check_slices, locate_stacks, missing_stacks, read_header, stack_from
from .star_files import IMAGE_NAME, RelionTable
from .star_text import encoded

DIMENSIONALITY = "rlnImageDimensionality"
NO_NUMBER = -1
_MOST_DIGITS = 15


@dataclass(frozen=True)
class ImageNames:
    """Image names of n rows, each stack's name held once."""

    stacks: list[str]
    stack_index: np.ndarray  # (n,) int64 into stacks
    number: np.ndarray  # (n,) int64, image in its stack from 1; NO_NUMBER where the name has none

    def rows(self, chosen: np.ndarray) -> ImageNames:
        """Some rows; stacks that none of them names are left out."""
        used, index = np.unique(self.stack_index[chosen], return_inverse=True)
        return ImageNames([self.stacks[i] for i in used], index.astype(np.int64), self.number[chosen])

    def first_of_same(self, particle_id: np.ndarray) -> np.ndarray:
        """(n,) of each row the row of lowest id that names the same image: itself where there is one alone."""
        order = np.lexsort((particle_id, self.number, self.stack_index))
        stack, number = self.stack_index[order], self.number[order]
        is_first = np.r_[True, (stack[1:] != stack[:-1]) | (number[1:] != number[:-1])]
        first = np.empty(len(order), np.int64)
        first[order] = order[is_first][np.cumsum(is_first) - 1]
        return first


def with_one_name_each(names: ImageNames, star: Path) -> ImageNames:
    """The same images, where each file counts once, whatever its name: by links, ``./`` and absolute paths too.

    A stack that is not there keeps its name, which other rows may mean otherwise.
    """
    if len(names.stacks) < 2:
        return names
    try:
        paths = locate_stacks(names.stacks, star)[0]
    except DataError:  # one may not be read: if its rows are used, they are refused where they are found
        return names
    first: dict[tuple[int, int] | str, int] = {}
    same = []
    for place, (name, path) in enumerate(zip(names.stacks, paths, strict=True)):
        status = path.stat() if path is not None else None
        same.append(first.setdefault(name if status is None else (status.st_dev, status.st_ino), place))
    number = np.where(names.number == NO_NUMBER, 1, names.number)  # such a file holds one image
    return ImageNames(names.stacks, np.array(same)[names.stack_index], number)


def split_names(table: RelionTable) -> ImageNames:
    """Names of all rows of a star file. Raises DataError for one that is empty or no ``NUMBER@STACK``."""
    known: dict[str, int] = {}
    stack_index, number = np.empty(len(table), np.int64), np.empty(len(table), np.int64)
    for row, text in enumerate(table.text(IMAGE_NAME)):
        digits, at, name = text.partition("@")
        if not text:
            raise DataError(f"{table.star}: {IMAGE_NAME} is empty in particle row {row + 1}.",
                            "Each row needs as many values as the loop has columns.")
        if at and not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS and name):
            raise DataError(f"{table.star}: {IMAGE_NAME} is {text!r} in particle row {row + 1}, "
                            "expected NUMBER@STACK.", "Correct the image name.")
        stack_index[row] = known.setdefault(name if at else text, len(known))
        number[row] = int(digits) if at else NO_NUMBER
    return ImageNames(list(known), stack_index, number)


@dataclass(frozen=True)
class FoundImages:
    """Where the images of n rows are."""

    headers: tuple[StackHeader, ...]
    stack_index: np.ndarray  # (n,) int64 into headers
    slice_index: np.ndarray  # (n,) int64, 0-based


def find_images(table: RelionTable, names: ImageNames, rows: np.ndarray, stack: str) -> FoundImages:
    """Stacks and slices of some rows. Raises DataError.

    ``stack``: one stack in place of those that the star file names. Where the star file names one stack, rows keep
    their image numbers; where it names several, row i is image i, and the counts must be equal.
    """
    if table.has(DIMENSIONALITY):
        other = np.flatnonzero(table.numbers(DIMENSIONALITY)[rows] != 2)
        if len(other):
            raise DataError(f"{table.star}: {DIMENSIONALITY} is {table.numbers(DIMENSIONALITY)[rows[other[0]]]:g} in "
                            f"particle row {rows[other[0]] + 1}: these are no 2D images.",
                            "Give 2D particles: extract them from micrographs, not subtomograms.")
    used = names.rows(rows)
    if stack:
        header = read_header(Path(stack))
        slices = _slices_in_one_stack(table.star, names, header)[rows]
        places = FoundImages((header,), np.zeros(len(rows), np.int64), slices)
    else:
        paths, folders = locate_stacks(used.stacks, table.star)
        if not all(paths):
            raise missing_stacks(used.stacks, paths, folders, table.star)
        places = FoundImages(tuple(read_header(path) for path in paths if path), used.stack_index,
                            np.where(used.number == NO_NUMBER, 0, used.number - 1))
        _check_single(table.star, used, places, rows)
    check_slices(places.headers, places.stack_index, places.slice_index, rows + 1, table.star)
    return places


def _check_single(star: Path, names: ImageNames, places: FoundImages, rows: np.ndarray) -> None:
    """Refuse a name without a number that means a file of several images."""
    n_images = np.array([header.n_images for header in places.headers])[places.stack_index]
    several = np.flatnonzero((names.number == NO_NUMBER) & (n_images > 1))
    if len(several):
        row = several[0]
        header = places.headers[places.stack_index[row]]
        raise DataError(f"{star}: {IMAGE_NAME} is {names.stacks[names.stack_index[row]]!r} in particle row "
                        f"{rows[row] + 1}, without the number of an image, and the file holds {header.n_images} images "
                        f"of {header.nx} x {header.ny} pixels ({len(several)} such rows).",
                        "Write NUMBER@STACK; subtomograms and tilt series are no 2D particles.")


def _slices_in_one_stack(star: Path, names: ImageNames, header: StackHeader) -> np.ndarray:
    """Slice in one given stack of every row of the star file (see ``find_images``)."""
    n = len(names.number)
    if len(names.stacks) == 1 and NO_NUMBER not in names.number:
        return names.number - 1
    if header.n_images != n:
        raise DataError(f"{header.path}: holds {header.n_images} images, {star} has {n} rows from "
                        f"{len(names.stacks)} stacks; row i can be image i only where the counts are equal.",
                        "Give the stack that was written from this star file.")
    return np.arange(n, dtype=np.int64)


def names_for(table: RelionTable, rows: np.ndarray, folder: Path, stack: str = "") -> np.ndarray:
    """Column ``rlnImageName`` ``(n,)`` of some rows for a star file in another folder.

    A name that means the same file from there, whatever the current folder is, stays as it is written; one that does
    not is written relative to ``folder``, or stays where its stack is not found. ``stack``: as of ``find_images``.
    """
    raw, names = table.particles.columns[IMAGE_NAME][rows], split_names(table)
    folder = folder.resolve()
    if stack:
        slices = _slices_in_one_stack(table.star, names, read_header(Path(stack)))[rows]
        moved = os.path.relpath(_unlinked(Path(stack)), folder)
        return encoded([f"{number:06d}@{moved}" for number in (slices + 1).tolist()])
    used = names.rows(rows)
    shown: list[str | None] = []
    for name, path in zip(used.stacks, locate_stacks(used.stacks, table.star)[0], strict=True):
        same = stack_from(folder, name) if path is not None else None
        stays = path is None or (same is not None and os.path.samefile(same, path))
        shown.append(None if stays or path is None else os.path.relpath(_unlinked(path), folder))
    if all(name is None for name in shown):
        return raw
    texts = table.particles.rows(rows).text(IMAGE_NAME)
    for row, (index, text) in enumerate(zip(used.stack_index.tolist(), texts, strict=True)):
        moved_name = shown[index]
        if moved_name is not None:
            digits, at, _ = text.partition("@")
            texts[row] = f"{digits}@{moved_name}" if at else moved_name
    return encoded(texts)


def _unlinked(path: Path) -> Path:
    """The path without links among its folders; a linked file keeps its name, whose ending tells a stack."""
    return path.parent.resolve() / path.name
