"""How far the particle reaches: the mask of all maps, chosen by images that the maps were made without.

A mask that cuts the particle does not only blur: what is outside is missing along some views more than along others,
and the images of these views then make a state of their own, at poses some degrees off that put the missing part
inside. A mask that is too wide only adds noise. So maps are made from one half of each state's images, and the mask
with which they best explain the other half is taken.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import make_band
from ..physics.fsc import soft_sphere_mask
from ..reconstruction.images import Images, spread_rows
from ..reconstruction.least_squares import misfits, reconstruction, residual_noise
from ..reconstruction.posed_images import Coefficients, PosedImages
from .states import State

BEYOND_FRACS = -0.05, 0.03, 0.10  # of the box: full mask up to the particle's circle and so much more
FIRST = 1  # of them, before there are poses
EDGE_FRAC = 0.08
MOST_IMAGES = 2000  # of a state


def masks(box_px: int, circle_frac: float, device: torch.device) -> list[Tensor]:
    """Soft spheres ``(d, d, d)`` about a particle whose circle has the radius ``circle_frac`` of the box."""
    return [torch.from_numpy(soft_sphere_mask(box_px, (circle_frac + beyond) * box_px, EDGE_FRAC * box_px)).to(device)
            for beyond in BEYOND_FRACS]


def unseen_misfits(data: Images, state: State, tried: list[Tensor], radius: float) -> np.ndarray:
    """``heterogeneity.misfits`` per mask, summed over a state's images, each by the map of the half it is not in."""
    band = make_band(data.box_px, radius, data.device)
    flat, whole = torch.ones_like(band.weight), torch.ones_like(tried[0])
    at = spread_rows(len(state.rows), MOST_IMAGES)
    halves = [PosedImages(Coefficients(data, state.rows[own], band), state.A[own], state.shifts_px[own])
              for own in (at[::2], at[1::2])]
    maps = [reconstruction(half, flat, whole) for half in halves]
    noise = torch.stack([residual_noise(half, map_) for half, map_ in zip(halves, maps[::-1], strict=True)]).mean(0)
    precision = band.weight / noise[band.shell]
    maps = [reconstruction(half, precision, whole) for half in halves]
    return np.array([sum(float(misfits(half, map_ * mask, precision, data.contrast_spread).sum())
                         for half, map_ in zip(halves, maps[::-1], strict=True)) for mask in tried])


def best_mask(data: Images, states: list[State], tried: list[Tensor], radius: float, circle_frac: float
              ) -> list[dict[str, Any]]:
    """A row per mask: its radius (where it begins to fall) in A, the misfit of an unseen image, which one is kept."""
    n = sum(min(len(state.rows), MOST_IMAGES) for state in states)
    misfit = np.sum([unseen_misfits(data, state, tried, radius) for state in states], 0) / n
    box_ang, kept = data.box_px * data.pixel_size_ang, int(np.argmin(misfit))
    return [{"radius_ang": (circle_frac + beyond) * box_ang, "misfit": float(value), "kept": k == kept}
            for k, (beyond, value) in enumerate(zip(BEYOND_FRACS, misfit, strict=True))]
