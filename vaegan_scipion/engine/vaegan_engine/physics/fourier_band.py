"""Images as the Fourier coefficients below a resolution limit, each real degree of freedom once.

A band of radius ``K`` holds the coefficients ``|k| <= K`` (cycles per box) of a half plane without the
mirror copies on its edge; ``weight`` is 2 where a coefficient stands for itself and its conjugate.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .projection import half_plane_points, images_to_slices


@dataclass(frozen=True)
class Band:
    """Coefficients of a ``box_px`` image within ``radius`` cycles per box."""

    box_px: int
    radius: float
    index: Tensor  # (p,) positions in the flattened (d, d//2 + 1) half plane
    kxy: Tensor  # (p, 2) x, y in cycles per box
    weight: Tensor  # (p,) 1 or 2
    shell: Tensor  # (p,) int64, round(|k|)

    @property
    def n_shells(self) -> int:
        """Length of a radial table: shells 0 .. Nyquist."""
        return self.box_px // 2 + 1


def make_band(box_px: int, radius: float, device: torch.device | str = "cpu") -> Band:
    """Band of all frequencies ``|k| <= radius`` and inside the Nyquist circle."""
    index, kxy = half_plane_points(box_px, torch.device(device), torch.float32)
    length = kxy.norm(dim=1)
    kept = (length <= radius + 1e-4) & ~((kxy[:, 0] == 0) & (kxy[:, 1] < 0))
    length = length[kept]
    return Band(box_px, float(radius), index[kept], kxy[kept],
                torch.where(length == 0, 1.0, 2.0), length.round().long())


def image_transforms(images: Tensor, band: Band) -> Tensor:
    """Transforms ``(n, p)`` complex of images ``(n, d, d)``."""
    return images_to_slices(images).flatten(1)[:, band.index]


def columns_of(band: Band, wider: Band) -> Tensor:
    """Where the coefficients of a band ``(p,)`` are among those of a wider one of the same images."""
    return torch.searchsorted(wider.index, band.index)


def shift_phases(band: Band, shifts_px: Tensor) -> Tensor:
    """``exp(+2 pi i k.s / d)`` ``(s, p)``: takes a shift ``(s, 2)`` of the content (x, y) back."""
    angle = (2 * math.pi / band.box_px) * (shifts_px @ band.kxy.T)
    return torch.polar(torch.ones_like(angle), angle)


def shift_grid(largest_px: float, step_px: float, device: torch.device | str = "cpu") -> Tensor:
    """Shifts ``(s, 2)`` on a square lattice through 0, each coordinate within ``largest_px``."""
    n = math.ceil(largest_px / step_px - 1e-6)
    line = torch.linspace(-n * step_px, n * step_px, 2 * n + 1, device=device).clamp(-largest_px, largest_px)
    return torch.cartesian_prod(line, line).reshape(-1, 2)


def shell_sums(values: Tensor, band: Band) -> Tensor:
    """Sums over shells ``(n_shells,)`` of values ``(p,)``."""
    return torch.zeros(band.n_shells, device=values.device).index_add_(0, band.shell, values)
