"""MRC image stacks (.mrcs, .mrc) read by memory map, in blocks, and checked.

Modes 0 (int8), 1 (int16), 2 (float32), 6 (uint16) and 12 (float16), little and big endian. The
byte order is taken from the dimensions and the mode, not from the machine stamp, which old
programs left empty. Pixel type: ``mrcfile`` (MRC2014), but bytes of mode 0 are unsigned where IMOD's
stamp says so, or where the header's statistics can be those of unsigned bytes only.
"""
from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mrcfile.utils
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from ..contract.errors import DataError

HEADER_BYTES = 1024
READABLE_MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}
LARGEST_SIDE_PX = 2 ** 16  # a larger side is a header in the other byte order
NAMES_SHOWN = 3
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
_IMOD_STAMP, _IMOD_AT, _IMOD_SIGNED = 1146047817, 152, 1  # its place in the header; the flag that follows it


@dataclass(frozen=True)
class StackHeader:
    """What is needed to find the pixels: (n_images, ny, nx) values of ``dtype`` from ``offset_bytes``."""

    path: Path
    n_images: int
    ny: int
    nx: int
    dtype: np.dtype
    offset_bytes: int
    pixel_size_ang: float = 0.0  # of the header; 0 where it has none


def read_header(path: Path) -> StackHeader:
    """Read and check a stack's header and its file size. Raises DataError."""
    try:
        with open(path, "rb") as stream:
            raw = stream.read(HEADER_BYTES)
            size_bytes = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise unreadable("stack", path, error) from error
    if len(raw) < HEADER_BYTES:
        raise DataError(f"{path}: the stack is truncated: {size_bytes} bytes, an MRC header alone has "
                        f"{HEADER_BYTES}.", "Copy or extract it again.")
    packed = next((name for magic, name in COMPRESSED.items() if raw.startswith(magic)), None)
    if packed is not None:
        raise DataError(f"{path}: the stack is compressed ({packed}), it must be plain MRC.",
                        "Unpack it and name the unpacked file in the star file.")
    header = _decoded(raw)
    if header is None:
        raise DataError(f"{path}: no MRC stack: neither byte order gives positive dimensions and a mode "
                        f"that can be read ({_mode_list()}).",
                        "Give an MRC stack, or convert it, for example with relion_image_handler.")
    dtype = np.dtype("u1") if has_unsigned_bytes(raw, header) else mrcfile.utils.data_dtype_from_header(header)
    nx, ny, n_images = (int(header[name]) for name in ("nx", "ny", "nz"))
    offset_bytes = HEADER_BYTES + max(0, int(header["nsymbt"]))
    image_bytes = nx * ny * dtype.itemsize
    if size_bytes < offset_bytes + n_images * image_bytes:
        whole = max(0, size_bytes - offset_bytes) // image_bytes
        raise DataError(f"{path}: the stack is truncated: its header promises {n_images} images "
                        f"({offset_bytes + n_images * image_bytes} bytes), the file has {size_bytes} bytes "
                        f"({whole} whole images).", "Copy or extract it again.")
    columns = int(header["mx"])
    pixel_size_ang = float(header["cella"]["x"]) / columns if columns > 0 else 0.0
    return StackHeader(Path(path), n_images, ny, nx, dtype, offset_bytes,
                       pixel_size_ang if 0 < pixel_size_ang < np.inf else 0.0)


def has_unsigned_bytes(raw: bytes, header: np.ndarray) -> bool:
    """Whether mode 0 means 0 to 255: by IMOD's stamp, else where the smallest and largest value fit nothing else."""
    if int(header["mode"]) != 0:
        return False
    stamp, flags = np.frombuffer(raw, header["mode"].dtype, 2, _IMOD_AT)
    if stamp == _IMOD_STAMP:
        return not flags & _IMOD_SIGNED
    return bool(0 <= header["dmin"] <= header["dmax"] and 127 < header["dmax"] <= 255)


def _decoded(raw: bytes) -> np.recarray | None:
    for order in "<>":
        header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order)).reshape(()).view(np.recarray)
        sides = [int(header[name]) for name in ("nx", "ny", "nz")]
        if (int(header["mode"]) in READABLE_MODES and min(sides) > 0
                and max(sides[:2]) < LARGEST_SIDE_PX):
            return header
    return None


def _mode_list() -> str:
    return ", ".join(f"{mode} = {name}" for mode, name in READABLE_MODES.items())


def unreadable(what: str, path: Path, error: OSError) -> DataError:
    """One sentence for a file that the system does not give out."""
    hint = ("Correct the path." if isinstance(error, (FileNotFoundError, NotADirectoryError)) else
            "Give a file, not a folder." if isinstance(error, IsADirectoryError) else
            "Grant read permission on it and on its folder."
            if isinstance(error, PermissionError) else "Check the disk and copy the file again.")
    return DataError(f"{path}: the {what} cannot be read ({error.strerror or error}).", hint)


def common_box_px(headers: Sequence[StackHeader]) -> int:
    """Side of the square images, the same in every stack. Raises DataError."""
    first = headers[0]
    for header in headers:
        if header.nx != header.ny:
            raise DataError(f"{header.path}: the images are {header.nx} x {header.ny} pixels, they must be "
                            "square.", "Extract the particles with a square box.")
        if header.nx != first.nx:
            raise DataError(f"{header.path}: the images are {header.nx} pixels wide, those of {first.path} "
                            f"{first.nx}; one box is needed.",
                            "Extract all particles with one box, or give the sets one by one.")
    return first.nx


def read_images(headers: Sequence[StackHeader], stack_index: np.ndarray,
                slice_index: np.ndarray) -> np.ndarray:
    """Read the images of some rows, each stack opened once. Raises DataError.

    Parameters
    ----------
    headers : the stacks, all of one box d
    stack_index, slice_index : (n,) int; stack and 0-based image of each row

    Returns
    -------
    (n, d, d) float32, C-contiguous, in the rows' order. Only these images are held in memory.
    """
    box_px = headers[int(stack_index[0])].nx
    images = np.empty((len(stack_index), box_px, box_px), np.float32)
    for stack in np.unique(stack_index):
        rows = np.flatnonzero(stack_index == stack)
        rows = rows[np.argsort(slice_index[rows], kind="stable")]
        header = headers[int(stack)]
        try:
            pixels = np.memmap(header.path, header.dtype, "r", header.offset_bytes,
                               (header.n_images, header.ny, header.nx))
        except (OSError, ValueError) as error:  # changed or removed since its header was read
            cause = error if isinstance(error, OSError) else OSError(0, str(error))
            raise unreadable("stack", header.path, cause) from error
        images[rows] = pixels[slice_index[rows]]
        del pixels
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(images.sum(axis=(1, 2))))
    for row in suspects:
        n_bad = int((~np.isfinite(images[row])).sum())
        if n_bad:
            raise DataError(f"{headers[int(stack_index[row])].path}: image {int(slice_index[row]) + 1} has "
                            f"{n_bad} values that are NaN or infinite.",
                            "Remove that particle from the star file or extract it again.")
    return images


def check_slices(headers: Sequence[StackHeader], stack_index: np.ndarray, slice_index: np.ndarray,
                 row_number: np.ndarray, star: Path) -> None:
    """Refuse rows that point outside their stack. ``row_number`` (n,) counts the star's rows from 1."""
    n_images = np.array([header.n_images for header in headers])[stack_index]
    outside = np.flatnonzero((slice_index < 0) | (slice_index >= n_images))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{star}: particle row {int(row_number[row])} points at image {int(slice_index[row]) + 1} of "
            f"{headers[int(stack_index[row])].path}, which holds images 1 to {int(n_images[row])} "
            f"({len(outside)} such rows).", "Use the stack that belongs to this star file.")


def locate_stacks(names: Sequence[str], star: Path) -> tuple[list[Path | None], list[Path]]:
    """Find the stacks that a star file names.

    A relative name is tried from the star file's folder, then from the current folder (the
    project), then from each folder above the star file (RELION and Scipion write names relative
    to the project, and the star file deeper inside it), then, where the star file is a link, from the
    folders of the file itself. A name that is not there is tried without a leading ``>`` (cryoSPARC) and
    without a trailing ``:mrcs`` (Xmipp, EMAN).

    Returns
    -------
    paths : one per name, None where there is no such file
    searched : the folders that relative names were tried from
    """
    parents, of_file = list(star.absolute().parents), list(star.resolve().parents)
    folders = list(dict.fromkeys([parents[0], Path.cwd(), *parents[1:-1], *of_file[:-1]]))
    return [_located(name, folders) for name in names], folders


def stack_from(folder: Path, name: str) -> Path | None:
    """The file that ``name``, as it is written, means in a star file in ``folder``, whatever the current folder is."""
    places = [Path(name)] if os.path.isabs(name) else [place / name for place in (folder, *folder.parents[:-1])]
    return _first_file(places)


def _located(name: str, folders: Sequence[Path]) -> Path | None:
    bare = re.sub(r":mrcs?$", "", name.removeprefix(">"))
    for spelling in dict.fromkeys((name, bare)):
        path = _first_file([Path(spelling)] if os.path.isabs(spelling) else [folder / spelling for folder in folders])
        if path is not None:
            return path
    return None


def _first_file(paths: Sequence[Path]) -> Path | None:
    refused: DataError | None = None
    for path in paths:
        try:
            if stat.S_ISREG(os.stat(path).st_mode):
                return path
        except PermissionError as error:
            refused = refused or unreadable("stack", path, error)
        except (OSError, ValueError):
            continue
    if refused is not None:
        raise refused
    return None


def missing_stacks(names: Sequence[str], paths: Sequence[Path | None], folders: Sequence[Path],
                   star: Path) -> DataError:
    """One sentence for stacks that are not where the star file says."""
    missing = [name for name, path in zip(names, paths, strict=True) if path is None]
    shown = ", ".join(str(folder) for folder in folders[:NAMES_SHOWN])
    where = "" if os.path.isabs(missing[0]) else (
        f"; looked in {shown}" + (" and the folders above" if len(folders) > NAMES_SHOWN else ""))
    return DataError(
        f"{star}: {len(missing)} of {len(names)} stacks are missing, the first is {missing[0]}{where}.",
        "Run in the project's folder, put the stack there, or name the one stack that holds these images "
        "with --stack FILE.")
