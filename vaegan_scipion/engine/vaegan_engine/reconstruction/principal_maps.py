"""Probabilistic principal components of images at known poses (the closed-form start of a training with poses).

Model: ``map_family`` with ``c = z ~ N(0, 1)``. In turn: the posterior of every z in closed form, ``N((G + 1)^-1 b,
(G + 1)^-1)``; and the maps, the spreads of contrast and pose errors and the noise spectrum by expectation
maximisation, where maps take one step (``map_family.Sums.change``).
Sources: Tipping and Bishop, J. R. Stat. Soc. B 1999; for images at poses: Tagare et al., J. Struct. Biol. 2015.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..physics.fourier_band import Band, shell_sums
from .map_family import CHUNK_IMAGES, Seen, Spreads, Sums, family, seen
from .posed_images import Posed

N_FIRST = 3000  # images of the first rounds
Chunks = Callable[[Tensor], Posed]  # images by their row numbers


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


def linear_posterior(gram: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(n, m)`` and covariance ``(n, m, m)`` of z ~ N(0, 1) with log likelihood ``b.z - z.Gz/2``."""
    eye = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    covariance = torch.linalg.inv(gram + eye)
    return (covariance @ pull[..., None])[..., 0], covariance


def one_pass(maps: PrincipalMaps, images: Chunks, rows: Tensor,
             moments: Callable[[Tensor, Seen], tuple[Tensor, Tensor]]) -> Sums:
    """Sums over some images; ``moments(rows, seen)`` gives their ``E c`` and ``E c c^T``."""
    read, total = family(maps.mean, maps.basis, maps.band), Sums(maps.band, len(maps.basis))
    for part in rows.split(CHUNK_IMAGES):
        found = seen(read, images(part), maps.precision, maps.spreads)
        total.add(found, *moments(part, found))
    return total


def stepped(maps: PrincipalMaps, total: Sums, mask: Tensor) -> PrincipalMaps:
    """The maps a step on; noise and spreads as a pass has found them."""
    change = total.change(mask)
    degrees = shell_sums(maps.band.weight, maps.band)
    power = shell_sums(total.power / total.count, maps.band)
    factor = torch.where(degrees > 0, power / degrees.clamp_min(1), 1.0)
    return replace(maps, mean=maps.mean + change[0], basis=maps.basis + change[1:], noise=maps.noise * factor,
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
    return replace(maps, mean=maps.mean + torch.einsum("m,mxyz->xyz", shift, maps.basis), basis=basis)


def principal_maps(start: PrincipalMaps, images: Chunks, n_images: int, mask: Tensor, rounds: int,
                   seed: int = 0) -> PrincipalMaps:
    """Basis maps of images from random coefficients; ``start`` gives the mean and, by its basis, their number."""
    m, device = len(start.basis), start.mean.device
    rng = torch.Generator().manual_seed(seed)
    first = torch.randperm(n_images, generator=rng)[:N_FIRST].sort().values.to(device)
    random = torch.randn(n_images, m, generator=rng).to(device)
    eye = torch.eye(m, device=device)
    total = one_pass(start, images, first, lambda rows, found: (
        random[rows], random[rows, :, None] * random[rows, None] + 0 * eye))
    maps = replace(start, basis=total.change(mask)[1:])

    def moments(rows: Tensor, found: Seen) -> tuple[Tensor, Tensor]:
        mean, covariance = linear_posterior(found.gram, found.pull)
        return mean, covariance + mean[:, :, None] * mean[:, None]

    every = torch.arange(n_images, device=device)
    for turn in range(rounds):
        total = one_pass(maps, images, first if turn < (2 * rounds) // 3 else every, moments)
        maps = normalised(stepped(maps, total, mask), total)
    return maps
