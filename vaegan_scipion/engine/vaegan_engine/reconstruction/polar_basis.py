"""Templates in few functions of radius and angle, fitted to them: an in-plane rotation multiplies each by a phase.

A template on the ring of radius r is ``S(r, t)``, with ``S(r, t + pi)`` its conjugate. Its real part has even harmonics
of the angle t alone, its imaginary part odd ones, so both are written as one series of a real function::

    s_m(r) = 1/h sum_j part_m(S(r, t_j)) exp(-i m t_j),  t_j = pi j / h,  part_m = Re for even m, Im for odd m

The rings are all those that the points of a band lie on, so nothing is interpolated between radii, and sums over the
band stay sums over its points. Of each harmonic the principal functions of the radius are kept,
``s_m(r) = sum_j c_mj u_mj(r)``, until what is left out has less than a given power: with precision weights, the log
likelihood that may be lost. After Zhao and Singer (J. Opt. Soc. Am. A 30, 871, 2013: steerable principal components).
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.fourier_band import Band
from ..physics.slices import take_slices

_LEAST = 1e-6  # weight of a ring in that of the strongest one: without amplitude contrast, a CTF is 0 at frequency 0
_SPARE_ANGLES = 6  # on the half circle, beyond those for a particle that fills the box


class Rings(NamedTuple):
    """Where the p points of a band lie: on g rings, each at its angle."""

    radius: Tensor  # (g,) cycles per box
    ring: Tensor  # (p,) int64
    angle: Tensor  # (p,) radians


class Basis(NamedTuple):
    """``b`` functions ``u(r) exp(i m t)``, and n templates as sums of them."""

    m: Tensor  # (b,) int64
    values: Tensor  # (p, b) complex, on the band's points; twice the function where m is not 0
    coefficients: Tensor  # (b, n) complex


class Lost(NamedTuple):
    """The power that may be left out of templates: a number and a part of their own."""

    power: float
    part: float


def rings_of(band: Band) -> Rings:
    """The rings of a band's points."""
    square, ring = torch.unique(band.kxy.square().sum(1).round(), return_inverse=True)
    return Rings(square.sqrt(), ring, torch.atan2(band.kxy[:, 1], band.kxy[:, 0]))


def n_angles(radius: float) -> int:
    """Samples on a half circle of ``radius`` shells for a particle that fills the box (pi r harmonics)."""
    return 4 * math.ceil((math.pi * radius + _SPARE_ANGLES) / 4)


def ring_harmonics(map_ft: Tensor, band: Band, rings: Rings, views: Tensor) -> Tensor:
    """Harmonics ``s_m`` ``(v, g, h)`` complex, m = 0 .. h - 1, of slices of a half transform along ``views``."""
    h = n_angles(band.radius)
    angle = torch.arange(h, device=views.device) * (math.pi / h)
    points = rings.radius[:, None, None] * torch.stack((angle.cos(), angle.sin()), -1)
    polar = replace(band, kxy=points.reshape(-1, 2), index=torch.arange(len(rings.radius) * h, device=views.device))
    half = take_slices(map_ft, polar, views).unflatten(1, (-1, h))
    return torch.fft.rfft(torch.cat((half.real + half.imag, half.real - half.imag), -1))[..., :h] / (2 * h)


def power_harmonics(harmonics: Tensor) -> Tensor:
    """The same of ``|S|^2``, from those of S: even ones alone, ``(v, g, 2 h)``, m = 0, 2, .. 4 h - 2."""
    h = harmonics.shape[-1]
    around = torch.fft.irfft(harmonics, n=4 * h, norm="forward").square()
    return torch.fft.rfft(0.5 * (around[..., :2 * h] + around[..., 2 * h:]), norm="forward")[..., :h]


def ring_sums(values: Tensor, rings: Rings) -> Tensor:
    """Sums ``(g,)`` over rings of values ``(p,)``."""
    return torch.zeros_like(rings.radius).index_add_(0, rings.ring, values)


def fitted_basis(harmonics: Tensor, m: Tensor, weight: Tensor, rings: Rings, lost: Lost) -> Basis:
    """The principal functions of templates with harmonics ``(n, g, h)`` of angular frequencies ``m`` (h,).

    Powers are means over the templates of sums over rings with ``weight`` (g,), that of all points of a ring together.
    """
    n, series, weight = len(harmonics), harmonics.permute(2, 1, 0), weight.clamp_min(_LEAST * float(weight.max()))
    power = (series.abs().square().sum(2) * weight).sum(1) * torch.where(m == 0, 1.0, 2.0) / n  # (h,)
    allowed = lost.power + lost.part * float(power.sum())
    used = _but_smallest(power, allowed / 2)  # most of the high ones have next to nothing
    allowed -= float(power[~used].sum())
    m = m[used]
    factor = (weight * torch.where(m == 0, 1.0, 2.0)[:, None]).sqrt()  # (h, g)
    weighted = series[used] * factor[..., None]
    both = torch.cat((weighted.real, weighted.imag), -1)
    power, vectors = torch.linalg.eigh(both @ both.mT / n)
    kept = _but_smallest(power.clamp_min(0).flatten(), allowed)
    row, column = torch.nonzero(kept.view_as(power), as_tuple=True)
    first = int(column.min()) if len(column) else 0  # the largest come last
    coefficients = (vectors[:, :, first:].mT @ both)[row, column - first]
    radial = (vectors[row, :, column] / factor[row]).T[rings.ring] * torch.where(m[row] == 0, 1.0, 2.0)
    angle = rings.angle[:, None] * m[row]
    return Basis(m[row], torch.polar(torch.ones_like(angle), angle) * radial,
                 torch.complex(coefficients[:, :n], coefficients[:, n:]))


def _but_smallest(power: Tensor, allowed: float) -> Tensor:
    """Which of some powers ``(n,)`` are left where the smallest, ``allowed`` together, are left out."""
    smallest, order = power.sort()
    kept = torch.ones_like(power, dtype=torch.bool)
    kept[order] = smallest.double().cumsum(0) > allowed
    return kept
