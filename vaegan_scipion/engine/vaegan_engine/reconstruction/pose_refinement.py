"""Poses refined off the grid: Levenberg-Marquardt steps in three angles and two shifts per image.

Residual of image i: ``r = X e^{2 pi i k.s/d} - C S_A[V]``; the rotation moves as ``A <- exp([w]x) A``
(w in the image's frame). With g the gradient of the map's transform, interpolated trilinearly, at the slice's point,
the derivatives of S along w are ``-k_y A_2.g, k_x A_2.g, (k_y A_0 - k_x A_1).g``; those of r along the shift are
``(2 pi i k / d) X e^{...}``. A step that does not lower an image's weighted residual is not taken.

On a CPU the steps of each image are compiled (``pose_kernels``); what is here is the same for many images at a time.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.fourier_band import Band, shift_phases
from ..physics.shards import shared_parts
from ..physics.slices import PAD, as_numpy, floats, gather, gather_slopes, stencil
from . import pose_kernels

_CHUNK_POINTS = 2 ** 21  # slice points held at a time: a GPU's worth
_REFINED_TOGETHER = 32  # images that one thread refines at a time
_FIRST_DAMPING, _LESS, _MORE = 1e-2, 0.3, 8.0


class AtPoses(NamedTuple):
    """Images of one map in a band, and the poses to refine."""

    transforms: Tensor  # (n, p) complex, as they were read
    ctf: Tensor  # (n, p)
    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    band: Band

    def part(self, rows: Tensor | slice) -> AtPoses:
        """Some of the images."""
        return AtPoses(self.transforms[rows], self.ctf[rows], self.rotations[rows], self.shifts_px[rows], self.band)


def small_rotations(w: Tensor) -> Tensor:
    """``exp([w]x)`` ``(n, 3, 3)`` of rotation vectors ``(n, 3)`` in rad."""
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3)))


def misfit(images: AtPoses, slices: Tensor, precision: Tensor) -> Tensor:
    """``1/2 sum_k w |X e^{2 pi i k.s/d} - C S|^2`` per image: minus the log likelihood up to a constant."""
    residual = images.transforms * shift_phases(images.band, images.shifts_px) - images.ctf * slices
    return 0.5 * (precision * residual.abs().square()).sum(1)


def refine_poses(map_ft: Tensor, images: AtPoses, precision: Tensor, iterations: int = 4
                 ) -> tuple[Tensor, Tensor, Tensor]:
    """Better rotations ``(n, 3, 3)`` and shifts ``(n, 2)`` of images of one map, and the misfit ``(n,)`` there.

    ``map_ft``: padded half transform of the map; ``precision`` (p,), or (n, p) for one noise level per image.
    """
    if images.rotations.device.type == "cpu":
        return _compiled(map_ft, images, precision, iterations)
    chunk = max(1, _CHUNK_POINTS // len(images.band.index))
    parts = []
    for start in range(0, len(images.rotations), chunk):
        rows = slice(start, start + chunk)
        parts.append(refine_together(map_ft, images.part(rows), precision if precision.ndim == 1 else precision[rows],
                                     iterations))
    rotations, shifts_px, cost = (torch.cat(column) for column in zip(*parts, strict=True))
    return rotations, shifts_px, cost


def _compiled(map_ft: Tensor, images: AtPoses, precision: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """``refine_together`` image by image."""
    if len(images.rotations) == 0:
        return images.rotations, images.shifts_px, images.rotations.new_empty(0)
    samples, transforms = floats(map_ft).reshape(-1), floats(images.transforms)
    ctfs, weights = as_numpy(images.ctf), as_numpy(precision)
    k, turn = as_numpy(images.band.kxy.to(torch.int32)), 2 * math.pi / images.band.box_px

    def work(first: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        own = slice(first, end)
        rotations, shifts_px = (x[own].clone(memory_format=torch.contiguous_format)
                                for x in (images.rotations, images.shifts_px))
        made = rotations, shifts_px, torch.empty(end - first)
        pose_kernels.refine_images(samples, len(map_ft), k, PAD, turn, transforms[own], ctfs[own],
                                   weights[own] if weights.ndim == 2 else weights[None], *(out.numpy() for out in made),
                                   iterations, _FIRST_DAMPING, _LESS, _MORE)
        return made

    rotations, shifts_px, cost = map(torch.cat, zip(*shared_parts(work, len(images.rotations), _REFINED_TOGETHER),
                                                    strict=True))
    return rotations, shifts_px, cost


def refine_together(map_ft: Tensor, images: AtPoses, precision: Tensor, iterations: int
                    ) -> tuple[Tensor, Tensor, Tensor]:
    """``refine_poses`` of some images, on any device."""
    rotations, shifts_px, band = images.rotations, images.shifts_px, images.band
    damping = torch.full((len(rotations),), _FIRST_DAMPING, device=rotations.device)
    slices = gather(map_ft, stencil(band, rotations, len(map_ft)))
    cost = misfit(images, slices, precision)
    for _ in range(iterations):
        now = images._replace(rotations=rotations, shifts_px=shifts_px)
        normal, gradient = normal_equations(map_ft, now, precision)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        damped = normal + torch.diag_embed(damping[:, None] * diagonal + 1e-6 * diagonal.amax(1, keepdim=True) + 1e-12)
        step = torch.linalg.solve(damped, gradient)
        new_rotations = small_rotations(step[:, :3]) @ rotations
        new_shifts = shifts_px + step[:, 3:]
        new_slices = gather(map_ft, stencil(band, new_rotations, len(map_ft)))
        new_cost = misfit(now._replace(shifts_px=new_shifts), new_slices, precision)
        better = new_cost < cost
        rotations = torch.where(better[:, None, None], new_rotations, rotations)
        shifts_px = torch.where(better[:, None], new_shifts, shifts_px)
        slices = torch.where(better[:, None], new_slices, slices)
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, damping * _LESS, damping * _MORE)
    return rotations, shifts_px, cost


def normal_equations(map_ft: Tensor, images: AtPoses, precision: Tensor) -> tuple[Tensor, Tensor]:
    """``J^T W J`` (n, 5, 5) and ``-J^T W r`` (n, 5) of the residual."""
    transforms, ctf, rotations, shifts_px, band = images
    moved = transforms * shift_phases(band, shifts_px)
    slices, slopes = gather_slopes(map_ft, stencil(band, rotations, len(map_ft)))
    residual = moved - ctf * slices
    along = (PAD * slopes @ rotations.transpose(1, 2).to(slopes.dtype)).unbind(-1)  # the rows of A
    kx, ky = band.kxy.unbind(1)
    columns = [ctf * column for column in (ky * along[2], -kx * along[2], kx * along[1] - ky * along[0])]
    for axis in range(2):
        columns.append((2j * math.pi / band.box_px) * band.kxy[:, axis] * moved)
    jacobian = torch.view_as_real(torch.stack(columns, 1)).flatten(2)  # (n, 5, 2 p)
    weights = torch.broadcast_to(precision, residual.shape)[..., None].expand(*residual.shape, 2).flatten(1)
    weighted = jacobian * weights[:, None]
    flat = torch.view_as_real(residual).flatten(1)
    return weighted @ jacobian.transpose(1, 2), -(weighted @ flat[..., None]).squeeze(-1)
