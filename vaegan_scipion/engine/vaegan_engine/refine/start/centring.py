"""Where a map stands that is made without poses: it may drift, and its images' shifts then end at their limit.

A map displaced by c has its slice along A displaced by ``(A c)_xy``, so images of a particle in their middle are found
at shifts ``s_i = -(A_i c)_xy + (what each is off centre)``. So c is what explains the shifts best: the least squares
solution, with a little drawn to 0 along which the views say nothing, and of it what a point group leaves where it is.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from ...physics.slices import PAD
from ...reconstruction.map_mixture import MapMixture

MOST_AT_LIMIT = 0.15  # of the particles at the largest shift: beyond it there is a warning
NEAR_FRAC = 0.95  # of the largest shift: at the limit; of shifts that are even within it, 10 % are
_RIDGE = 0.05  # added to the mean of the normal matrix's diagonal


def displacement_px(rotations: Tensor, shifts_px: Tensor, group: Tensor) -> tuple[Tensor, float]:
    """How far (x, y, z) a map stands off the centre that its images share, and the standard error of that distance.

    From poses ``(n, 3, 3)``, ``(n, 2)``. ``group`` (g, 3, 3) of the map's symmetry: its mean leaves of c what lies on
    all axes.
    """
    rows, shifts = rotations[:, :2].reshape(-1, 3).double(), shifts_px.reshape(-1).double()
    normal = rows.T @ rows
    normal += _RIDGE * normal.diagonal().mean() * torch.eye(3, dtype=torch.float64, device=rows.device)
    inverse = torch.linalg.pinv(normal, hermitian=True)
    c = -inverse @ (rows.T @ shifts)
    variance = (shifts + rows @ c).square().mean() * inverse.trace()
    return (group.double().mean(0) @ c).float(), float(variance.sqrt())


def move_back(model: MapMixture, displaced_px: Tensor, box_px: int) -> None:
    """Move the maps of a mixture, and the sums that they are made from, by ``-displaced_px`` of the images' pixels."""
    d = model.box_px
    c = displaced_px.to(model.maps.device) * d / box_px
    transforms = torch.fft.rfftn(model.maps, dim=(1, 2, 3)) * shift_phases_of(d, c)
    model.maps = torch.fft.irfftn(transforms, s=(d, d, d), dim=(1, 2, 3))
    model.maps = model.maps * model.constraint.mask_in(d)
    model.numerator = model.numerator * shift_phases_of(PAD * d, c)


def share_at_limit(shifts_px: Tensor, max_shift_px: float) -> float:
    """Part of shifts ``(n, 2)`` that reach the largest one along x or y; 0 where none is searched."""
    if not max_shift_px:
        return 0.0
    return float((shifts_px.abs().amax(-1) >= NEAR_FRAC * max_shift_px).float().mean())


def shift_phases_of(d: int, centre: Tensor) -> Tensor:
    """``exp(2 pi i k.c / d)`` on a half transform ``(d, d, d//2 + 1)``: moves ``centre`` (x, y, z) to the origin."""
    k, kx = (torch.fft.fftfreq(d, 1 / d, device=centre.device), torch.arange(d // 2 + 1, device=centre.device))
    angle = 2 * math.pi / d * (centre[2] * k[:, None, None] + centre[1] * k[None, :, None] + centre[0] * kx)
    return torch.polar(torch.ones_like(angle), angle)
