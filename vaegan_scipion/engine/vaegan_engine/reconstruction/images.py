"""Particle images as Fourier coefficients in a band, read in chunks."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, image_coefficients, make_band, shell_sums
from ..physics.slices import half_radius

_READ_IMAGES = 1024  # at a time
_SAMPLE_IMAGES = 1000  # for the starting noise and scale


@dataclass(frozen=True)
class Images:
    """Prepared particles: float16 images ``(n, d, d)`` and CTF rows ``(n, 8)``, often memory-mapped.

    ``contrast`` (n,), where it is known, is a factor of the CTF; ``contrast_spread`` its standard deviation, 0 where
    all are alike.
    """

    images: np.ndarray
    ctf: np.ndarray
    pixel_size_ang: float
    device: torch.device
    contrast: np.ndarray | None = None
    contrast_spread: float = 0.0

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
        transforms = torch.empty(len(rows), len(band.index), dtype=torch.complex64, device=self.device)
        ctf = torch.empty(transforms.shape, device=self.device)
        for first in range(0, len(rows), _READ_IMAGES):  # whole transforms are much larger than what is kept
            at = slice(first, first + _READ_IMAGES)
            images = torch.from_numpy(np.asarray(self.images[rows[at]], np.float32)).to(self.device)
            table = torch.from_numpy(np.asarray(self.ctf[rows[at]], np.float32)).to(self.device)
            transforms[at], ctf[at] = image_coefficients(images, table, self.pixel_size_ang, band)
            if self.contrast is not None:
                ctf[at] *= torch.from_numpy(self.contrast[rows[at]]).to(self.device)[:, None]
        return transforms, ctf


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
