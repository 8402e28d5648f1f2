"""Generators: z (and a rotation) to clean images in Fourier space, and z to maps or images.

Every generator has ``slices(z, rotations)``: half planes ``(n, d, d//2 + 1)``, phase origin at the image
centre, and ``decode(z)``: maps ``(n, d, d, d)`` (3D) or images ``(n, d, d)`` (2D). What slices are taken from,
``source(z)``, may be made before: where no z changes it (``by_image`` False), once for all slices between two changes
of the weights. Where a batch is normalised (``by_image`` True) it must be made of all its z at once; row i: image i.
"""
from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contract.settings import ModelConfig
from ..physics.projection import (
    extract_slices,
    half_plane_points,
    images_to_slices,
    map_to_fourier,
    slices_to_images,
)
from .image_decoder import DcGan
from .latent_vector import z_dim

SHARPNESS = 4.0  # of the softplus that keeps densities positive


def _radius_px(d: int) -> Tensor:
    x = torch.arange(d) - d // 2.0
    return (x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2).sqrt()


class VoxelGenerator(nn.Module):
    """Low-rank voxel basis.

    One positive map per category, ``V_c = a m softplus(s (b0 + S*(b + b_c))) / s``, and one signed map
    per Gaussian coordinate, ``B_k = a m S*b_k``: ``V(z) = sum_c z_c V_c + sum_k z_k B_k``, with a ball
    ``b0`` to start from, soft spherical mask m and amplitude a. Without categories ``V_0`` is the
    one positive map.

    ``S`` multiplies the spectrum by ``1 / (1 + (k / k0)^2)``: Adam moves every voxel of ``b`` by about
    its learning rate, also where the gradient is noise; through S such steps are smooth, so the
    shape is found first and the detail later.

    All maps are transformed once per step; each image then costs one central slice per map
    it uses, which for one-hot categories is one.
    """

    by_image = False
    mask: Tensor
    amplitude: Tensor
    ball: Tensor
    spectrum: Tensor

    def __init__(self, model: ModelConfig, box_px: int, particle_radius_frac: float,
                 rng: torch.Generator) -> None:
        super().__init__()
        self.model, self.box_px = model, box_px
        radius = _radius_px(box_px)
        limit = box_px / 2 - 1
        self.register_buffer("mask", torch.sigmoid((limit - 1 - radius) * 2))
        self.register_buffer("amplitude", torch.ones(()))
        self.register_buffer("spectrum", self._smoothing(box_px, model.voxel_smooth_shells))
        ball = torch.sigmoid(0.7 * particle_radius_frac * box_px - radius)
        self.register_buffer("ball", 1.2 * ball - 0.6)
        self.base = nn.Parameter(self._start(1, 0.1, rng)[0])
        self.basis = nn.Parameter(self._start(z_dim(model), model.voxel_init, rng))

    @staticmethod
    def _smoothing(d: int, k0: float) -> Tensor:
        """``1 / (1 + (k/k0)^2)`` over the half spectrum ``(d, d, d//2 + 1)``; ones for k0 = 0."""
        k, kx = torch.fft.fftfreq(d, 1.0 / d), torch.arange(d // 2 + 1.0)
        squared = k[:, None, None] ** 2 + k[None, :, None] ** 2 + kx**2
        return 1 / (1 + squared / k0**2) if k0 > 0 else torch.ones_like(squared)

    def _smooth(self, maps: Tensor) -> Tensor:
        d = self.box_px
        return torch.fft.irfftn(torch.fft.rfftn(maps, dim=(-3, -2, -1)) * self.spectrum,
                                s=(d, d, d), dim=(-3, -2, -1))

    def _start(self, n: int, scale: float, rng: torch.Generator) -> Tensor:
        """White noise whose smoothed copy has standard deviation ``scale``: breaks the symmetry."""
        d = self.box_px
        noise = torch.randn(n, d, d, d, generator=rng)
        return noise * (scale / self._smooth(noise).std(dim=(1, 2, 3), keepdim=True))

    def maps(self, categories: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Positive maps ``(max(c, 1), d, d, d)``, or of some categories alone, and signed maps ``(k, d, d, d)``."""
        c = self.model.n_categories
        positive = self.basis[:c][categories]
        smooth = self._smooth(torch.cat((self.base[None], positive, self.basis[c:])))
        end = 1 + len(positive)
        density = self.ball + smooth[:1] + (smooth[1:end] if c else 0)
        scale = self.amplitude * self.mask
        return (scale * functional.softplus(SHARPNESS * density) / SHARPNESS,
                scale * smooth[end:])

    def source(self, z: Tensor | None = None, categories: slice = slice(None)) -> Tensor:
        """Transforms of all maps ``(max(c, 1) + k, s, s, s//2 + 1)``, or of those of some categories."""
        del z  # no z changes them
        return map_to_fourier(torch.cat(self.maps(categories)))

    def slices(self, z: Tensor, rotations: Tensor, one_hot: bool = True, source: Tensor | None = None) -> Tensor:
        c, n = self.model.n_categories, len(z)
        transforms = self.source() if source is None else source
        if c == 0:
            first = torch.zeros(n, dtype=torch.long, device=z.device)
            result = extract_slices(transforms, first, rotations, self.box_px)
        elif one_hot:
            result = extract_slices(transforms, z[:, :c].argmax(1), rotations, self.box_px)
        else:
            result = self._mixed(transforms[:c], z[:, :c], rotations)
        if self.model.n_normal:
            result = result + self._mixed(transforms[max(c, 1):], z[:, c:], rotations)
        return result

    def _mixed(self, transforms: Tensor, weights: Tensor, rotations: Tensor) -> Tensor:
        n, k = weights.shape
        index = torch.arange(k, device=rotations.device).repeat(n)
        each = extract_slices(transforms, index, rotations.repeat_interleave(k, 0), self.box_px)
        return (each.reshape(n, k, *each.shape[1:]) * weights[:, :, None, None]).sum(1)

    def decode(self, z: Tensor) -> Tensor:
        positive, signed = self.maps()
        c = self.model.n_categories
        maps = (torch.einsum("nc,cxyz->nxyz", z[:, :c], positive) if c
                else positive.expand(len(z), -1, -1, -1))
        if self.model.n_normal:
            maps = maps + torch.einsum("nk,kxyz->nxyz", z[:, c:], signed)
        return maps


class SirenGenerator(nn.Module):
    """SIREN in Fourier space with one FiLM layer (pi-GAN with a single injection; thesis).

    A trainable grid gives the coordinates ``x (3)`` of each frequency ``k`` (cycles per box); it starts as
    ``x = k``. It is sampled trilinearly on the central slice rotated by ``A``, then
    ``h1 = sin(w W1 x)``, ``h2 = sin((1 + g(z)) w W2 h1 + b(z))``, ``h3 = sin(w W3 h2)``, and a linear layer
    gives the real and the imaginary part of ``F(k)``; w = 30, and every W comes with a bias. A mapping
    network (linear, leaky ReLU, linear) makes g and b of z. All weights and biases of the SIREN start in
    U(-1/width, 1/width): with coordinates up to d/2 = 32 and width 128, 7.5 rad in the first
    layer and Sitzmann's own range in the others. Those of the mapping network are He-normal (in the
    SIREN's range z would scale the layer by 0.001).

    Hermitian symmetry: a real map has ``F(-k) = conj F(k)``. The network is evaluated on one half of Fourier space
    only (``half_space``), and the grid holds that half: ``(3, d + 1, d + 1, d/2 + 1)``, axes z, y,
    x, from -d/2 (x from 0) to d/2. Every slice and the map see the same F.
    Sources: Sitzmann et al., NeurIPS 2020; Chan et al., CVPR 2021.
    """

    by_image = False
    amplitude: Tensor

    def __init__(self, model: ModelConfig, box_px: int, rng: torch.Generator) -> None:
        super().__init__()
        self.box_px, width = box_px, model.generator_width
        axis = torch.arange(box_px + 1.0) - box_px // 2
        z, y, x = torch.meshgrid(axis, axis, axis[box_px // 2:], indexing="ij")
        self.coordinates = nn.Parameter(torch.stack((x, y, z)))
        self.first, self.second = nn.Linear(3, width), nn.Linear(width, width)
        self.third, self.last = nn.Linear(width, width), nn.Linear(width, 2)
        self.mapping = nn.Sequential(nn.Linear(z_dim(model), width), nn.LeakyReLU(0.2),
                                     nn.Linear(width, 2 * width))
        self.register_buffer("amplitude", torch.ones(()))
        for layer in (self.first, self.second, self.third, self.last):
            nn.init.uniform_(layer.weight, -1 / width, 1 / width, generator=rng)
            nn.init.uniform_(layer.bias, -1 / width, 1 / width, generator=rng)
        for part in self.mapping:
            if isinstance(part, nn.Linear):
                nn.init.kaiming_normal_(part.weight, a=0.2, nonlinearity="leaky_relu", generator=rng)
                nn.init.zeros_(part.bias)
        self.omega = 30.0

    def _coefficients(self, coordinates: Tensor, z: Tensor) -> Tensor:
        """``(n, p, 3)`` coordinates to real and imaginary parts ``(n, p, 2)``."""
        scale, shift = self.mapping(z)[:, None].chunk(2, dim=-1)
        h = torch.sin(self.omega * self.first(coordinates))
        h = torch.sin((1 + scale) * self.omega * self.second(h) + shift)
        h = torch.sin(self.omega * self.third(h))
        return self.last(h) * self.amplitude

    def _sample(self, points: Tensor) -> Tensor:
        """Coordinate grid at frequencies ``(n, p, 3)`` (x >= 0, y, z; cycles per box): trilinear."""
        where = 2 * points / self.box_px  # -1 .. 1 from the first to the last node
        where = torch.cat((2 * where[..., :1] - 1, where[..., 1:]), -1)
        sampled = functional.grid_sample(self.coordinates[None], where.reshape(1, -1, 1, 1, 3), align_corners=True)
        return sampled.reshape(3, -1).T.reshape(*points.shape)

    def fourier(self, points: Tensor, z: Tensor) -> Tensor:
        """``F (n, p)`` complex at frequencies ``(n, p, 3)``, |k| <= d/2, of latents ``(n, k)``."""
        points, sign = half_space(points)
        parts = self._coefficients(self._sample(points), z)
        return torch.complex(parts[..., 0], parts[..., 1] * sign)

    def source(self, z: Tensor | None = None) -> None:
        """None: the network is evaluated at the points of each slice."""

    def slices(self, z: Tensor, rotations: Tensor, one_hot: bool = True, source: None = None) -> Tensor:
        del one_hot  # every z costs the same here
        flat, kxy = half_plane_points(self.box_px, rotations.device, rotations.dtype)
        values = self.fourier(torch.einsum("pi,nij->npj", kxy, rotations[:, :2, :]), z)
        d = self.box_px
        plane = values.new_zeros(len(z), d * (d // 2 + 1)).index_copy(1, flat, values)
        return plane.reshape(len(z), d, d // 2 + 1)

    def decode(self, z: Tensor) -> Tensor:
        d = self.box_px
        k = torch.fft.fftfreq(d, 1.0 / d, device=z.device, dtype=z.dtype)
        kx = torch.arange(d // 2 + 1, device=z.device, dtype=z.dtype)
        kz, ky, kx = torch.meshgrid(k, k, kx, indexing="ij")
        points = torch.stack((kx, ky, kz), -1).reshape(1, -1, 3)
        inside = points.square().sum(-1) < (d / 2) ** 2
        maps = []
        for row in z:
            half = (self.fourier(points, row[None]) * inside).reshape(d, d, d // 2 + 1)
            maps.append(torch.fft.fftshift(torch.fft.irfftn(half, s=(d, d, d))))
        return torch.stack(maps)


def half_space(points: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies ``(..., 3)`` (x, y, z) or their opposites, x >= 0, and the sign of the imaginary part there.

    The half holds x > 0; on the plane x = 0, y > 0; on its line y = 0, z > 0. Sign ``(...)``: 1 in it, -1 where
    the opposite is taken (``F(-k) = conj F(k)``), 0 at the origin, where F is real.
    """
    sign = points.detach().sign()
    sign = torch.where(sign[..., 0] != 0, sign[..., 0], torch.where(sign[..., 1] != 0, sign[..., 1], sign[..., 2]))
    return torch.where(sign[..., None] < 0, -points, points), sign


class ImageGenerator(nn.Module):
    """2D model: a DC-GAN makes the class image itself; poses, if any, turn it in the plane."""

    by_image = True
    amplitude: Tensor

    def __init__(self, model: ModelConfig, box_px: int) -> None:
        super().__init__()
        self.net = DcGan(z_dim(model), max(8, model.generator_width // 4), box_px)
        self.register_buffer("amplitude", torch.ones(()))

    def source(self, z: Tensor) -> Tensor:
        """Images ``(n, d, d)`` of all z of a batch, which the network normalises over."""
        return self.decode(z)

    def slices(self, z: Tensor, rotations: Tensor | None = None, one_hot: bool = True, source: Tensor | None = None
               ) -> Tensor:
        del one_hot  # every z costs the same here
        images = self.source(z) if source is None else source
        return images_to_slices(images if rotations is None else turned(images, rotations))

    def decode(self, z: Tensor) -> Tensor:
        return self.net(z) * self.amplitude


def turned(images: Tensor, rotations: Tensor) -> Tensor:
    """Images ``(n, d, d)`` in the frame of rotations ``(n, 3, 3)`` about z: ``I'(x) = I(A^T x)``, bilinear, 0 outside.

    As of maps: the projection of a map rotated by A is its projection, turned. About pixel ``d//2``.
    """
    d = images.shape[-1]
    axis = torch.arange(d, device=images.device, dtype=images.dtype) - d // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    where = torch.einsum("yxi,nij->nyxj", torch.stack((x, y), -1), rotations[:, :2, :2])
    grid = (2 * (where + d // 2) + 1) / d - 1
    return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


Generator = VoxelGenerator | SirenGenerator | ImageGenerator


def build_generator(model: ModelConfig, box_px: int, particle_radius_frac: float,
                    rng: torch.Generator) -> Generator:
    """The generator that the config names."""
    if model.generator == "voxel":
        return VoxelGenerator(model, box_px, particle_radius_frac, rng)
    if model.generator == "siren":
        return SirenGenerator(model, box_px, rng)
    return ImageGenerator(model, box_px)


@torch.no_grad()
def match_amplitude(generator: Generator, z: Tensor, rotations: Tensor | None, ctf: Tensor,
                    signal_variance: float) -> None:
    """Scale the generator so that its CTF-modulated images have the data's signal variance."""
    poses = cast("Tensor", rotations)  # a 2D generator takes None
    clean = slices_to_images(generator.slices(z, poses) * ctf)
    generator.amplitude *= math.sqrt(signal_variance / max(float(clean.var()), 1e-20))
