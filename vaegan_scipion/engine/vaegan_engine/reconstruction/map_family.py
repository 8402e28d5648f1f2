"""A mean map and a basis of maps, seen at the images' own poses: what the images say about the coefficients.

In the plane (``physics.space``) the same of a mean image and a basis of images, which in-plane rotations turn.

Model of image i in a band, at pose ``A_i`` (shift taken back) with CTF times contrast ``C_i`` and noise variance
``s^2`` per shell::

    X_i = C_i S_i[V + sum_m c_m U_m] + T_i u + n,    u ~ N(0, 1),

where the columns of ``T_i`` are what the image changes by, per standard deviation, when its contrast, its rotation
(three axes, in the plane one) and its shift (two) are not quite those given: derivatives of ``C_i S_i[V]``. They are
integrated out in closed form, so that an error of the poses does not pass for another structure. What is left is
quadratic in c::

    log p(X_i | c) = b_i . c - c . G_i c / 2 + const,

so ``b_i`` (m) and ``G_i`` (m, m) hold all that the image says about any map of the family (sufficient statistics).

On a CPU slices of maps are read and summed image by image in compiled loops (``family_kernels``), where no gradient
along the table is asked for; what is here in torch is the same for many images at a time, on any device.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band
from ..physics.map_constraint import MapConstraint, symmetrised_sums
from ..physics.slices import PAD, Stencil, as_numpy, floats
from ..physics.space import MAPS, Space, space_of
from . import family_kernels
from .least_squares import EDGE_SHELLS, WIENER_FRAC
from .posed_images import Posed

N_NUISANCES = 6  # contrast, rotation about x, y, z of the map, shift along x, y of the image; in the plane 4
FAMILY_CHUNK_IMAGES = 256  # each has a column per map and per nuisance; of one map, ``slices.CHUNK_IMAGES``


class Spreads(NamedTuple):
    """Standard deviations of what is not quite as given."""

    contrast: float = 0.1  # of the contrast given
    rotation_rad: float = math.radians(1.0)  # about each axis
    shift: float = 0.01  # along each axis, fraction of the box

    def each(self, n_turns: int = 3) -> Tensor:
        """One per nuisance ``(1 + n_turns + 2,)``."""
        return torch.tensor([self.contrast, *[self.rotation_rad] * n_turns, *[self.shift] * 2])


class Family(NamedTuple):
    """Mean and basis as one table that slices are read from."""

    table: Tensor  # (s * s * (s//2 + 1), 2 (1 + m + 3)): real and imaginary parts of V, U_1.., x V, y V, z V
    n_basis: int
    band: Band  # of the maps' box
    space: Space = MAPS

    @property
    def is_compiled(self) -> bool:
        """Whether the kernels read it; then zeros end its rows, up to a multiple of their lanes."""
        return _has_kernels(self.table, self.space)


class Seen(NamedTuple):
    """Some images beside the family: whitened columns ``(n, 6 + m + 1, 2 p)`` and their products; q = 6 nuisances.

    Columns: nuisances (per standard deviation), ``C S[U_m]``, and the residual ``X - C S[V]``.
    """

    columns: Tensor
    products: Tensor  # (n, 6 + m + 1, 6 + m + 1)
    inner: Tensor  # (n, 6, 6): covariance of the nuisances given c
    rotations: Tensor  # (n, 3, 3)
    at: Stencil | None  # None where the kernels read the columns, and sum them
    weighted: Tensor  # (n, p) C / s: from whitened residuals to what is summed in the transform

    @property
    def n_nuisances(self) -> int:
        """q."""
        return self.inner.shape[-1]

    @property
    def gram(self) -> Tensor:
        """G ``(n, m, m)``."""
        q = self.n_nuisances
        across = self.products[:, :q, q:-1]
        return self.products[:, q:-1, q:-1] - across.mT @ self.inner @ across

    @property
    def pull(self) -> Tensor:
        """b ``(n, m)``."""
        q = self.n_nuisances
        across, told = self.products[:, :q, q:-1], self.products[:, :q, -1:]
        return (self.products[:, q:-1, -1:] - across.mT @ self.inner @ told)[..., 0]

    def log_evidence(self) -> Tensor:
        """``log p(X | pose)`` ``(n,)`` of c ~ N(0, 1), up to what does not change with the pose.

        ``(b.(G + 1)^-1 b - log det(G + 1) - r.r + r.T (1 + T.T)^-1 T.r - log det(1 + T.T)) / 2``, r the residual.
        """
        whole = self.gram + torch.eye(self.gram.shape[-1], device=self.gram.device, dtype=self.gram.dtype)
        factor, told = torch.linalg.cholesky(whole), self.products[:, :self.n_nuisances, -1:]
        explained = torch.linalg.solve_triangular(factor, self.pull[..., None], upper=False).square().sum((1, 2))
        spread = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        left = self.products[:, -1, -1] - (told.mT @ self.inner @ told)[:, 0, 0]
        return 0.5 * (explained - spread - left + torch.linalg.slogdet(self.inner)[1])


def family(mean: Tensor, basis: Tensor, band: Band) -> Family:
    """Table of a mean map ``(d, d, d)`` and basis maps ``(m, d, d, d)``, or of images; ``band`` is of box d."""
    d, space = mean.shape[-1], space_of(mean)
    x = torch.arange(d, device=mean.device, dtype=mean.dtype) - d // 2
    moments = torch.stack([mean * x.view(-1, *[1] * axis) for axis in range(space.ndim)])
    transforms = space.transforms(torch.cat((mean[None], basis, moments)))
    lanes = family_kernels.LANES if _has_kernels(transforms, space) else 1
    return Family(as_table(transforms, lanes), len(basis), band, space)


def _has_kernels(values: Tensor, space: Space) -> bool:
    """Whether the kernels can read a table of ``values``, or half transforms that it is made of."""
    return (space == MAPS and values.device.type == "cpu" and not values.requires_grad
            and values.dtype in (torch.float32, torch.complex64))


def as_table(transforms: Tensor, lanes: int = 1) -> Tensor:
    """Half transforms ``(m, s, .., s//2 + 1)`` as rows of real and imaginary parts ``(points, 2 m)``.

    Zeros are added to a row up to a multiple of ``lanes``.
    """
    rows = torch.view_as_real(transforms).movedim(0, -2)
    if not 2 * len(transforms) % lanes:
        return rows.reshape(-1, 2 * len(transforms)).contiguous()
    table = rows.new_zeros(*rows.shape[:-2], -(-2 * len(transforms) // lanes) * lanes)
    table[..., :2 * len(transforms)].unflatten(-1, (-1, 2)).copy_(rows)
    return table.flatten(0, -2)


def read_slices(table: Tensor, at: Stencil) -> Tensor:
    """Slices ``(n, p, m)`` complex of all maps of a table; differentiable in the table."""
    near = at.rows.shape[-1]
    values = torch.nn.functional.embedding_bag(
        at.rows.reshape(-1, near), table, mode="sum", per_sample_weights=at.weights.reshape(-1, near))
    values = values.view(*at.sign.shape, -1, 2)
    return torch.complex(values[..., 0], values[..., 1] * at.sign[..., None])


def seen(maps: Family, images: Posed, precision: Tensor, spreads: Spreads) -> Seen:
    """Images beside the family; ``precision (p,)``: degrees of freedom / noise variance."""
    if maps.is_compiled:
        return _seen_compiled(maps, images, precision, spreads)
    band, m, space = maps.band, maps.n_basis, maps.space
    at = space.stencil(band, images.rotations)
    slices = read_slices(maps.table, at)
    weighted = images.ctf * precision.sqrt()
    mean, basis, moments = slices[..., 0], slices[..., 1:m + 1], slices[..., m + 1:]
    q = torch.einsum("pi,nij->npj", band.kxy, images.rotations[:, :2])
    turned = space.turned(q, (-2j * math.pi / band.box_px) * moments)
    moved = (-2j * math.pi) * mean[..., None] * band.kxy
    nuisances = torch.cat((mean[..., None], turned, moved), -1) * spreads.each(space.n_turns).to(q)
    columns = torch.cat((nuisances * weighted[..., None], basis * weighted[..., None],
                         (images.moved * precision.sqrt() - mean * weighted)[..., None]), -1)
    columns = torch.view_as_real(columns.transpose(1, 2)).flatten(2)
    products = columns @ columns.mT
    inner = _covariance(products, nuisances.shape[-1])
    return Seen(columns, products, inner, images.rotations, at, weighted)


def _covariance(products: Tensor, n_nuisances: int) -> Tensor:
    """That of the nuisances given c ``(n, q, q)``."""
    eye = torch.eye(n_nuisances, device=products.device, dtype=products.dtype)
    return torch.linalg.inv(products[:, :n_nuisances, :n_nuisances] + eye)


def _seen_compiled(maps: Family, images: Posed, precision: Tensor, spreads: Spreads) -> Seen:
    """``seen`` of maps on a CPU."""
    band, (n, p), n_columns = maps.band, images.ctf.shape, N_NUISANCES + maps.n_basis + 1
    root = precision.sqrt()
    weighted, columns = images.ctf * root, torch.empty(n, n_columns, 2 * p)
    products, turn = torch.empty(n, n_columns, n_columns), 2 * math.pi
    slopes = torch.tensor([1.0, *[turn / band.box_px] * 3, *[turn] * 2])
    family_kernels.read_columns(
        maps.table.numpy(), PAD * band.box_px, as_numpy(band.kxy), PAD, as_numpy(images.rotations),
        floats(images.moved * root), as_numpy(weighted), as_numpy(spreads.each() * slopes), columns.numpy(),
        products.numpy())
    return Seen(columns, products, _covariance(products, N_NUISANCES), images.rotations, None, weighted)


def nuisance_moments(particles: Seen, mean: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``E u`` (n, 6), ``E u c^T`` (n, 6, m) and ``E u u^T`` (n, 6, 6), of ``E c`` (n, m) and ``E c c^T`` (n, m, m)."""
    q = particles.n_nuisances
    across = particles.inner @ particles.products[:, :q, q:-1]  # (n, 6, m)
    told = particles.inner @ particles.products[:, :q, -1:]  # (n, 6, 1)
    u = (told - across @ mean[..., None])
    u_c = told @ mean[:, None] - across @ second
    cross = told @ (across @ mean[..., None]).mT
    u_u = particles.inner + told @ told.mT - cross - cross.mT + across @ second @ across.mT
    return u[..., 0], u_c, u_u


class Sums:
    """What a pass over the images leaves: the gradient of all maps, its scale, and moments."""

    def __init__(self, band: Band, n_basis: int, space: Space = MAPS) -> None:
        self.band, self.n_basis, self.space, self.shape = band, n_basis, space, space.shape(PAD * band.box_px)
        self.gradient = torch.zeros(2 * (n_basis + 1), math.prod(self.shape), device=band.kxy.device)
        self.density = torch.zeros(math.prod(self.shape), device=band.kxy.device)
        self.second = torch.zeros(n_basis + 1, n_basis + 1, device=band.kxy.device)
        self.nuisances = torch.zeros(3 + space.n_turns, device=band.kxy.device)
        self.power = torch.zeros(len(band.index), device=band.kxy.device)  # of the whitened residual
        self.count = 0
        self._rows: np.ndarray | None = None  # what the kernels have summed, (v, l) as a table

    def add(self, particles: Seen, mean: Tensor, second: Tensor) -> None:
        """Images with ``E c`` ``(n, m)`` and ``E c c^T`` ``(n, m, m)``."""
        u, u_c, u_u = nuisance_moments(particles, mean, second)
        one = mean.new_ones(len(mean), 1)
        to_mean = torch.cat((-u, -mean, one), 1)[:, None]
        to_basis = torch.cat((-u_c.mT, -second, mean[..., None]), 2)
        self._add_residuals(particles, torch.cat((to_mean, to_basis), 1))
        whole = torch.cat((one, mean), 1)
        self.second += whole.T @ whole
        self.second[1:, 1:] += (second - mean[:, :, None] * mean[:, None]).sum(0)
        self.nuisances += u_u.diagonal(dim1=1, dim2=2).sum(0)
        self.count += len(mean)

    def _add_residuals(self, particles: Seen, factors: Tensor) -> None:
        """Residuals of mean and maps, ``factors`` (n, 1 + m, 6 + m + 1) of the columns, back in the transform."""
        if particles.at is None:
            if self._rows is None:
                lanes, sums = family_kernels.LANES, len(self.gradient) + 1
                self._rows = np.zeros((len(self.density), -(-sums // lanes) * lanes), np.float32)
            family_kernels.add_residuals(
                particles.columns.numpy(), as_numpy(factors), as_numpy(particles.weighted), as_numpy(self.band.kxy),
                PAD, PAD * self.band.box_px, as_numpy(particles.rotations), self._rows, self.power.numpy())
            return
        residual = torch.view_as_complex((factors @ particles.columns).unflatten(-1, (-1, 2)))
        self.power += residual[:, 0].abs().square().sum(0)
        self._scatter(residual * particles.weighted[:, None], particles.weighted.square(), particles.at)

    def _settle(self) -> None:
        """Bring what the kernels have summed to the gradient and the density."""
        if self._rows is not None:
            sums, self._rows = torch.from_numpy(self._rows), None
            self.gradient += sums[:, :len(self.gradient)].T
            self.density += sums[:, len(self.gradient)]

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
        self._settle()
        return self.gradient, self.density, self.second, self.nuisances, self.power, torch.tensor(self.count)

    def plus(self, values: tuple[Tensor, ...]) -> None:
        """Add what was summed over other images."""
        for own, more in zip(self.values()[:-1], values[:-1], strict=True):
            own += more
        self.count += int(values[-1])

    def change(self, constraint: MapConstraint) -> Tensor:
        """Step of the mean and all basis maps ``(1 + m, d, d, d)`` (images) towards the least weighted residual.

        ``(E a a^T)^-1 D^-1 gradient``, a = (1, c), D the density of what was measured at each frequency: the normal
        equations with the images' own moments in place of each frequency's. D is the row sum of the true matrix, whose
        entries are not negative, so that no step overshoots. Gradient and D are summed over the constraint's group.
        """
        self._settle()
        gradient = torch.view_as_complex(self.gradient.view(-1, 2, *self.shape).movedim(1, -1).contiguous())
        gradient[..., 0] += self.space.folded(gradient[..., 0].clone()).conj()
        density = self.density.view(self.shape).clone()
        density[..., 0] += self.space.folded(density[..., 0].clone())
        gradient = symmetrised_sums(gradient, constraint.group)
        density = symmetrised_sums(torch.complex(density, torch.zeros_like(density))[None], constraint.group)[0].real
        second = self.second / self.count
        second = second + torch.diag((second.diagonal() <= 0).to(second))  # of maps that no image uses
        scaled = torch.einsum("kl,l...->k...", torch.linalg.inv(second).to(gradient), gradient)
        ratio = scaled / filled_density(density, self.band, self.space)
        return torch.stack([self.space.array_of(part, self.band.box_px) for part in ratio]) * constraint.mask

    def spreads(self, before: Spreads) -> Spreads:
        """Standard deviations that the images show (one step of expectation maximisation)."""
        factor = (self.nuisances / self.count).sqrt().tolist()
        turn, move = (math.sqrt(sum(f * f for f in part) / len(part)) for part in (factor[1:-2], factor[-2:]))
        return Spreads(before.contrast * factor[0], before.rotation_rad * turn, before.shift * move)


def filled_density(density: Tensor, band: Band, space: Space = MAPS) -> Tensor:
    """Density plus ``WIENER_FRAC`` of its shell's mean inside the band's soft edge; infinite beyond."""
    k = space.half_radius(PAD * band.box_px, density.device)
    shell = (k / PAD).round().long().flatten()
    n = int(shell.max()) + 1
    total = torch.zeros(n, device=k.device).index_add_(0, shell, density.flatten())
    mean = (total / torch.bincount(shell, minlength=n).clamp_min(1))[shell].view_as(density)
    edge = torch.sigmoid((band.radius - k / PAD) / EDGE_SHELLS)
    floor = density + WIENER_FRAC * mean
    return torch.where((floor > 0) & (edge > 1e-3), floor / edge.clamp_min(1e-3), torch.inf)
