"""Training images, prepared once and kept as a float16 memory map.

========================= ======================================================
``images.npy``            (n, d, d) float16, protein white, normalised
``table.npz``             particle_id, ctf, half_set, twin_id, near_ang where it is
                          known; stack_files for the check below
``meta.json``             what the cache was made from; written last
========================= ======================================================

A cache belongs to its inputs when the star file's SHA-256, the sizes and times of its stacks and
the settings that shape the images are the same; paths may change, so a project can be moved.
Everything is written as ``*.tmp`` and renamed when whole.
"""
from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..contract.boxes import cropped_box_px
from ..contract.errors import DataError
from ..contract.prepared import (
    FORMAT,
    IMAGE_FIELDS,
    IMAGES_NPY,
    META_JSON,
    TABLE_NPZ,
    CacheMeta,
)
from ..contract.record import from_json, to_json
from ..contract.result_files import CACHE, read_json, read_npz
from ..contract.settings import DataConfig
from ..runtime.progress import progress_bar
from . import image_preparation
from .image_preparation import ImagePreparation
from .particles import ParticleTable, load_particles, with_same_pixels
from .stacks import read_images
from .star_files import file_digest

if TYPE_CHECKING:
    import torch

    from ..reconstruction.images import Images

BLOCK_BYTES = 2 ** 25  # of float32 source images held at a time
SPARE_BYTES = 2 ** 20
ROWS_SHOWN = 100  # of images that cannot be used


@dataclass(frozen=True)
class ParticleCache:
    """Training images and their table; row i of every array is one particle."""

    images: np.memmap  # (n, d, d) float16, background mean 0 and std 1
    particle_id: np.ndarray  # (n,) int64
    ctf: np.ndarray  # (n, 8) float32, columns as ctf.CTF_COLUMNS
    half_set: np.ndarray  # (n,) uint8, 1 or 2
    pixel_size_ang: float  # of the training images
    box_px: int
    original_pixel_size_ang: float
    original_box_px: int
    ctf_present: bool  # False: ctf means 1 everywhere
    ids_are_rows_of: str = ""  # SHA-256 of the star file whose row numbers the ids are; "": ids of their own
    notes: tuple[str, ...] = ()  # what was ignored or changed when the images were prepared, a sentence each
    pixels: str = ""  # digest of the images; "": not known
    twins: np.ndarray | None = None  # (n,) int64 as ``twin_id``; None: not known
    near_ang: np.ndarray | None = None  # (n, k, 2) where neighbours stand, NaN where fewer; None: not known

    def __len__(self) -> int:
        return len(self.particle_id)

    def on(self, device: torch.device) -> Images:
        """The images and their CTF as expectation maximisation reads them, coefficients on a device."""
        from ..reconstruction.images import Images  # commands that only name particles need no torch

        return Images(self.images, self.ctf, self.pixel_size_ang, device)

    @property
    def twin_id(self) -> np.ndarray:
        """Of each row the lowest id of the rows of the same image ``(n,)``; its own where that is not known."""
        return self.particle_id if self.twins is None else self.twins

    def digest(self) -> str:
        """Text that other particles, or the same with another CTF, half set or image, do not have."""
        ctf = self.ctf if self.ctf[:, 7:].any() else self.ctf[:, :7]  # no image flipped: as before that column
        return digest(self.particle_id, self.half_set, ctf, np.frombuffer(self.pixels.encode(), np.uint8))


def digest(*arrays: np.ndarray) -> str:
    """Start of the SHA-256 of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def open_cache(data: DataConfig, folder: str | Path, progress: bool = True) -> ParticleCache:
    """Open the cache in ``folder``, or make it when it is missing or made from other inputs.

    Where ``data.prepared_dir`` is given, the images of ``prepare`` are taken, or refused if they are of others.
    Raises DataError on unusable input, a folder that cannot be written and a full disk; then
    nothing of the new cache is left.
    """
    folder = cache_folder(data, folder)
    if not data.particles:
        raise DataError("No particles are given.", "Name a RELION star file with --particles.")
    star_digest = file_digest(Path(data.particles))
    cache, reason = _open(data, folder, star_digest)
    if cache is not None:
        return cache
    if data.prepared_dir:
        raise DataError(f"{data.prepared_dir}: its images are not those of {data.particles} with these settings "
                        f"({reason or 'there are none'}).",
                        "Give prepare and this command the same particles and settings, or leave prepared_dir out.")
    if reason:
        sys.stderr.write(f"{folder}: the cached images do not belong to these inputs ({reason}); "
                         "they are made again.\n")
    table = load_particles(data)
    image_preparation.check_geometry(str(table.star), table.box_px, data.box_px, data.crop_frac,
                              data.particle_radius_frac)
    _build(data, table, folder, progress)
    cache, reason = _open(data, folder, table.sha256)
    if cache is None:
        raise DataError(f"{folder}: the cache cannot be read back ({reason or 'it is gone'}).",
                        "Do not change the particles while a run starts; start again.")
    sys.stderr.writelines(f"{note}\n" for note in cache.notes)
    return cache


def cache_folder(data: DataConfig, own: str | Path) -> Path:
    """Where the prepared images are: the folder of ``prepare`` where one is named, else a run's ``own``."""
    return Path(data.prepared_dir) / CACHE if data.prepared_dir else Path(own)


def _open(data: DataConfig, folder: Path, star_digest: str) -> tuple[ParticleCache | None, str]:
    """The cache if it is whole and belongs to the inputs, else why not ("" = there is none)."""
    if not os.path.isfile(folder / META_JSON):
        return None, ""
    try:
        meta = from_json(CacheMeta, read_json(folder / META_JSON), META_JSON)
        reason = meta.difference(data, star_digest)
        if reason:
            return None, reason
        table = read_npz(folder / TABLE_NPZ)
        files = [data.stack] if data.stack else _unpacked(table["stack_files"], Path(data.particles))
        if stat_digest(files) != meta.stacks:
            return None, "the image stacks changed"
        images = np.load(folder / IMAGES_NPY, mmap_mode="r")
        n, box_px = len(table["particle_id"]), data.box_px
        if images.shape != (n, box_px, box_px) or images.dtype != np.float16 or len(table["ctf"]) != n:
            return None, "it is damaged"
    except (OSError, EOFError, ValueError, KeyError, TypeError, DataError) as error:
        return None, f"it is damaged or its stacks moved: {error}"
    return ParticleCache(images, table["particle_id"], table["ctf"], table["half_set"],
                         meta.pixel_size_ang, box_px, meta.original_pixel_size_ang, meta.original_box_px,
                         meta.ctf_present, meta.ids_are_rows_of, tuple(meta.notes), meta.pixels,
                         table.get("twin_id"), table.get("near_ang")), ""


def stat_digest(files: Sequence[str | Path]) -> str:
    """Digest of sizes and modification times, in order."""
    digest = hashlib.sha256()
    for file in files:
        status = os.stat(file)
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _packed(files: Sequence[Path], star: Path) -> np.ndarray:
    base = star.resolve().parent  # of the star file itself: ".." behind a link leads elsewhere
    names = (os.path.relpath(file.parent.resolve() / file.name, base) for file in files)
    return np.frombuffer(os.fsencode("\n".join(names)), np.uint8)


def write_header(stream: BinaryIO, n: int, box_px: int) -> None:
    """Of ``images.npy``."""
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f2", "fortran_order": False, "shape": (n, box_px, box_px)})


def fingerprint_of(image: np.ndarray) -> int:
    """64 bits of a hash of the pixels, as they are stored."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest())


def _unpacked(stored: np.ndarray, star: Path) -> list[Path]:
    base = star.resolve().parent
    return [base / name for name in os.fsdecode(stored.tobytes()).split("\n")]


def _build(data: DataConfig, table: ParticleTable, folder: Path, progress: bool) -> None:
    files = [header.path for header in table.headers]
    cropped_px = cropped_box_px(table.box_px, data.crop_frac)
    meta = CacheMeta(
        FORMAT, table.sha256, stat_digest(files), bool(data.stack),
        {name: getattr(data, name) for name in IMAGE_FIELDS},
        image_preparation.training_pixel_size_ang(table.pixel_size_ang, cropped_px, data.box_px),
        table.pixel_size_ang, table.box_px, table.ctf_present, table.sha256 if table.ids_are_rows else "")
    near_bytes = 0 if table.near_ang is None else table.near_ang.nbytes
    needed_bytes = len(table) * (2 * data.box_px ** 2 + table.ctf[0].nbytes + 9) + near_bytes + SPARE_BYTES
    with whole_or_nothing(folder, needed_bytes) as parts:
        with open(parts[IMAGES_NPY], "wb") as stream:
            table, notes, pixels = _write_images(stream, data, table, progress)
            stream.flush()
            os.fsync(stream.fileno())
        with open(parts[TABLE_NPZ], "wb") as stream:
            columns = {"particle_id": table.particle_id, "ctf": table.ctf, "half_set": table.half_set,
                       "twin_id": table.twin_id, "stack_files": _packed(files, table.star)}
            if table.near_ang is not None:
                columns["near_ang"] = table.near_ang
            np.savez(stream, **columns)  # type: ignore[arg-type]  # of numpy's stub: no column is called allow_pickle
        meta = replace(meta, notes=[*table.notes, *notes], pixels=pixels)
        parts[META_JSON].write_text(json.dumps(to_json(meta), indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def whole_or_nothing(folder: Path, needed_bytes: int) -> Iterator[dict[str, Path]]:
    """Give the temporary files; rename them when the block ends, remove them when it fails."""
    made: list[Path] = []
    parts = {name: folder / f"{name}.tmp" for name in (IMAGES_NPY, TABLE_NPZ, META_JSON)}
    try:
        _make_folders(folder, made)
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < needed_bytes:
            raise _disk_full(folder, needed_bytes, free_bytes)
        yield parts
        (folder / META_JSON).unlink(missing_ok=True)
        for name, part in parts.items():  # meta.json last: it makes the cache valid
            os.replace(part, folder / name)
    except BaseException as error:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(folder, needed_bytes, _free_bytes(folder)) from error
        raise DataError(f"{folder}: the cache cannot be written ({error.strerror or error}).",
                        "Choose an output folder that you may write to.") from error


def _make_folders(folder: Path, made: list[Path]) -> None:
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    for path in reversed(missing):
        path.mkdir()
        made.append(path)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def _free_bytes(folder: Path) -> int:
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    return shutil.disk_usage(there).free


def _disk_full(folder: Path, needed_bytes: int, free_bytes: int) -> DataError:
    return DataError(f"{folder}: the disk is full: the cached images need {needed_bytes / 2 ** 20:.1f} MiB, "
                     f"{free_bytes / 2 ** 20:.1f} MiB are free (or allowed by the quota).",
                     "Free some space, choose another output folder, or use a smaller box_px or max_images.")


def _write_images(stream: BinaryIO, data: DataConfig, table: ParticleTable, progress: bool
                  ) -> tuple[ParticleTable, list[str], str]:
    """Prepare all images; the table (``with_same_pixels``), what to say of the images, and their digest."""
    n, box_px = len(table), data.box_px
    n_hot, fingerprint = np.zeros(n, np.int64), np.zeros(n, np.uint64)
    write_header(stream, n, box_px)
    rows_per_block = max(1, BLOCK_BYTES // (4 * table.box_px ** 2))
    prepare = ImagePreparation(data, table.box_px)

    def made(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        source = read_images(table.headers, table.stack_index[rows], table.slice_index[rows])
        source, hot = image_preparation.without_hot_pixels(source)
        images, divisor = prepare(source)
        check_images(table, rows, images, divisor, data)
        return images, hot

    with progress_bar(n, "Preparing images", "images", progress) as bar:
        for start in range(0, n, rows_per_block):
            rows = np.arange(start, min(n, start + rows_per_block))
            try:
                images, n_hot[rows] = made(rows)
            except DataError as error:
                if isinstance(error.__cause__, OSError):  # a stack, and none of its images
                    raise
                refused = unusable(made, np.arange(start, n), rows_per_block, progress)
                raise with_all(error, table.row_number[refused]) from error
            stored = images.astype("<f2")
            fingerprint[rows] = [fingerprint_of(image) for image in stored]
            stream.write(stored.tobytes())
            bar.update(len(images))
    _, first, group = np.unique(fingerprint, return_index=True, return_inverse=True)
    table = with_same_pixels(table, group)
    notes = _image_notes(table, n_hot, first[group])
    if prepare.n_gradients:
        notes.append(f"{table.star}: {prepare.n_gradients} of {n} images have a gradient (an edge of carbon, a wedge "
                     "of ice): the plane of their background was subtracted.")
    return table, notes, digest(fingerprint)


def unusable(made: Callable[[np.ndarray], object], rows: np.ndarray, at_once: int, progress: bool) -> np.ndarray:
    """Those of some rows whose images ``made`` refuses: so that they can be left out together, and not one by one."""
    def refused(some: np.ndarray) -> list[int]:
        try:
            made(some)
        except DataError as error:
            if isinstance(error.__cause__, OSError):
                return []
            middle = len(some) // 2
            return refused(some[:middle]) + refused(some[middle:]) if middle else some.tolist()
        return []

    found: list[int] = []
    with progress_bar(len(rows), "Looking for all images that cannot be used", "images", progress) as bar:
        for first in range(0, len(rows), at_once):
            block = rows[first:first + at_once]
            found += refused(block)
            bar.update(len(block))
    return np.array(found)


def with_all(error: DataError, row_number: np.ndarray) -> DataError:
    """The reason why the first of some images is refused, with the rows of all of them."""
    if len(row_number) < 2:
        return DataError(error.message, error.hint)
    shown = ", ".join(map(str, row_number[:ROWS_SHOWN])) + (", ..." if len(row_number) > ROWS_SHOWN else "")
    return DataError(error.message, f"{error.hint} In all {len(row_number)} images cannot be used: rows {shown} of the "
                                    "particles in the star file.")


def _image_notes(table: ParticleTable, n_hot: np.ndarray, twin: np.ndarray) -> list[str]:
    """What to say of hot pixels ``(n,)`` and of images that are the same pixel by pixel (``twin``: the first row)."""
    notes = []
    hot = np.flatnonzero(n_hot)
    if len(hot):
        notes.append(f"{table.star}: hot pixels were replaced by the median of their neighbours: {n_hot.sum()} in "
                     f"{len(hot)} of {len(n_hot)} images, the first in {_place(table, hot[0])}.")
    # rows of one image were said when the star file was read
    same = (table.stack_index == table.stack_index[twin]) & (table.slice_index == table.slice_index[twin])
    copies = np.flatnonzero((twin != np.arange(len(twin))) & ~same)
    if len(copies):
        apart = int((table.half_set[copies] != table.half_set[twin[copies]]).sum())
        where = ("in one half set" if apart == 0 else
                 f"{apart} of them in the other half set, so the half sets are not independent")
        notes.append(f"{table.star}: images that are equal, pixel by pixel, to another one: {len(copies)}, {where} "
                     f"(the first: {_place(table, copies[0])} and {_place(table, twin[copies[0]])}).")
    return notes


def _place(table: ParticleTable, row: int) -> str:
    return f"{table.headers[int(table.stack_index[row])].path}, image {int(table.slice_index[row]) + 1}"


def check_images(table: ParticleTable, rows: np.ndarray, images: np.ndarray, divisor: np.ndarray,
                 data: DataConfig) -> None:
    """Refuse images of some rows that cannot be normalised or that float16 cannot hold. Raises DataError."""
    limit = float(np.finfo(np.float16).max)
    largest = np.maximum(images.max(axis=(1, 2)), -images.min(axis=(1, 2)))
    bad = np.flatnonzero(~(largest <= limit))  # NaN where the divisor was 0
    if len(bad) == 0:
        return
    row = int(rows[bad[0]])
    where = f"{table.headers[int(table.stack_index[row])].path}: image {int(table.slice_index[row]) + 1}"
    value = f"{divisor[bad[0]]:.3g}"
    if data.normalization == "thesis":
        raise DataError(f"{where} has a signal mean minus background mean of {value}, too near 0 to divide "
                        "by (thesis normalization).", "Set data.normalization to background.")
    if not divisor[bad[0]] > 0:
        raise DataError(f"{where} has a background standard deviation of {value} outside "
                        f"particle_radius_frac {data.particle_radius_frac:g}, it must be greater than 0.",
                        "Remove blank images from the star file; particles must not be masked.")
    raise DataError(f"{where} has a pixel {largest[bad[0]]:.3g} background standard deviations from the mean"
                    f", the limit is {limit:.0f}.",
                    "Remove that image from the star file; particles must not be masked.")
