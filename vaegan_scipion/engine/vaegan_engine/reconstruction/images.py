"""Particle images as Fourier coefficients in a band, read in chunks."""
from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..physics.ctf import ctf_at
from ..physics.fourier_band import Band, columns_of, image_transforms, make_band, shell_sums
from ..physics.memory_limit import share_bytes
from ..physics.shards import in_parts, shared_parts
from ..physics.slices import half_radius

_READ_IMAGES = 1024  # at a time
_READ_PIXELS = 2 ** 23  # at a time, of some 20 bytes each with their transforms
MOST_STORED = 2 ** 28  # coefficients, of 8 bytes: 2 GB
STORED_PART = 0.3  # of the memory that a run may hold
_STORED_IMAGES = 2 ** 14  # at a time, to a store in memory or on disk
_SAMPLE_IMAGES = 1000  # for the starting noise and scale


@dataclass(frozen=True)
class Stored:
    """Transforms ``(n, p)`` of all images in the widest band that the coarse stages read."""

    band: Band
    transforms: Tensor


class ImageSource(Protocol):
    """Images ``(n, d, d)`` by row numbers: an array, a memory map, or what prepares them as they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d, d)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any) -> Any: ...


@dataclass(frozen=True)
class Images:
    """Prepared particles: images ``(n, d, d)``, float16 where they are kept, and CTF rows ``(n, 8)``.

    ``stored`` holds transforms that need not be made from the images again.
    ``contrast`` (n,), where it is known, is a factor of the CTF; ``contrast_spread`` its standard deviation, 0 where
    all are alike.
    """

    images: ImageSource
    ctf: np.ndarray
    pixel_size_ang: float
    device: torch.device
    contrast: np.ndarray | None = None
    contrast_spread: float = 0.0
    stored: Stored | None = None

    @property
    def box_px(self) -> int:
        """Side of the images."""
        return int(self.images.shape[-1])

    def __len__(self) -> int:
        return len(self.images)

    def strength(self, rows: np.ndarray) -> Tensor | None:
        """What log likelihood ratios of images are proportional to: contrast squared; None where it is unknown."""
        return None if self.contrast is None else torch.from_numpy(self.contrast[rows]).to(self.device).square()

    def coefficients(self, rows: np.ndarray, band: Band) -> tuple[Tensor, Tensor]:
        """Transforms and CTF ``(len(rows), p)`` of some images."""
        table = torch.from_numpy(np.asarray(self.ctf[rows], np.float32)).to(self.device)
        ctf = ctf_at(table, band.kxy / self.box_px, self.pixel_size_ang)
        if self.contrast is not None:
            ctf *= torch.from_numpy(self.contrast[rows]).to(self.device)[:, None]
        return self.transforms(rows, band), ctf

    def transforms(self, rows: np.ndarray, band: Band) -> Tensor:
        """Transforms ``(len(rows), p)`` of some images."""
        if self.stored is not None and band.radius <= self.stored.band.radius:
            own = self.stored.transforms[torch.from_numpy(rows).to(self.device)]
            return own[:, columns_of(band, self.stored.band)]
        made = torch.empty(len(rows), len(band.index), dtype=torch.complex64, device=self.device)

        def read(first: int, end: int) -> None:  # whole transforms are much larger than what is kept
            images = np.asarray(self.images[rows[first:end]], np.float32)
            made[first:end] = image_transforms(torch.from_numpy(images).to(self.device), band)

        in_parts(read, len(rows), self.n_read)
        return made

    @property
    def n_read(self) -> int:
        """Images that are read at a time."""
        return max(1, min(_READ_IMAGES, _READ_PIXELS // self.box_px ** 2))

    def with_stored(self, radius: float, folder: Path | None = None, most: int = MOST_STORED) -> Images:
        """The images with their transforms within ``radius`` shells in memory, where there is room (``stored_bytes``).

        Where there is none they go to a file in ``folder`` that is gone with the run, if one is given; a GPU reads
        the images again.
        """
        band, rows = make_band(self.box_px, radius, self.device), np.arange(len(self))
        plain = replace(self, stored=None)
        if stored_bytes(len(rows), len(band.index), most):
            values = torch.empty(len(rows), len(band.index), dtype=torch.complex64, device=self.device)
        elif folder is None or self.device.type != "cpu":
            return self
        else:
            values = torch.from_numpy(file_of(folder, (len(rows), len(band.index))))
        for first in range(0, len(rows), _STORED_IMAGES):
            some = rows[first:first + _STORED_IMAGES]

            def part(start: int, end: int, some: np.ndarray = some) -> Tensor:
                return plain.transforms(some[start:end], band)

            values[first:first + len(some)] = torch.cat(shared_parts(part, len(some), self.n_read))
        return replace(self, stored=Stored(band, values))

    def part(self, rows: np.ndarray) -> Images:
        """Some of the images, in memory."""
        stored = self.stored and Stored(self.stored.band, self.stored.transforms[torch.from_numpy(rows)])
        return replace(self, images=np.asarray(self.images[rows]), ctf=np.asarray(self.ctf[rows]), stored=stored,
                       contrast=None if self.contrast is None else self.contrast[rows])


def stored_bytes(n: int, n_points: int, most: int = MOST_STORED) -> int:
    """Bytes of the transforms of n images in memory; 0 where they are more than ``most``, or than there is room for."""
    fits = n * n_points <= most and 8 * n * n_points <= share_bytes(STORED_PART)
    return 8 * n * n_points if fits else 0


def file_of(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """Complex numbers ``(n, p)`` in a file without a name in ``folder``: its room is set aside, and freed at the end.

    Raises OSError where there is no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        os.posix_fallocate(stream.fileno(), 0, 8 * shape[0] * shape[1])
        return np.memmap(stream, np.complex64, "r+", shape=shape)


def spread_rows(n: int, wanted: int) -> np.ndarray:
    """At most ``wanted`` row numbers spread evenly over n."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(np.int64))


def image_power(data: Images) -> Tensor:
    """Mean squared coefficient per shell ``(d//2 + 1,)`` of the images: the starting noise."""
    band = make_band(data.box_px, data.box_px / 2, data.device)
    transforms, _ = data.coefficients(spread_rows(len(data), _SAMPLE_IMAGES), band)
    counts = shell_sums(torch.ones_like(band.weight), band).clamp_min(1)
    power = shell_sums(transforms.abs().square().mean(0), band) / counts
    # the corner shell has too few points inside the Nyquist circle
    power[-1] = power[-2]
    return power.clamp_min(1e-6 * float(power.max()))


def low_passed(maps: Tensor, radius: float) -> Tensor:
    """Maps ``(c, d, d, d)`` with a soft cut at ``radius`` shells."""
    d = maps.shape[-1]
    keep = torch.sigmoid((radius - half_radius(d, maps.device)) / 0.4)
    return torch.fft.irfftn(torch.fft.rfftn(maps, dim=(1, 2, 3)) * keep, s=(d, d, d), dim=(1, 2, 3))
