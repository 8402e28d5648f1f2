"""The E step on a CPU with all in-plane rotations of a view at once.

The grid of rotations is that of all views turned by ``psi_j = 2 pi j / n_psi``. In the functions of ``polar_basis`` the
product of an image X, moved back by a shift, with a template S turned by psi is a short Fourier series in psi::

    B(psi) = Re sum_k w X* C S_psi = Re sum_m exp(i m psi) sum_j a_mj c_mj

    a_mj = sum_k part_m(w X C)(k) u_mj(|k|) exp(i m t_k)  (twice that for m > 0)

with part_m = Re for even m and Im for odd m. Harmonics that ``n_psi`` angles cannot tell apart are added before they
are summed over. So is ``P(psi) = sum_k w C^2 |S_psi|^2``, in functions fitted to ``|S|^2``. All sums run over the
points of the band. What differs from ``map_mixture.search`` is what the functions leave out, ``_LOST`` of log
likelihood and ``_LOST_FRAC`` of the templates' power in the mean, and the points that slices are interpolated at.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.fourier_band import Band
from ..physics.rotations import product_rotations
from ..physics.shards import in_parts, shared_parts
from ..physics.slices import take_slices, transforms_of
from .map_mixture import MapMixture, Posterior, Shifted, joined, posterior_compiled
from .polar_basis import Basis, Lost, fitted_basis, power_harmonics, ring_harmonics, ring_sums, rings_of
from .polar_kernels import join_half_turns

_LOST = 0.02  # power of the templates that the functions leave out, in units of the noise
_LOST_FRAC = 3e-4  # and the part of their power: interpolation in the grid of the transform loses no less
_SEARCH_FLOATS = 2 ** 20  # log likelihoods held at a time
PART_IMAGES = 64  # that one thread searches with the same arrays


class Functions(NamedTuple):
    """Functions of even or of odd angular frequency, and n templates, or their squares, as sums of them.

    Every phase class has as many columns as the largest one, 2 k; those that it does not need are 0.
    """

    values: Tensor  # (p, a 2 k) on the band's points: of each of a phase classes real parts, then imaginary parts
    part_of: Tensor  # (n_psi / 2,) int64 class of every part that angles are summed from
    sums: Tensor  # (n_psi / 2, 2 k, n) products with the class's functions to the part
    angles: Tensor  # (n_psi / 2, n_psi / 2) from the parts to half a turn of in-plane angles


class PolarTemplates(NamedTuple):
    """All maps at all rotations of a product grid; rotation ``j n_views + v`` is view v turned by psi_j."""

    rotations: Tensor  # (m, 3, 3)
    maps_ft: Tensor  # (c, s, s, s//2 + 1)
    band: Band
    even: Functions  # for slices
    odd: Functions
    squares: Functions  # for their squares

    def slices_of(self, rows: Tensor) -> Tensor:
        """Slices ``(len(rows), p)`` of rows ``map m + rotation``, in rising order."""
        map_index, rotation = rows // len(self.rotations), rows % len(self.rotations)
        return torch.cat([take_slices(map_ft, self.band, self.rotations[rotation[map_index == c]])
                          for c, map_ft in enumerate(self.maps_ft)])


def grid_shape(n_rotations: int) -> tuple[int, int]:
    """Views and in-plane angles (an even number), about ``n_rotations`` in all, as far apart as each other.

    A step of d radians makes ``4 pi / d^2`` views and ``2 pi / d`` angles.
    """
    n_psi = 2 * max(1, round((math.pi * n_rotations) ** (1 / 3) / 2))
    return max(1, round(n_rotations / n_psi)), n_psi


def polar_templates(model: MapMixture, band: Band, n_rotations: int, turn: Tensor, ctf_power: Tensor) -> PolarTemplates:
    """Templates of all maps at a grid of about ``n_rotations`` rotations, all of them times ``turn`` (3, 3).

    Of a symmetric map one of all views that show the same. ``ctf_power`` (p,) is the images' mean squared CTF: what is
    weak in them needs fewer functions.
    """
    n_views, n_psi = grid_shape(n_rotations)
    rotations = model.constraint.product(product_rotations(n_views, n_psi, band.kxy.device) @ turn)
    rings, weight, maps_ft = rings_of(band), model.precision(band) * ctf_power, transforms_of(model.maps, band)
    harmonics = torch.cat([ring_harmonics(map_ft, band, rings, rotations[0]) for map_ft in maps_ft])
    m, lost = torch.arange(harmonics.shape[-1], device=weight.device), Lost(_LOST, _LOST_FRAC)

    def fitted(number: int, _: int) -> tuple[Functions, ...]:
        """Those of the slices, or of their squares: as much work each."""
        if number:
            squares = fitted_basis(power_harmonics(harmonics), 2 * m, ring_sums(weight.square(), rings), rings, lost)
            return (_functions(squares, n_psi, 0),)
        slices = fitted_basis(harmonics, m, ring_sums(weight, rings), rings, lost)
        return _functions(slices, n_psi, 0), _functions(slices, n_psi, 1)

    (even, odd), (squares,) = in_parts(fitted, 2, 1)
    return PolarTemplates(rotations.flatten(0, 1), maps_ft, band, even, odd, squares)


def _functions(basis: Basis, n_psi: int, parity: int) -> Functions:
    """Those of even (0) or odd (1) angular frequency as real columns, one phase class after the other.

    Turned by ``2 pi j / n_psi``, harmonics m, ``m + n_psi`` and, conjugated, ``n_psi - m`` get the same phase.
    """
    folded = basis.m % n_psi
    turned = folded > n_psi // 2
    phase_class = torch.where(turned, n_psi - folded, folded)
    values = torch.where(turned, basis.values.conj(), basis.values)
    of_parity = torch.where(turned[:, None], basis.coefficients.conj(), basis.coefficients)
    psi = (2 * math.pi / n_psi) * torch.arange(n_psi // 2, device=folded.device)
    numbers = range(parity, n_psi // 2 + 1, 2)
    size = max(1, int(torch.bincount(phase_class, minlength=n_psi)[list(numbers)].max()))
    columns, part_of, sums, angles = [], list[int](), [], []
    for row, number in enumerate(numbers):
        own = phase_class == number
        real, imag = (_padded(part[own], size) for part in (of_parity.real, of_parity.imag))
        columns += [_padded(part[:, own].T, size) for part in (values.real, values.imag)]
        parts = [torch.cat((real, -imag)), torch.cat((imag, real))]
        turns = [(number * psi).cos(), -(number * psi).sin()]
        n_parts = 1 if number in (0, n_psi // 2) else 2  # their sines are 0
        part_of += [row] * n_parts
        sums += parts[:n_parts]
        angles += turns[:n_parts]
    return Functions(torch.cat(columns).T.contiguous(), torch.tensor(part_of, device=psi.device), torch.stack(sums),
                     torch.stack(angles, 1))


def _padded(rows: Tensor, size: int) -> Tensor:
    """``rows`` (m, n) and as many of zeros as make them ``size``."""
    return torch.nn.functional.pad(rows, (0, 0, 0, size - len(rows)))


def _at_half_turn(values: Tensor, functions: Functions, made: Tensor, out: Tensor) -> Tensor:
    """Products of values ``(rows, p)`` at the band's points with n templates turned by psi, ``(n_psi / 2, rows, n)``.

    At ``psi + pi`` those of even functions are the same, those of odd ones have the other sign. There are as many parts
    of phase classes; ``made`` and ``out``, flat, have room for them and for the result.
    """
    half, two_k, n = functions.sums.shape
    products = (values @ functions.values).view(len(values), -1, two_k).transpose(0, 1)[functions.part_of]
    size = half * len(values) * n
    made, out = made[:size].view(half, len(values), n), out[:size].view(half, -1)
    torch.bmm(products, functions.sums, out=made)
    return torch.mm(functions.angles, made.flatten(1), out=out).view(half, len(values), n)


def search_polar(images: Shifted, model: MapMixture, templates: PolarTemplates, entries: bool = True,
                 spread: float = 0.0) -> Posterior:
    """``map_mixture.search`` over a product grid of rotations, on a CPU."""
    transforms, ctf, band, phases = images
    n_maps, m, p = len(templates.maps_ft), len(templates.rotations), len(band.index)
    precision, row_size = model.precision(band), len(phases) * n_maps * m
    chunk = max(1, _SEARCH_FLOATS // row_size)

    def some(rows: slice, arrays: tuple[Tensor, ...]) -> Posterior:
        made, even, odd, scores = arrays
        weighted = transforms[rows] * ctf[rows] * precision
        moved = torch.view_as_real((weighted[:, None] * phases).reshape(-1, p))
        even = _at_half_turn(moved[..., 0].contiguous(), templates.even, made, even)
        odd = _at_half_turn(moved[..., 1].contiguous(), templates.odd, made, odd)
        scores = scores[:len(weighted) * row_size]
        join_half_turns(even.flatten(1).numpy(), odd.flatten(1).numpy(), scores.view(-1, m).numpy())
        squares = precision * ctf[rows].square()
        power = _at_half_turn(squares, templates.squares, *torch.empty(2, squares.shape[0] * n_maps * m // 2))
        power = power.unflatten(2, (n_maps, -1)).permute(1, 2, 0, 3).repeat(1, 1, 2, 1).flatten(1)
        return posterior_compiled(scores.view(len(weighted), len(phases), -1), power, n_maps, entries, spread)

    def part(start: int, end: int) -> Posterior:
        arrays = *torch.empty(3, chunk * row_size // 2), torch.empty(chunk * row_size)
        return joined([some(slice(first, min(first + chunk, end)), arrays).moved(first)
                       for first in range(start, end, chunk)])

    return joined(shared_parts(part, len(transforms), PART_IMAGES))
