"""Variation inside one class whose poses are known: its first principal volume, and a split into two maps.

Model: ``X = C S_A[V + s U] + n`` with one number s per image. U and s are found in turn (s by least
squares with a unit normal prior, U by back-projection of the residuals weighted with s), as in 3D
variability analysis (Punjani and Fleet, J. Struct. Biol. 213, 107702, 2021) with one component. The split
begins at the two sides of s and ends as a mixture of two free maps at fixed poses.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .band import Band, shell_sums, shift_phases
from .mixture import solved
from .projection import volume_to_fourier
from .slices import PAD, gather, scatter, stencil

_CHUNK_IMAGES = 1024


class Posed(NamedTuple):
    """Images of one class at known poses, in a band."""

    moved: Tensor  # (n, p) complex transforms with their shift taken back
    ctf: Tensor  # (n, p)
    A: Tensor  # (n, 3, 3)
    band: Band

    def part(self, rows: Tensor) -> Posed:
        """Some of the images (index or mask)."""
        return Posed(self.moved[rows], self.ctf[rows], self.A[rows], self.band)


def posed(transforms: Tensor, ctf: Tensor, A: Tensor, shifts_px: Tensor, band: Band) -> Posed:
    """Images ``(n, p)`` at rotations ``(n, 3, 3)`` and shifts ``(n, 2)``."""
    return Posed(transforms * shift_phases(band, shifts_px), ctf, A, band)


def back_project(images: Posed, residual: Tensor, amplitude: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Map ``(d, d, d)`` U that makes ``sum_i |residual_i - a_i C_i S_i[U]|^2`` smallest; ``amplitude`` (n,)."""
    numerator = denominator = None
    for first in range(0, len(images.A), _CHUNK_IMAGES):
        rows = slice(first, first + _CHUNK_IMAGES)
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
    for first in range(0, len(images.A), _CHUNK_IMAGES):
        A = images.A[first:first + _CHUNK_IMAGES]
        parts.append(gather(volume_ft, stencil(images.band, A)))
    return torch.cat(parts) * images.ctf


def residual_noise(images: Posed, volume: Tensor) -> Tensor:
    """Noise variance per shell ``(d//2 + 1,)`` of ``X - C S[V]``; shells outside the band are 1."""
    power = (images.moved - project(images, volume)).abs().square().mean(0)
    counts = shell_sums(torch.ones_like(power), images.band)
    return torch.where(counts > 0, shell_sums(power, images.band) / counts.clamp_min(1), 1.0)


def principal_volume(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
                     iterations: int = 12) -> tuple[Tensor, Tensor]:
    """First principal volume U ``(d, d, d)`` about ``volume`` and the scores s ``(n,)``, of mean square 1."""
    residual = images.moved - project(images, volume)
    scores = torch.randn(len(residual), generator=rng).to(residual.device)
    component = back_project(images, residual, scores, precision, mask)
    for _ in range(iterations):
        made = project(images, component)
        power = (precision * made.abs().square()).sum(1)
        scores = (precision * (made.conj() * residual).real).sum(1) / (power + 1.0)
        scores = scores / scores.square().mean().sqrt().clamp_min(1e-12)
        component = back_project(images, residual, scores, precision, mask)
    return component, scores


class Split(NamedTuple):
    """Two maps of one class."""

    maps: Tensor  # (2, d, d, d)
    preference: Tensor  # (n,) log likelihood of map 1 minus that of map 0


def preference(images: Posed, maps: Tensor, precision: Tensor) -> Tensor:
    """Log likelihood of map 1 minus that of map 0 ``(n,)``."""
    misfits = [0.5 * (precision * (images.moved - project(images, volume)).abs().square()).sum(1) for volume in maps]
    return misfits[0] - misfits[1]


def split_in_two(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
                 iterations: int = 12) -> Split:
    """Two maps by expectation maximisation at fixed poses, from the two sides of the first principal volume."""
    component, scores = principal_volume(images, volume, precision, mask, rng)
    high = scores > scores.median()
    maps = torch.stack([volume + scores[side].mean() * component for side in (~high, high)])
    for _ in range(iterations):
        odds = preference(images, maps, precision)
        share = torch.sigmoid(odds).mean().clamp(0.02, 0.98)
        second = torch.sigmoid(odds + torch.log(share / (1 - share)))
        maps = torch.stack([weighted_map(images, side, precision, mask) for side in (1 - second, second)])
    return Split(maps, preference(images, maps, precision))


def weighted_map(images: Posed, weight: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Reconstruction with one weight per image ``(n,)``."""
    root = weight.sqrt()
    return back_project(images, images.moved * root[:, None], root, precision, mask)
