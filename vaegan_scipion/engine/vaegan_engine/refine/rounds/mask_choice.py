"""How far the particle reaches: the mask of all maps, chosen by images that the maps were made without.

A mask that cuts the particle does not only blur: what is outside is missing along some views more than along others,
and the images of these views then make a state of their own, at poses some degrees off that put the missing part
inside. A mask that is too wide only adds noise. So maps are made from one half of each state's images, and the mask
with which they best explain the other half is taken. A mask that was given is kept, and rated beside the others.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...contract.records import MaskRow
from ...data.given_mask import reach_px
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
    """``least_squares.misfits`` per mask, summed over some images of a state, each by the map of the half it is not in.

    Of rows of one image the first stands for all: a copy in the other half would be no unseen image.
    """
    images, spread = problem.images, problem.images.contrast_spread
    band = make_band(problem.box_px, max_shell, problem.device)
    flat, whole = torch.ones_like(band.weight), MapConstraint(torch.ones_like(masks[0]), problem.constraint.group)
    distinct, _ = problem.distinct(state.rows)
    at = distinct[spread_rows(len(distinct), problem.tuning.mask.max_images)]
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
    misfit = mean_misfits(problem, states, masks, max_shell)
    kept = int(np.argmin(misfit))
    return [MaskRow(radius_ang, float(value), k == kept)
            for k, (radius_ang, value) in enumerate(zip(radii_ang(problem), misfit, strict=True))]


def rate_given(problem: Problem, states: list[State], masks: list[Tensor], max_shell: float) -> list[MaskRow]:
    """The rows of ``rate_masks`` and one of the problem's own mask, which is kept: it was given."""
    *misfit, own = mean_misfits(problem, states, [*masks, problem.mask], max_shell)
    reach_ang = reach_px(problem.mask) * problem.images.pixel_size_ang
    return [*(MaskRow(radius_ang, float(value), False)
              for radius_ang, value in zip(radii_ang(problem), misfit, strict=True)),
            MaskRow(reach_ang, float(own), True, given=True)]


def radii_ang(problem: Problem) -> list[float]:
    """Where the candidates begin to fall."""
    box_ang = problem.box_px * problem.images.pixel_size_ang
    return [(problem.particle_radius_frac + beyond) * box_ang for beyond in problem.tuning.mask.beyond_fracs]


def mean_misfits(problem: Problem, states: list[State], masks: list[Tensor], max_shell: float) -> np.ndarray:
    """``unseen_misfits`` per mask and image."""
    n = sum(min(len(problem.distinct(state.rows)[0]), problem.tuning.mask.max_images) for state in states)
    total: np.ndarray = np.sum([unseen_misfits(problem, state, masks, max_shell) for state in states], 0)
    return total / n
