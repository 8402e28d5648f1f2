"""The kernels of ``states`` and of the VAE-GAN on a device against the CPU's: the same inputs, the same results.

A CPU has compiled kernels, other devices the same in tensor operations; each is compared through the function that
chooses between them.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...contract import presets
from ...networks.vae_gan import Frame, VaeGan
from ...physics.fourier_band import Band, image_transforms, make_band, shift_grid, shift_phases
from ...physics.fsc import soft_sphere_mask
from ...physics.map_constraint import within
from ...physics.rotations import random_rotations, rotation_distance_deg
from ...physics.slices import add_slices, map_box_px, take_slices, transform_of
from ...reconstruction.least_squares import solved
from ...reconstruction.map_mixture import MapMixture, Posterior, Shifted, accumulate, search
from ...reconstruction.pose_refinement import AtPoses, refine_poses
from ...simulation.phantom import phantom_states

BOX_PX, RADIUS, N_IMAGES, N_ROTATIONS = 32, 8.0, 48, 200
PIXEL_SIZE_ANG = 9.0
NOISE = 0.3  # of the images, in standard deviations of the clean ones
MAX_DIFFERENCE = 1e-3  # of arrays, relative to their largest value; sums are made in another order
MAX_SHARE_APART = 0.05  # of images whose best or refined pose may differ: nearly equal ones
APART_DEG, APART_PX = 0.1, 0.05


@dataclass(frozen=True)
class Difference:
    """How far a kernel on the device is from the CPU's."""

    kernel: str
    value: float
    limit: float

    @property
    def is_small(self) -> bool:
        """Whether it is within its limit; a number that is none is not."""
        return self.value <= self.limit

    def text(self) -> str:
        """For people."""
        return f"{self.kernel}: {self.value:.2g}, at most {self.limit:.2g} is allowed"


class Case(NamedTuple):
    """Images of two maps at known poses, on the CPU."""

    maps: Tensor  # (c, d, d, d)
    images: Tensor  # (n, d, d)
    ctf: Tensor  # (n, p)
    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    grid: Tensor  # (m, 3, 3)


def differences(device: torch.device) -> list[Difference]:
    """All kernels on ``device`` against the CPU."""
    case = made_case()
    here, there = (results(case, where) for where in (torch.device("cpu"), device))
    apart_by = [relative(name, here.arrays[name], there.arrays[name]) for name in here.arrays]
    same_best = (here.posterior.best_rotation == there.posterior.best_rotation.cpu()).float().mean()
    apart_by.append(Difference("search_best_poses_apart", 1 - float(same_best), MAX_SHARE_APART))
    turned = rotation_distance_deg(here.rotations, there.rotations.cpu())
    moved = (here.shifts_px - there.shifts_px.cpu()).norm(dim=1)
    apart = ((turned > APART_DEG) | (moved > APART_PX)).float().mean()
    return [*apart_by, Difference("refined_poses_apart", float(apart), MAX_SHARE_APART)]


def relative(kernel: str, here: Tensor, there: Tensor) -> Difference:
    """Largest difference over the largest value."""
    value = float((here - there.cpu()).abs().max() / here.abs().max())
    return Difference(f"{kernel}_difference", value if np.isfinite(value) else float("inf"), MAX_DIFFERENCE)


def made_case(seed: int = 0) -> Case:
    """Two states of the phantom, seen from random sides, with an oscillating factor as of a CTF, and noise."""
    rng = torch.Generator().manual_seed(seed)
    maps = torch.from_numpy(phantom_states(2, BOX_PX, PIXEL_SIZE_ANG))
    band = make_band(BOX_PX, RADIUS)
    rotations, grid = random_rotations(N_IMAGES, rng), random_rotations(N_ROTATIONS, rng)
    shifts_px = 2 * torch.rand(N_IMAGES, 2, generator=rng) - 1
    ctf = torch.cos(band.kxy.norm(dim=1) * (0.2 + 0.1 * torch.rand(N_IMAGES, 1, generator=rng)))
    slices = take_slices(transform_of(maps[0], band), band, rotations) * ctf * shift_phases(band, -shifts_px)
    plane = torch.zeros(N_IMAGES, BOX_PX * (BOX_PX // 2 + 1), dtype=torch.complex64)
    plane[:, band.index] = slices
    clean = torch.fft.fftshift(torch.fft.irfft2(plane.unflatten(1, (BOX_PX, -1)), s=(BOX_PX, BOX_PX)), dim=(1, 2))
    noise = NOISE * clean.std() * torch.randn(clean.shape, generator=rng)
    return Case(maps, clean + noise, ctf, rotations, shifts_px, grid)


class Results(NamedTuple):
    """What the kernels made of a case, on the device that they ran on."""

    arrays: dict[str, Tensor]
    posterior: Posterior
    rotations: Tensor
    shifts_px: Tensor


def results(case: Case, device: torch.device) -> Results:
    """Every kernel on one device."""
    case = Case(*(values.to(device) for values in case))
    band = make_band(BOX_PX, RADIUS, device)
    transforms = image_transforms(case.images, band)
    map_ft = transform_of(case.maps[0], band)
    slices = take_slices(map_ft, band, case.rotations)
    moved = transforms * shift_phases(band, case.shifts_px) * case.ctf
    map_px = map_box_px(RADIUS, BOX_PX)
    top, bottom = add_slices(lambda rows: (moved[rows], case.ctf[rows].square()), band, case.rotations, map_px,
                              torch.eye(3, device=device)[None])
    model, posterior = e_and_m_step(case, transforms, band)
    precision = band.weight / (transforms - case.ctf * slices).abs().square().mean()
    near = AtPoses(transforms, case.ctf, case.rotations, case.shifts_px, band)
    rotations, shifts_px, misfit = refine_poses(map_ft, near, precision)
    arrays = {"transforms": transforms, "slices": slices, "summed_slices": top, "summed_weights": bottom,
              "solved_map": solved(top, bottom, map_px, RADIUS), "log_evidence": posterior.log_evidence,
              "posterior_sums": model.numerator, "noise": model.noise, "misfit": misfit,
              "decoded_map": decoded_map(device)}
    return Results(arrays, posterior, rotations, shifts_px)


def e_and_m_step(case: Case, transforms: Tensor, band: Band) -> tuple[MapMixture, Posterior]:
    """One step of expectation maximisation, with contrasts."""
    mask = torch.from_numpy(soft_sphere_mask(BOX_PX, 0.4 * BOX_PX, 2.0)).to(transforms.device)
    noise = torch.full((BOX_PX // 2 + 1,), 2 * float(transforms.abs().square().mean()), device=transforms.device)
    model = MapMixture(case.maps, noise, within(mask))
    model.fit_box(RADIUS)
    images = Shifted(transforms, case.ctf, band, shift_phases(band, shift_grid(1.0, 1.0, transforms.device)))
    templates = model.templates(band, case.grid)
    posterior = search(images, model, templates, spread=0.2)
    accumulate(model, posterior, images._replace(ctf=images.ctf * posterior.contrast[:, None]), templates)
    return model, posterior


def decoded_map(device: torch.device) -> Tensor:
    """The first component of an untrained generator of the preset ``fast``."""
    run = presets.build_run("train3d", "fast", {"data": {"particles": "none.star", "box_px": BOX_PX}})
    z = torch.eye(run.model.n_categories)[:1]
    return VaeGan(run, Frame(BOX_PX, PIXEL_SIZE_ANG), device).decode(z)


def check(device: torch.device, report: Callable[[str, float], None]) -> list[str]:
    """Report every difference; returns those that are too large, as text."""
    all_differences = differences(device)
    for difference in all_differences:
        report(difference.kernel, difference.value)
    return [difference.text() for difference in all_differences if not difference.is_small]
