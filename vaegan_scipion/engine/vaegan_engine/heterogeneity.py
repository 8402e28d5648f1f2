"""Variation inside one class whose poses are known: its first principal volume, and a split into two maps.

Model: ``X = C S_A[V + s U] + n`` with one number s per image. U and s are found in turn (s by least
squares with a unit normal prior, U by back-projection of the residuals weighted with s), as in 3D
variability analysis (Punjani and Fleet, J. Struct. Biol. 213, 107702, 2021) with one component. The split
begins at the two sides of s and ends as a mixture of two free maps at fixed poses.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .band import Band, shell_sums, shift_phases
from .mixture import solved
from .projection import volume_to_fourier
from .slices import PAD, gather, scatter, stencil

CHUNK_IMAGES = 512  # at a time; more no longer fit the cache


class Posed(NamedTuple):
    """Images of one class at known poses, in a band."""

    moved: Tensor  # (n, p) complex transforms with their shift taken back
    ctf: Tensor  # (n, p)
    A: Tensor  # (n, 3, 3)
    band: Band

    def part(self, rows: Tensor) -> Posed:
        """Some of the images (index or mask)."""
        return Posed(self.moved[rows], self.ctf[rows], self.A[rows], self.band)

    def chunks(self) -> Iterator[Posed]:
        """All images, some at a time."""
        for first in range(0, len(self.A), CHUNK_IMAGES):
            at = slice(first, first + CHUNK_IMAGES)
            yield Posed(self.moved[at], self.ctf[at], self.A[at], self.band)


class InChunks(Protocol):
    """``Posed``, or images that are read as they are wanted (``posed_images``)."""

    @property
    def A(self) -> Tensor:
        """Rotations (n, 3, 3)."""
        ...

    @property
    def band(self) -> Band:
        """The coefficients."""
        ...

    def chunks(self) -> Iterator[Posed]:
        """All images, some at a time."""
        ...


def posed(transforms: Tensor, ctf: Tensor, A: Tensor, shifts_px: Tensor, band: Band) -> Posed:
    """Images ``(n, p)`` at rotations ``(n, 3, 3)`` and shifts ``(n, 2)``."""
    return Posed(transforms * shift_phases(band, shifts_px), ctf, A, band)


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


def principal_volume(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
                     iterations: int = 12) -> tuple[Tensor, Tensor]:
    """First principal volume U ``(d, d, d)`` about ``volume`` and the scores s ``(n,)``, of mean 0 and mean square 1.

    The mean is taken out in every round: ``volume`` is a little weak (its reconstruction is damped), and without
    noise what all images miss alike would be the first component.
    """
    residual = images.moved - project(images, volume)
    scores = torch.randn(len(residual), generator=rng).to(residual.device)
    component = back_project(images, residual, scores, precision, mask)
    for _ in range(iterations):
        made = project(images, component)
        power = (precision * made.abs().square()).sum(1)
        scores = (precision * (made.conj() * residual).real).sum(1) / (power + 1.0)
        scores = scores - scores.mean()
        scores = scores / scores.square().mean().sqrt().clamp_min(1e-12)
        component = back_project(images, residual, scores, precision, mask)
    return component, scores


class Split(NamedTuple):
    """Two maps of one class."""

    maps: Tensor  # (2, d, d, d)
    preference: Tensor  # (n,) log likelihood of map 1 minus that of map 0


def preference(images: InChunks, maps: Tensor, precision: Tensor, spread: float = 0.0) -> Tensor:
    """Log likelihood of map 1 minus that of map 0 ``(n,)``, at the best contrast for each (``misfits``)."""
    return misfits(images, maps[0], precision, spread) - misfits(images, maps[1], precision, spread)


def split_in_two(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
                 spread: float = 0.0, iterations: int = 12) -> Split:
    """Two maps by expectation maximisation at fixed poses, from the two sides of the first principal volume."""
    component, scores = principal_volume(images, volume, precision, mask, rng)
    high = scores > scores.median()
    maps = torch.stack([volume + scores[side].mean() * component for side in (~high, high)])
    for _ in range(iterations):
        odds = preference(images, maps, precision, spread)
        share = torch.sigmoid(odds).mean().clamp(0.02, 0.98)
        second = torch.sigmoid(odds + torch.log(share / (1 - share)))
        maps = torch.stack([weighted_map(images, side, precision, mask) for side in (1 - second, second)])
    return Split(maps, preference(images, maps, precision, spread))


def weighted_map(images: Posed, weight: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Reconstruction with one weight per image ``(n,)``."""
    root = weight.sqrt()
    return back_project(images, images.moved * root[:, None], root, precision, mask)
