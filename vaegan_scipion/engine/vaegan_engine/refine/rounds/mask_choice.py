"""How far the particle reaches: the mask of all maps, chosen by images that the maps were made without.

A mask that cuts the particle does not only blur: what is outside is missing along some views more than along others,
and the images of these views then make a state of their own, at poses some degrees off that put the missing part
inside. A mask that is too wide only adds noise. So maps are made from one half of each state's images, and the mask
with which they best explain the other half is taken.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...contract.records import MaskRow
from ...physics.fourier_band import make_band
from ...physics.fsc import soft_sphere_mask
from ...physics.map_constraint import MapConstraint
from ...physics.map_resize import mask_in_box
from ...reconstruction.images import spread_rows
from ...reconstruction.least_squares import misfits, reconstruction, residual_noise
from ...reconstruction.posed_images import Coefficients, PosedImages
from ..problem import Problem
from ..states import State
from ..tuning import TUNING, MaskTuning


def candidate_masks(box_px: int, particle_radius_frac: float, device: torch.device, tuning: MaskTuning = TUNING.mask
                    ) -> list[Tensor]:
    """Soft spheres ``(d, d, d)`` about a particle whose circle has the radius ``particle_radius_frac`` of the box."""
    return [torch.from_numpy(soft_sphere_mask(box_px, (particle_radius_frac + beyond) * box_px,
                                              tuning.edge_frac * box_px)).to(device)
            for beyond in tuning.beyond_fracs]


def unseen_misfits(problem: Problem, state: State, masks: list[Tensor], max_shell: float) -> np.ndarray:
    """``least_squares.misfits`` per mask, summed over a state's images, each by the map of the half it is not in."""
    images, spread = problem.images, problem.images.contrast_spread
    band = make_band(problem.box_px, max_shell, problem.device)
    flat, whole = torch.ones_like(band.weight), MapConstraint(torch.ones_like(masks[0]), problem.constraint.group)
    at = spread_rows(len(state.rows), problem.tuning.mask.max_images)
    halves = [PosedImages(Coefficients(images, state.rows[own], band), state.rotations[own], state.shifts_px[own])
              for own in (at[::2], at[1::2])]
    maps = [reconstruction(half, flat, whole) for half in halves]
    noise = torch.stack([residual_noise(half, map_) for half, map_ in zip(halves, maps[::-1], strict=True)]).mean(0)
    precision = band.weight / noise[band.shell]
    maps = [reconstruction(half, precision, whole) for half in halves]
    fitting = [mask_in_box(mask, len(maps[0])) for mask in masks]
    return np.array([sum(float(misfits(half, map_ * mask, precision, spread).sum())
                         for half, map_ in zip(halves, maps[::-1], strict=True)) for mask in fitting])


def rate_masks(problem: Problem, states: list[State], masks: list[Tensor], max_shell: float) -> list[MaskRow]:
    """A row per mask: its radius (where it begins to fall) in A, the misfit of an unseen image, which one is kept."""
    tuning = problem.tuning.mask
    n = sum(min(len(state.rows), tuning.max_images) for state in states)
    misfit = np.sum([unseen_misfits(problem, state, masks, max_shell) for state in states], 0) / n
    box_ang, kept = problem.box_px * problem.images.pixel_size_ang, int(np.argmin(misfit))
    return [MaskRow((problem.particle_radius_frac + beyond) * box_ang, float(value), k == kept)
            for k, (beyond, value) in enumerate(zip(tuning.beyond_fracs, misfit, strict=True))]
