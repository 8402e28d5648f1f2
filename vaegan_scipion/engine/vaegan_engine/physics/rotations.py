"""Rotations: uniform and preferred random ones, RELION's Euler angles, an even grid of SO(3).

A rotation is a matrix ``A`` ``(..., 3, 3)`` as RELION's ``Euler_angles2matrix`` makes it: its rows
are the rotated frame's x, y and z axes in the map's (x, y, z) frame, so an image seen along ``A``
has rows 0 and 1 as its x and y axes and looks along row 2.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

# Constants of Alexa, "Super-Fibonacci Spirals", CVPR 2022: sqrt(2) and the root of psi^4 = psi + 4.
_PHI = math.sqrt(2.0)
_PSI = 1.533751168755204288118041
_GOLDEN_DEG = 180 * (3 - math.sqrt(5.0))


def quaternion_to_matrix(quaternions: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` of quaternions ``(..., 4)`` (w, x, y, z) of any length > 0."""
    w, x, y, z = (quaternions / quaternions.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y))
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def random_rotations(n: int, generator: torch.Generator | None = None,
                     device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """``(n, 3, 3)`` rotations, uniform on SO(3).

    A quaternion of four independent normal numbers has a uniform direction on the 3-sphere.
    ``generator`` must live on ``device``.
    """
    return quaternion_to_matrix(torch.randn(n, 4, generator=generator, device=device, dtype=dtype))


def concentrated_rotations(n: int, concentration: float, generator: torch.Generator | None = None) -> Tensor:
    """``(n, 3, 3)`` rotations whose views gather at both poles: density ``exp(c (|cos tilt| - 1))``, c > 0.

    rot and psi are uniform. ``|cos tilt| = log(1 + u (e^c - 1)) / c`` of a uniform u, the inverse of its distribution.
    """
    u = torch.rand(n, 4, generator=generator, dtype=torch.float64)
    cosine = torch.log1p(u[:, 0] * math.expm1(concentration)) / concentration
    tilt = torch.rad2deg(torch.acos(torch.where(u[:, 1] < 0.5, -cosine, cosine).clamp(-1, 1)))
    return euler_to_matrix(360 * u[:, 2], tilt, 360 * u[:, 3]).float()


def euler_to_matrix(rot_deg: Tensor, tilt_deg: Tensor, psi_deg: Tensor) -> Tensor:
    """RELION's Euler matrix ``A = Rz(psi) Ry(tilt) Rz(rot)`` of angles in degrees.

    The elementary matrices rotate the frame: ``Rz(a) = [[cos a, sin a, 0], [-sin a, cos a, 0],
    [0, 0, 1]]`` and ``Ry(b) = [[cos b, 0, -sin b], [0, 1, 0], [sin b, 0, cos b]]``.
    Angles of shape ``(...)`` give ``(..., 3, 3)``.
    """
    rot, tilt, psi = (torch.deg2rad(angle) for angle in (rot_deg, tilt_deg, psi_deg))
    ca, sa, cb, sb, cg, sg = rot.cos(), rot.sin(), tilt.cos(), tilt.sin(), psi.cos(), psi.sin()
    rows = (cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb,
            -sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb,
            sb * ca, sb * sa, cb)
    return torch.stack(torch.broadcast_tensors(*rows), -1).unflatten(-1, (3, 3))


def matrix_to_euler(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RELION's angles (rot, tilt, psi) in degrees of ``A`` ``(..., 3, 3)``; tilt in [0, 180].

    At tilt 0 and 180, where only rot + psi or rot - psi is defined, rot is 0 as in RELION.
    """
    sin_tilt = torch.hypot(A[..., 0, 2], A[..., 1, 2])
    tilt = torch.atan2(sin_tilt, A[..., 2, 2])
    pole = sin_tilt < 16 * torch.finfo(A.dtype).eps
    side = torch.sign(A[..., 2, 2])
    rot = torch.where(pole, 0.0, torch.atan2(A[..., 2, 1], A[..., 2, 0]))
    psi = torch.where(pole, torch.atan2(-side * A[..., 1, 0], side * A[..., 0, 0]),
                      torch.atan2(A[..., 1, 2], -A[..., 0, 2]))
    return torch.rad2deg(rot), torch.rad2deg(tilt), torch.rad2deg(psi)


def super_fibonacci_rotations(n: int, device: torch.device | str = "cpu",
                              dtype: torch.dtype = torch.float32) -> Tensor:
    """``(n, 3, 3)`` evenly spread rotations: the super-Fibonacci spiral (Alexa, CVPR 2022)."""
    s = torch.arange(n, dtype=torch.float64) + 0.5
    inner, outer = (s / n).sqrt(), (1 - s / n).sqrt()
    alpha, beta = 2 * math.pi * s / _PHI, 2 * math.pi * s / _PSI
    quaternions = torch.stack((outer * beta.cos(), inner * alpha.sin(), inner * alpha.cos(),
                               outer * beta.sin()), -1)
    return quaternion_to_matrix(quaternions).to(device=device, dtype=dtype)


def product_rotations(n_views: int, n_psi: int, device: torch.device | str = "cpu") -> Tensor:
    """``(n_psi, n_views, 3, 3)`` rotations ``Rz(psi_j) A_v``: each of even directions at each of even in-plane angles.

    The directions lie on a spiral of equal areas, one golden angle after the other (Swinbank and Purser, Q. J. R.
    Meteorol. Soc. 132, 1769, 2006); ``psi_j = 360 j / n_psi`` degrees.
    """
    number = torch.arange(n_views, dtype=torch.float64)
    tilt = torch.rad2deg(torch.acos(1 - (2 * number + 1) / n_views))
    psi = torch.arange(n_psi, dtype=torch.float64) * (360 / n_psi)
    return euler_to_matrix((number * _GOLDEN_DEG)[None], tilt[None], psi[:, None]).to(device, torch.float32)


def order_by_view(A: Tensor) -> Tensor:
    """Row numbers ``(n,)`` of rotations ``(n, 3, 3)`` in an order in which neighbours have near views.

    Slices of near views read the same part of a map, which then lies in the processor's cache. A view and its opposite
    read the same plane. Bands of equal area about z, ``sqrt(n / 2 pi)`` of them, every second one backwards.
    """
    view = A[:, 2].double()
    view = torch.where(view[:, 2:] < 0, -view, view)
    n_bands = max(1, round(math.sqrt(len(A) / (2 * math.pi))))
    band = (view[:, 2] * n_bands).long().clamp(0, n_bands - 1)
    turn = torch.atan2(view[:, 1], view[:, 0])
    along = torch.argsort(torch.where(band % 2 == 0, turn, -turn), stable=True)
    return along[torch.argsort(band[along], stable=True)]


def rotation_distance_deg(A: Tensor, B: Tensor) -> Tensor:
    """Angle in degrees between rotations ``(..., 3, 3)``: ``|A - B|_F = 2 sqrt(2) sin(angle / 2)``."""
    sine = (A - B).flatten(-2).norm(dim=-1) / (2 * math.sqrt(2.0))
    return torch.rad2deg(2 * torch.asin(sine.clamp(max=1.0)))
