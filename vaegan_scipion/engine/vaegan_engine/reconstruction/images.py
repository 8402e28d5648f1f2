"""Particle images as Fourier coefficients in a band, read in chunks."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..physics.ctf import ctf_at
from ..physics.fourier_band import Band, columns_of, image_transforms, make_band, shell_sums
from ..physics.shards import in_parts
from ..physics.slices import half_radius

_READ_IMAGES = 1024  # at a time
_READ_PIXELS = 2 ** 23  # at a time, of some 20 bytes each with their transforms
MOST_STORED = 2 ** 28  # coefficients, of 8 bytes: 2 GB
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

        in_parts(read, len(rows), max(1, min(_READ_IMAGES, _READ_PIXELS // self.box_px ** 2)))
        return made

    def with_stored(self, radius: float) -> Images:
        """The images with their transforms within ``radius`` shells in memory, where these are at most MOST_STORED."""
        band, rows = make_band(self.box_px, radius, self.device), np.arange(len(self))
        if len(rows) * len(band.index) > MOST_STORED:
            return self
        return replace(self, stored=Stored(band, replace(self, stored=None).transforms(rows, band)))

    def part(self, rows: np.ndarray) -> Images:
        """Some of the images, in memory."""
        stored = self.stored and Stored(self.stored.band, self.stored.transforms[torch.from_numpy(rows)])
        return replace(self, images=np.asarray(self.images[rows]), ctf=np.asarray(self.ctf[rows]), stored=stored,
                       contrast=None if self.contrast is None else self.contrast[rows])


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
