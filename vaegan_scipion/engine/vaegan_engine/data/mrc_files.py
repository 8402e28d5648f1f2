"""Read and write MRC maps, write MRC stacks; every file is complete or not there.

Reading is done by ``mrcfile``; ``stacks`` reads particle stacks by memory map. Stacks are written
as a stream of blocks, so that a full disk is an error message and not a bus error.
"""
from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import TracebackType

import mrcfile
import mrcfile.utils
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from ..contract.errors import DataError
from .stacks import has_unsigned_bytes, unreadable

VOXEL_SIZE_TOLERANCE_FRAC = 1e-3
_MODE_FLOAT32 = 2
_MRC2014 = 20140
_SPACE_GROUP_IMAGES, _SPACE_GROUP_VOLUME = 0, 1


def read_map(path: str | Path) -> tuple[np.ndarray, float]:
    """Read a cubic density map.

    Returns
    -------
    array : ``(d, d, d)`` float32, axes z, y, x whatever the file's axis order is.
    voxel_size_ang : side of a voxel.

    Raises DataError when the file is missing, no MRC map, no cube, has values that are not finite
    or no voxel size.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old programs leave stamps empty; the content is checked below
            with mrcfile.open(path, permissive=True) as mrc:
                header, data = mrc.header, mrc.data
                if data is not None and has_unsigned_bytes(header.tobytes(), header):
                    data = data.view(np.uint8)
                sizes = [float(mrc.voxel_size[axis]) for axis in "xyz"]
                axes = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    except OSError as error:
        raise unreadable("map", path, error) from error
    except ValueError as error:
        raise DataError(f"{path}: no MRC map ({error}).", "Give a map in MRC format.") from error
    if data is None:
        raise DataError(f"{path}: the map is truncated or no MRC map.", "Copy it again.")
    if data.ndim != 3 or len(set(data.shape)) != 1:
        shape = " x ".join(str(side) for side in data.shape[::-1])
        raise DataError(f"{path}: the map has {shape} voxels, it must be a cube.",
                        "Pad or crop it to a cube, for example with relion_image_handler --new_box.")
    if sorted(axes) == [1, 2, 3]:
        data = np.transpose(data, [axes.index(axis) for axis in (3, 2, 1)])
    array = np.array(data, dtype=np.float32, order="C")  # a copy: the file's own array is read-only
    _check_finite(path, array)
    if max(sizes) > min(sizes) * (1 + VOXEL_SIZE_TOLERANCE_FRAC):
        raise DataError(f"{path}: the voxels are {sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} A, they must be "
                        "cubes.", "Resample the map or correct its header.")
    _check_voxel_size(path, min(sizes))
    return array, float(np.mean(sizes))


def write_map(path: str | Path, array: np.ndarray, voxel_size_ang: float) -> None:
    """Write ``(d, d, d)`` (z, y, x) as a float32 map, atomically. Raises DataError."""
    if array.ndim != 3 or len(set(array.shape)) != 1:
        raise DataError(f"{path}: an array of shape {array.shape} is no map, it must be a cube.",
                        "Write images with write_stack.")
    with _SectionWriter(path, array.shape[0], array.shape[1], voxel_size_ang, volume=True) as writer:
        writer.append(array)


def write_stack(path: str | Path, images: np.ndarray, pixel_size_ang: float) -> None:
    """Write ``(n, d, d)`` as a float32 image stack, atomically. Raises DataError."""
    with StackWriter(path, len(images), images.shape[-1], pixel_size_ang) as writer:
        writer.append(images)


class _SectionWriter:
    """Float32 MRC file of ``n`` sections ``(d, d)``, appended in blocks, renamed when complete."""

    def __init__(self, path: str | Path, n: int, box_px: int, pixel_size_ang: float, volume: bool) -> None:
        self.path = Path(path)
        _check_voxel_size(self.path, pixel_size_ang)
        self.n, self.box_px, self.pixel_size_ang, self.volume = n, box_px, pixel_size_ang, volume
        self._part = self.path.with_name(self.path.name + ".tmp")
        self._written = 0
        self._low, self._high, self._sum, self._sum_squares = np.inf, -np.inf, 0.0, 0.0

    def __enter__(self) -> _SectionWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = open(self._part, "wb")
            self._stream.write(bytes(HEADER_DTYPE.itemsize))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return self

    def append(self, sections: np.ndarray) -> None:
        """Write the next sections ``(m, d, d)``. Raises DataError."""
        block = np.ascontiguousarray(sections, dtype="<f4")
        if block.shape[1:] != (self.box_px, self.box_px) or self._written + len(block) > self.n:
            raise ValueError(f"{block.shape} does not fit {self.n} sections of {self.box_px} px")
        _check_finite(self.path, block)
        try:
            self._stream.write(block.data)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._written += len(block)
        self._low, self._high = min(self._low, float(block.min())), max(self._high, float(block.max()))
        self._sum += float(block.sum(dtype=np.float64))
        self._sum_squares += float(np.square(block, dtype=np.float64).sum())

    def _header(self) -> bytes:
        header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
        n_values = self._written * self.box_px ** 2
        mean = self._sum / n_values
        depth = self._written if self.volume else 1
        values = {
            "nx": self.box_px, "ny": self.box_px, "nz": self._written, "mode": _MODE_FLOAT32,
            "mx": self.box_px, "my": self.box_px, "mz": depth, "mapc": 1, "mapr": 2, "maps": 3,
            "dmin": self._low, "dmax": self._high, "dmean": mean,
            "rms": np.sqrt(max(0.0, self._sum_squares / n_values - mean ** 2)),
            "ispg": _SPACE_GROUP_VOLUME if self.volume else _SPACE_GROUP_IMAGES,
            "nversion": _MRC2014, "map": b"MAP ", "machst": mrcfile.utils.machine_stamp_from_byte_order("<"),
        }
        for name, value in values.items():
            header[name] = value
        for axis, side in zip("xyz", (self.box_px, self.box_px, depth), strict=True):
            header["cella"][axis] = side * self.pixel_size_ang
        for angle in ("alpha", "beta", "gamma"):
            header["cellb"][angle] = 90.0
        return header.tobytes()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            with self._stream:
                if kind is None:
                    if self._written != self.n:
                        raise ValueError(f"{self._written} of {self.n} sections were written")
                    self._stream.seek(0)
                    self._stream.write(self._header())
            if kind is None:
                os.replace(self._part, self.path)
        except OSError as failure:
            if kind is None:
                raise _unwritable(self.path, failure) from failure
        finally:
            self._part.unlink(missing_ok=True)


class StackWriter(_SectionWriter):
    """Context manager that writes an image stack block by block: ``append(images (m, d, d))``."""

    def __init__(self, path: str | Path, n_images: int, box_px: int, pixel_size_ang: float) -> None:
        super().__init__(path, n_images, box_px, pixel_size_ang, volume=False)


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be written ({error.strerror or error}).",
                     "Free space on the disk, or write to another folder.")


def _check_finite(path: Path, array: np.ndarray) -> None:
    n_bad = array.size - int(np.isfinite(array).sum())
    if n_bad:
        raise DataError(f"{path}: {n_bad} of {array.size} values are NaN or infinite.",
                        "Make the map or the images again.")


def _check_voxel_size(path: Path, size_ang: float) -> None:
    if not (np.isfinite(size_ang) and size_ang > 0):
        raise DataError(f"{path}: the voxel size is {size_ang:g} A, it must be greater than 0.",
                        "Set it in the header, for example with relion_image_handler --angpix.")
