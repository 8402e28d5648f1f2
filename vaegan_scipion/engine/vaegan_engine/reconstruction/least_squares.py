"""Maps from images at known poses by weighted least squares, and how badly they explain the images."""
from __future__ import annotations

import torch
from torch import Tensor

from ..physics.fourier_band import shell_sums
from ..physics.projection import volume_to_fourier
from ..physics.slices import PAD, fourier_to_volume, gather, half_radius, scatter, stencil
from .posed_images import CHUNK_IMAGES, InChunks, Posed, PosedImages


def back_project(images: Posed, residual: Tensor, amplitude: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Map ``(d, d, d)`` U that makes ``sum_i |residual_i - a_i C_i S_i[U]|^2`` smallest; ``amplitude`` (n,)."""
    numerator = denominator = None
    for first in range(0, len(images.A), CHUNK_IMAGES):
        rows = slice(first, first + CHUNK_IMAGES)
        weighted = (amplitude[rows, None] * images.ctf[rows]) * precision
        top, bottom = scatter(weighted * residual[rows], weighted * amplitude[rows, None] * images.ctf[rows],
                              stencil(images.band, images.A[rows]), images.band.box_px)
        numerator = top if numerator is None else numerator + top
        denominator = bottom if denominator is None else denominator + bottom
    assert numerator is not None and denominator is not None
    return solved(numerator, denominator, images.band.box_px, images.band.radius) * mask


def project(images: Posed, volume: Tensor) -> Tensor:
    """``C_i S_i[V]`` ``(n, p)``."""
    volume_ft = volume_to_fourier(volume[None], PAD)[0]
    parts = []
    for first in range(0, len(images.A), CHUNK_IMAGES):
        A = images.A[first:first + CHUNK_IMAGES]
        parts.append(gather(volume_ft, stencil(images.band, A)))
    return torch.cat(parts) * images.ctf


def reconstruction(images: InChunks, precision: Tensor, mask: Tensor) -> Tensor:
    """Map ``(d, d, d)`` that makes ``sum_i |X_i - C_i S_i[V]|^2`` smallest."""
    numerator = denominator = None
    for part in images.chunks():
        weighted = part.ctf * precision
        top, bottom = scatter(weighted * part.moved, weighted * part.ctf, stencil(part.band, part.A), part.band.box_px)
        numerator = top if numerator is None else numerator + top
        denominator = bottom if denominator is None else denominator + bottom
    assert numerator is not None and denominator is not None
    return solved(numerator, denominator, images.band.box_px, images.band.radius) * mask


def misfits(images: InChunks, volume: Tensor, precision: Tensor, spread: float = 0.0) -> Tensor:
    """``1/2 sum_k w |X - g C S[V]|^2 + (g - 1)^2 / (2 spread^2)`` per image ``(n,)`` at its best g; g is 1 at spread 0.

    So that no image prefers a map because it is as faint as the image.
    """
    parts = []
    for part in images.chunks():
        made = project(part, volume)
        if spread:
            product = (precision * (part.moved.conj() * made).real).sum(1)
            power = (precision * made.abs().square()).sum(1)
            g = (product + spread ** -2) / (power + spread ** -2)
            parts.append(0.5 * ((precision * (part.moved - g[:, None] * made).abs().square()).sum(1)
                                + ((g - 1) / spread).square()))
        else:
            parts.append(0.5 * (precision * (part.moved - made).abs().square()).sum(1))
    return torch.cat(parts)


def residual_noise(images: InChunks, volume: Tensor) -> Tensor:
    """Noise variance per shell ``(d//2 + 1,)`` of ``X - C S[V]``; shells outside the band are 1."""
    sums = torch.stack([(part.moved - project(part, volume)).abs().square().sum(0) for part in images.chunks()])
    power = sums.sum(0) / len(images.A)
    counts = shell_sums(torch.ones_like(power), images.band)
    return torch.where(counts > 0, shell_sums(power, images.band) / counts.clamp_min(1), 1.0)


def weighted_map(images: Posed, weight: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Reconstruction with one weight per image ``(n,)``."""
    root = weight.sqrt()
    return back_project(images, images.moved * root[:, None], root, precision, mask)

WIENER_FRAC = 0.05  # added to the denominator, as a fraction of its shell's mean
_EDGE_SHELLS = 0.35  # width of the band's soft edge in the maps


def solved(numerator: Tensor, denominator: Tensor, box_px: int, radius: float) -> Tensor:
    """One map ``(d, d, d)`` from its sums ``(s, s, s//2 + 1)``; frequencies above ``radius`` shells are zero.

    ``numerator / (denominator + WIENER_FRAC * mean of the denominator in its shell)``.
    """
    k = half_radius(PAD * box_px, denominator.device)
    shell = (k / PAD).round().long().flatten().clamp(max=box_px)
    total = torch.zeros(box_px + 1, device=k.device).index_add_(0, shell, denominator.flatten())
    count = torch.bincount(shell, minlength=box_px + 1).clamp_min(1)
    mean = (total / count)[shell].view_as(denominator)
    edge = torch.sigmoid((radius - k / PAD) / _EDGE_SHELLS)
    filled = denominator > 0
    ratio = numerator / torch.where(filled, denominator + WIENER_FRAC * mean, 1.0)
    return fourier_to_volume(torch.where(filled, ratio * edge, 0.0), box_px)


def better_poses(kept: PosedImages, tried: PosedImages, volume: Tensor, precision: Tensor, iterations: int
                 ) -> tuple[PosedImages, Tensor]:
    """The same images at the better of two poses, the tried ones refined first; and the misfit ``(n,)`` there."""
    tried, cost = tried.refined(volume, precision, iterations)
    before = misfits(kept, volume, precision)
    better = cost < before
    return (PosedImages(kept.source, torch.where(better[:, None, None], tried.A, kept.A),
                        torch.where(better[:, None], tried.shifts_px, kept.shifts_px)), torch.minimum(cost, before))
