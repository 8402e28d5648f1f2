"""Maps that a start begins with: random blobs, scaled to the images."""
from __future__ import annotations

import torch
from torch import Tensor

from ...physics.fourier_band import make_band
from ...physics.fsc import soft_sphere_mask
from ...physics.map_constraint import symmetrised_maps
from ...physics.rotations import super_fibonacci_rotations
from ...physics.slices import take_slices, transforms_of
from ...reconstruction.images import Images, image_power, low_passed, spread_rows
from ...reconstruction.map_mixture import MapMixture
from ..problem import Problem
from ..tuning import TUNING, StartTuning


def scale_to_images(maps: Tensor, data: Images, power: Tensor, max_shell: float, tuning: StartTuning = TUNING.start
                    ) -> Tensor:
    """Maps times one factor, so that their slices have the power the images have above the noise.

    The noise is taken from the shells near Nyquist of the images' ``power`` (d//2 + 1,).
    """
    band = make_band(data.box_px, max_shell, data.device)
    rotations = super_fibonacci_rotations(tuning.n_rotations_scale, data.device)
    made = torch.stack([take_slices(map_ft, band, rotations).abs().square().mean(0)
                        for map_ft in transforms_of(maps, band)]).mean(0)
    transforms, ctf = data.coefficients(spread_rows(len(data), tuning.n_images_power), band)
    signal = (transforms.abs().square().mean(0) - power[tuning.noise_shell]).clamp_min(0)
    inner = band.shell > 0
    expected = (ctf.square().mean(0) * made)[inner].sum()
    return maps * (signal[inner].sum() / expected.clamp_min(1e-30)).sqrt()


def random_maps(n: int, box_px: int, rng: torch.Generator, device: torch.device, tuning: StartTuning = TUNING.start
                ) -> Tensor:
    """``(n, d, d, d)`` white noise in a soft sphere."""
    sphere = soft_sphere_mask(box_px, tuning.blob_radius_frac * box_px, tuning.blob_edge_frac * box_px)
    return torch.randn(n, box_px, box_px, box_px, generator=rng).to(device) * torch.from_numpy(sphere).to(device)


def starting_mixture(problem: Problem, maps: Tensor | None, n_maps: int, rng: torch.Generator) -> MapMixture:
    """Mixture at the first step: low-passed, scaled maps, the images' power as noise.

    ``maps`` are filled up with random ones to ``n_maps``: from one map alone a mixture often ends in wrong poses.
    """
    images, max_shell, tuning = problem.images, problem.settings.start_shells, problem.tuning.start
    power, groups = image_power(images), []
    if maps is not None:
        groups.append(scale_to_images(low_passed(maps, max_shell), images, power, max_shell, tuning))
    n_random = n_maps - (0 if maps is None else len(maps))
    if n_random > 0:
        blobs = random_maps(n_random, images.box_px, rng, images.device, tuning)
        blobs = symmetrised_maps(blobs, problem.constraint.group)  # from the first step on the axes are where they stay
        groups.append(tuning.random_amplitude
                      * scale_to_images(low_passed(blobs, max_shell), images, power, max_shell, tuning))
    return MapMixture(torch.cat(groups), power, problem.constraint)
