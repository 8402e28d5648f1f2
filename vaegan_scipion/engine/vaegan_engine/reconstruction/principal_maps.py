"""Probabilistic principal components of images at known poses (the closed-form start of a training with poses).

Model: ``map_family`` with ``c = z ~ N(0, 1)``. In turn: the posterior of every z in closed form, ``N((G + 1)^-1 b,
(G + 1)^-1)``; and the maps, the spreads of contrast and pose errors and the noise spectrum by expectation
maximisation, where maps take one step (``map_family.Sums.change``).
Sources: Tipping and Bishop, J. R. Stat. Soc. B 1999; for images at poses: Tagare et al., J. Struct. Biol. 2015.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..physics.fourier_band import Band, shell_sums
from ..physics.map_constraint import MapConstraint
from ..physics.shards import shared_parts
from ..physics.space import space_of
from .least_squares import reconstruction, residual_noise
from .map_family import FAMILY_CHUNK_IMAGES, Seen, Spreads, Sums, family, seen
from .pose_count import count_poses
from .posed_images import InChunks, Posed

Chunks = Callable[[Tensor], Posed]  # images by their row numbers
Moments = Callable[[Tensor, Seen], tuple[Tensor, Tensor]]  # of the coefficients of images, by their row numbers
_SUMS = 8  # of a shared pass, that are added at its end
_MOST_SUMMED = 2 ** 28  # numbers of 4 bytes in all these sums: 1 GB
_MEAN_STEPS = 5  # of a mean image


class PlanesInChunks(Protocol):
    """Images that are read as they are wanted, by row numbers."""

    @property
    def band(self) -> Band:
        """The coefficients."""
        ...

    def __len__(self) -> int: ...

    def part(self, rows: Tensor) -> Posed:
        """Some of them."""
        ...



@dataclass(frozen=True)
class PrincipalMaps:
    """Mean map, basis, and what the images were seen to scatter by."""

    mean: Tensor  # (d, d, d)
    basis: Tensor  # (m, d, d, d)
    noise: Tensor  # (n_shells,) variance of a coefficient
    spreads: Spreads
    band: Band

    @property
    def precision(self) -> Tensor:
        """Degrees of freedom / noise variance of every coefficient ``(p,)``."""
        return self.band.weight / self.noise[self.band.shell]


def first_maps(images: InChunks, n_basis: int, constraint: MapConstraint) -> PrincipalMaps:
    """Mean map and noise of the images, and a basis that is still empty."""
    band = images.band
    mean = reconstruction(images, torch.ones_like(band.weight), constraint)
    noise = residual_noise(images, mean)
    mean = reconstruction(images, band.weight / noise[band.shell], constraint)
    return PrincipalMaps(mean, mean.new_zeros(n_basis, *mean.shape), residual_noise(images, mean), Spreads(), band)


def first_planes(images: PlanesInChunks, n_basis: int, constraint: MapConstraint) -> PrincipalMaps:
    """The same of images that are kept as images: steps of the mean image from nothing (``map_family.Sums.change``)."""
    band = images.band
    every, d = torch.arange(len(images), device=band.kxy.device), band.box_px
    noise = torch.ones(band.n_shells, device=every.device)
    maps = PrincipalMaps(torch.zeros(d, d, device=every.device), torch.zeros(0, d, d, device=every.device), noise,
                         Spreads(), band)

    def nothing(part: Tensor, _: Seen) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(part), 0, device=every.device), torch.zeros(len(part), 0, 0, device=every.device)

    for _ in range(_MEAN_STEPS):
        maps = stepped(maps, one_pass(maps, images.part, every, nothing, shared=True), constraint)
    return replace(maps, basis=maps.mean.new_zeros(n_basis, d, d), spreads=Spreads())


def linear_posterior(gram: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(n, m)`` and covariance ``(n, m, m)`` of z ~ N(0, 1) with log likelihood ``b.z - z.Gz/2``."""
    eye = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    covariance = torch.linalg.inv(gram + eye)
    return (covariance @ pull[..., None])[..., 0], covariance


def one_pass(maps: PrincipalMaps, images: Chunks, rows: Tensor, moments: Moments, shared: bool = False) -> Sums:
    """Sums over some images; ``moments(rows, seen)`` gives their ``E c`` and ``E c c^T``.

    ``shared``: by all threads and processes; then what ``moments`` draws must not depend on who asks.
    """
    read = family(maps.mean, maps.basis, maps.band)
    total = Sums(maps.band, len(maps.basis), read.space)
    count_poses(len(rows))
    n_sums = max(1, min(_SUMS, _MOST_SUMMED // total.gradient.numel())) if shared else 1

    def part(first: int, end: int) -> tuple[Tensor, ...]:
        own = Sums(maps.band, len(maps.basis), read.space)
        for some in rows[first:end].split(FAMILY_CHUNK_IMAGES):
            seen_here = seen(read, images(some), maps.precision, maps.spreads)
            own.add(seen_here, *moments(some, seen_here))
        return own.values()

    for values in shared_parts(part, len(rows), max(FAMILY_CHUNK_IMAGES, math.ceil(len(rows) / n_sums))):
        total.plus(values)
    return total


def stepped(maps: PrincipalMaps, total: Sums, constraint: MapConstraint) -> PrincipalMaps:
    """The maps a step on; noise and spreads as a pass has found them."""
    change = total.change(constraint)
    degrees = shell_sums(maps.band.weight, maps.band)
    power = shell_sums(total.power / total.count, maps.band)
    factor = torch.where(degrees > 0, power / degrees.clamp_min(1), 1.0)
    noise = maps.noise * factor
    # one number per image lies in shell 0: basis maps would explain it wholly and its noise would vanish
    noise[0] = torch.maximum(noise[0], noise[1])
    return replace(maps, mean=maps.mean + change[0], basis=maps.basis + change[1:], noise=noise,
                   spreads=total.spreads(maps.spreads))


def normalised(maps: PrincipalMaps, total: Sums) -> PrincipalMaps:
    """Components by falling share of the variance, scaled so that z has mean 0 and variance 1."""
    moments = total.second / total.count
    shift, second = moments[0, 1:], moments[1:, 1:]
    flat = maps.basis.flatten(1)
    root = torch.linalg.cholesky(second - shift[:, None] * shift)
    scaled = root.T @ flat
    _, vectors = torch.linalg.eigh(scaled @ scaled.T)
    basis = (vectors.flip(1).T @ scaled).view_as(maps.basis)
    return replace(maps, mean=maps.mean + torch.einsum("m,m...->...", shift, maps.basis), basis=basis)


def drawn_maps(start: PrincipalMaps, images: Chunks, rows: Tensor, constraint: MapConstraint, seed: int = 0
          ) -> PrincipalMaps:
    """Basis maps that random coefficients of the images ``rows`` make; ``start.basis`` gives their number."""
    m, device = len(start.basis), start.mean.device
    rng = torch.Generator().manual_seed(seed)
    random = torch.randn(int(rows.max()) + 1, m, generator=rng).to(device)
    total = one_pass(start, images, rows, lambda part, _: (random[part], random[part, :, None] * random[part, None]),
                     shared=True)
    return replace(start, basis=total.change(constraint)[1:])


def improved(maps: PrincipalMaps, images: Chunks, rows: Tensor, constraint: MapConstraint, rounds: int
             ) -> PrincipalMaps:
    """Principal maps of the images ``rows``: rounds of expectation maximisation from ``maps`` (``drawn_maps``)."""
    def moments(_: Tensor, seen_images: Seen) -> tuple[Tensor, Tensor]:
        mean, covariance = linear_posterior(seen_images.gram, seen_images.pull)
        return mean, covariance + mean[:, :, None] * mean[:, None]

    for _ in range(rounds):
        total = one_pass(maps, images, rows, moments, shared=True)
        maps = normalised(stepped(maps, total, constraint), total)
    return maps


class Agreed(NamedTuple):
    """Directions that two halves of the images agree on, and how far."""

    basis: Tensor  # (m, d, d, d), by falling agreement
    cosines: Tensor  # (m,) of the principal angles between the halves' spans


def agreed(one: PrincipalMaps, other: PrincipalMaps) -> Agreed:
    """Principal angles of two spans, in the metric of the noise; directions halfway, with the halves' mean scale.

    Spans of m noise directions among p have cosines of about ``sqrt(m / p)``.
    """
    spans = []
    for maps in (one, other):
        whitened = whitened_maps(maps.basis, one.noise, one.band)
        spans.append(torch.linalg.qr(whitened.flatten(1).T))
    left, cosines, right = torch.linalg.svd(spans[0][0].T @ spans[1][0])
    basis = torch.zeros_like(one.basis)
    for maps, (_, upper), turn in ((one, spans[0], left), (other, spans[1], right.T)):
        # whitened = Q R^T of the flat maps: the same combination of maps gives the directions Q turn
        combined = torch.linalg.solve_triangular(upper, turn, upper=True).T @ maps.basis.flatten(1)
        scale = (upper.T @ turn).norm(dim=0)  # how much of the spread lies along each direction
        basis += 0.5 * (scale[:, None] * combined).view_as(basis)
    return Agreed(basis, cosines)


def whitened_maps(maps: Tensor, noise: Tensor, band: Band) -> Tensor:
    """Maps ``(m, d, d, d)`` divided by the noise's standard deviation in every shell of the band, 0 beyond."""
    d, space = band.box_px, space_of(maps[0])
    k = space.half_radius(d, maps.device)
    weight = (noise[k.round().long().clamp(max=len(noise) - 1)].rsqrt() * (k <= band.radius))
    return torch.fft.irfftn(torch.fft.rfftn(maps, dim=space.axes) * weight, s=(d,) * space.ndim, dim=space.axes)
