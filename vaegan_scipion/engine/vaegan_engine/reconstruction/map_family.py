"""A mean map and a basis of maps, seen at the images' own poses: what the images say about the coefficients.

Model of image i in a band, at pose ``A_i`` (shift taken back) with CTF times contrast ``C_i`` and noise variance
``s^2`` per shell::

    X_i = C_i S_i[V + sum_m c_m U_m] + T_i u + n,    u ~ N(0, 1),

where the columns of ``T_i`` are what the image changes by, per standard deviation, when its contrast, its rotation
(three axes) and its shift (two) are not quite those given: derivatives of ``C_i S_i[V]``. They are integrated out in
closed form, so that an error of the poses does not pass for another structure. What is left is quadratic in c::

    log p(X_i | c) = b_i . c - c . G_i c / 2 + const,

so ``b_i`` (m) and ``G_i`` (m, m) hold all that the image says about any map of the family (sufficient statistics).
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.fourier_band import Band
from ..physics.map_constraint import MapConstraint, symmetrised_sums
from ..physics.projection import map_to_fourier
from ..physics.slices import PAD, Stencil, fourier_to_map, half_radius, stencil
from .least_squares import EDGE_SHELLS, WIENER_FRAC
from .posed_images import Posed

N_NUISANCES = 6  # contrast, rotation about x, y, z of the map, shift along x, y of the image
FAMILY_CHUNK_IMAGES = 256  # each has a column per map and per nuisance; of one map, ``slices.CHUNK_IMAGES``


class Spreads(NamedTuple):
    """Standard deviations of what is not quite as given."""

    contrast: float = 0.1  # of the contrast given
    rotation_rad: float = math.radians(1.0)  # about each axis
    shift: float = 0.01  # along each axis, fraction of the box

    def each(self) -> Tensor:
        """One per nuisance ``(6,)``."""
        return torch.tensor([self.contrast, *[self.rotation_rad] * 3, *[self.shift] * 2])


class Family(NamedTuple):
    """Mean and basis as one table that slices are read from."""

    table: Tensor  # (s * s * (s//2 + 1), 2 (1 + m + 3)): real and imaginary parts of V, U_1.., x V, y V, z V
    n_basis: int
    band: Band  # of the maps' box


class Seen(NamedTuple):
    """Some images beside the family: whitened columns ``(n, 6 + m + 1, 2 p)`` and their products.

    Columns: nuisances (per standard deviation), ``C S[U_m]``, and the residual ``X - C S[V]``.
    """

    columns: Tensor
    products: Tensor  # (n, 6 + m + 1, 6 + m + 1)
    inner: Tensor  # (n, 6, 6): covariance of the nuisances given c
    at: Stencil
    weighted: Tensor  # (n, p) C / s: from whitened residuals to what is summed in the transform

    @property
    def gram(self) -> Tensor:
        """G ``(n, m, m)``."""
        across = self.products[:, :N_NUISANCES, N_NUISANCES:-1]
        return self.products[:, N_NUISANCES:-1, N_NUISANCES:-1] - across.mT @ self.inner @ across

    @property
    def pull(self) -> Tensor:
        """b ``(n, m)``."""
        across, told = self.products[:, :N_NUISANCES, N_NUISANCES:-1], self.products[:, :N_NUISANCES, -1:]
        return (self.products[:, N_NUISANCES:-1, -1:] - across.mT @ self.inner @ told)[..., 0]


def family(mean: Tensor, basis: Tensor, band: Band) -> Family:
    """Table of a mean map ``(d, d, d)`` and basis maps ``(m, d, d, d)``; ``band`` is of box d."""
    d = mean.shape[-1]
    x = torch.arange(d, device=mean.device, dtype=mean.dtype) - d // 2
    moments = torch.stack((mean * x, mean * x[:, None], mean * x[:, None, None]))
    return Family(as_table(map_to_fourier(torch.cat((mean[None], basis, moments)), PAD)), len(basis), band)


def as_table(transforms: Tensor) -> Tensor:
    """Half transforms ``(m, s, s, s//2 + 1)`` as rows of real and imaginary parts ``(points, 2 m)``."""
    return torch.view_as_real(transforms).permute(1, 2, 3, 0, 4).reshape(-1, 2 * len(transforms)).contiguous()


def read_slices(table: Tensor, at: Stencil) -> Tensor:
    """Slices ``(n, p, m)`` complex of all maps of a table; differentiable in the table."""
    values = torch.nn.functional.embedding_bag(
        at.rows.reshape(-1, 8), table, mode="sum", per_sample_weights=at.weights.reshape(-1, 8))
    values = values.view(*at.sign.shape, -1, 2)
    return torch.complex(values[..., 0], values[..., 1] * at.sign[..., None])


def seen(maps: Family, images: Posed, precision: Tensor, spreads: Spreads) -> Seen:
    """Images beside the family; ``precision (p,)``: degrees of freedom / noise variance."""
    band, m = maps.band, maps.n_basis
    at = stencil(band, images.rotations)
    slices = read_slices(maps.table, at)
    weighted = images.ctf * precision.sqrt()
    mean, basis, moments = slices[..., 0], slices[..., 1:m + 1], slices[..., m + 1:]
    q = torch.einsum("pi,nij->npj", band.kxy, images.rotations[:, :2])
    gradient = (-2j * math.pi / band.box_px) * moments
    turned = torch.stack((q[..., 1] * gradient[..., 2] - q[..., 2] * gradient[..., 1],
                          q[..., 2] * gradient[..., 0] - q[..., 0] * gradient[..., 2],
                          q[..., 0] * gradient[..., 1] - q[..., 1] * gradient[..., 0]), -1)
    moved = (-2j * math.pi) * mean[..., None] * band.kxy
    nuisances = torch.cat((mean[..., None], turned, moved), -1) * spreads.each().to(q)
    columns = torch.cat((nuisances * weighted[..., None], basis * weighted[..., None],
                         (images.moved * precision.sqrt() - mean * weighted)[..., None]), -1)
    columns = torch.view_as_real(columns.transpose(1, 2)).flatten(2)
    products = columns @ columns.mT
    eye = torch.eye(N_NUISANCES, device=q.device, dtype=q.dtype)
    inner = torch.linalg.inv(products[:, :N_NUISANCES, :N_NUISANCES] + eye)
    return Seen(columns, products, inner, at, weighted)


def nuisance_moments(particles: Seen, mean: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``E u`` (n, 6), ``E u c^T`` (n, 6, m) and ``E u u^T`` (n, 6, 6), of ``E c`` (n, m) and ``E c c^T`` (n, m, m)."""
    across = particles.inner @ particles.products[:, :N_NUISANCES, N_NUISANCES:-1]  # (n, 6, m)
    told = particles.inner @ particles.products[:, :N_NUISANCES, -1:]  # (n, 6, 1)
    u = (told - across @ mean[..., None])
    u_c = told @ mean[:, None] - across @ second
    cross = told @ (across @ mean[..., None]).mT
    u_u = particles.inner + told @ told.mT - cross - cross.mT + across @ second @ across.mT
    return u[..., 0], u_c, u_u


class Sums:
    """What a pass over the images leaves: the gradient of all maps, its scale, and moments."""

    def __init__(self, band: Band, n_basis: int) -> None:
        size = PAD * band.box_px
        self.band, self.n_basis, self.shape = band, n_basis, (size, size, size // 2 + 1)
        self.gradient = torch.zeros(2 * (n_basis + 1), math.prod(self.shape), device=band.kxy.device)
        self.density = torch.zeros(math.prod(self.shape), device=band.kxy.device)
        self.second = torch.zeros(n_basis + 1, n_basis + 1, device=band.kxy.device)
        self.nuisances = torch.zeros(N_NUISANCES, device=band.kxy.device)
        self.power = torch.zeros(len(band.index), device=band.kxy.device)  # of the whitened residual
        self.count = 0

    def add(self, particles: Seen, mean: Tensor, second: Tensor) -> None:
        """Images with ``E c`` ``(n, m)`` and ``E c c^T`` ``(n, m, m)``."""
        u, u_c, u_u = nuisance_moments(particles, mean, second)
        one = torch.ones_like(mean[:, :1])
        to_mean = torch.cat((-u, -mean, one), 1)[:, None]
        to_basis = torch.cat((-u_c.mT, -second, mean[..., None]), 2)
        residual = torch.view_as_complex((torch.cat((to_mean, to_basis), 1) @ particles.columns).unflatten(-1, (-1, 2)))
        self.power += residual[:, 0].abs().square().sum(0)
        self._scatter(residual * particles.weighted[:, None], particles.weighted.square(), particles.at)
        whole = torch.cat((one, mean), 1)
        self.second += whole.T @ whole
        self.second[1:, 1:] += (second - mean[:, :, None] * mean[:, None]).sum(0)
        self.nuisances += u_u.diagonal(dim1=1, dim2=2).sum(0)
        self.count += len(mean)

    def _scatter(self, values: Tensor, density: Tensor, at: Stencil) -> None:
        rows, n = at.rows.reshape(-1), self.density.numel()
        self.density += torch.bincount(rows, (density[..., None] * at.weights).reshape(-1), minlength=n)
        for k in range(values.shape[1]):
            for part, sign in ((0, None), (1, at.sign)):
                value = values[:, k].real if sign is None else values[:, k].imag * sign
                self.gradient[2 * k + part] += torch.bincount(rows, (value[..., None] * at.weights).reshape(-1),
                                                              minlength=n)

    def values(self) -> tuple[Tensor, ...]:
        """All that was summed, for ``plus``."""
        return self.gradient, self.density, self.second, self.nuisances, self.power, torch.tensor(self.count)

    def plus(self, values: tuple[Tensor, ...]) -> None:
        """Add what was summed over other images."""
        for own, more in zip(self.values()[:-1], values[:-1], strict=True):
            own += more
        self.count += int(values[-1])

    def change(self, constraint: MapConstraint) -> Tensor:
        """Step of the mean and all basis maps ``(1 + m, d, d, d)`` towards the least weighted residual.

        ``(E a a^T)^-1 D^-1 gradient``, a = (1, c), D the density of what was measured at each frequency: the normal
        equations with the images' own moments in place of each frequency's. D is the row sum of the true matrix, whose
        entries are not negative, so that no step overshoots. Gradient and D are summed over the constraint's group.
        """
        gradient = torch.view_as_complex(self.gradient.view(-1, 2, *self.shape).movedim(1, -1).contiguous())
        edge = gradient[..., 0].clone()
        gradient[..., 0] += edge.flip(1, 2).roll((1, 1), (1, 2)).conj()
        density = self.density.view(self.shape).clone()
        density[..., 0] += density[..., 0].clone().flip(0, 1).roll((1, 1), (0, 1))
        gradient = symmetrised_sums(gradient, constraint.group)
        density = symmetrised_sums(torch.complex(density, torch.zeros_like(density))[None], constraint.group)[0].real
        second = self.second / self.count
        second = second + torch.diag((second.diagonal() <= 0).to(second))  # of maps that no image uses
        scaled = torch.einsum("kl,lxyz->kxyz", torch.linalg.inv(second).to(gradient), gradient)
        ratio = scaled / filled_density(density, self.band)
        return torch.stack([fourier_to_map(part, self.band.box_px) for part in ratio]) * constraint.mask

    def spreads(self, before: Spreads) -> Spreads:
        """Standard deviations that the images show (one step of expectation maximisation)."""
        factor = (self.nuisances / self.count).sqrt().tolist()
        turn, move = (math.sqrt(sum(f * f for f in part) / len(part)) for part in (factor[1:4], factor[4:]))
        return Spreads(before.contrast * factor[0], before.rotation_rad * turn, before.shift * move)


def filled_density(density: Tensor, band: Band) -> Tensor:
    """Density plus ``WIENER_FRAC`` of its shell's mean inside the band's soft edge; infinite beyond."""
    k = half_radius(PAD * band.box_px, density.device)
    shell = (k / PAD).round().long().flatten()
    n = int(shell.max()) + 1
    total = torch.zeros(n, device=k.device).index_add_(0, shell, density.flatten())
    mean = (total / torch.bincount(shell, minlength=n).clamp_min(1))[shell].view_as(density)
    edge = torch.sigmoid((band.radius - k / PAD) / EDGE_SHELLS)
    floor = density + WIENER_FRAC * mean
    return torch.where((floor > 0) & (edge > 1e-3), floor / edge.clamp_min(1e-3), torch.inf)
