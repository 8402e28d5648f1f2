"""Maps that a start begins with: random blobs, scaled to the images."""
from __future__ import annotations

import torch
from torch import Tensor

from ..physics.fourier_band import make_band
from ..physics.fsc import soft_sphere_mask
from ..physics.projection import volume_to_fourier
from ..physics.rotations import super_fibonacci_rotations
from ..physics.slices import PAD, gather, stencil
from ..reconstruction.images import _SAMPLE_IMAGES, Images, image_power, low_passed, spread_rows
from ..reconstruction.map_mixture import MapMixture

_SCALE_ROTATIONS = 256
_RANDOM_START = 0.5  # amplitude of a random start, relative to the signal's
_BLOB_FRAC, _BLOB_EDGE_FRAC = 0.25, 0.12  # of the box: radius and edge of a random start


def scaled_to_images(maps: Tensor, data: Images, power: Tensor, radius: float) -> Tensor:
    """Maps times one factor, so that their slices have the power the images have above the noise.

    The noise is taken from the shells near Nyquist.
    """
    band = make_band(data.box_px, radius, data.device)
    A = super_fibonacci_rotations(_SCALE_ROTATIONS, data.device)
    at = stencil(band, A)
    made = torch.stack([gather(v, at).abs().square().mean(0) for v in volume_to_fourier(maps, PAD)]).mean(0)
    transforms, ctf = data.coefficients(spread_rows(len(data), _SAMPLE_IMAGES), band)
    signal = (transforms.abs().square().mean(0) - power[-3]).clamp_min(0)
    inner = band.shell > 0
    expected = (ctf.square().mean(0) * made)[inner].sum()
    return maps * (signal[inner].sum() / expected.clamp_min(1e-30)).sqrt()


def random_maps(n: int, box_px: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """``(n, d, d, d)`` white noise in a soft sphere."""
    blob = torch.from_numpy(soft_sphere_mask(box_px, _BLOB_FRAC * box_px, _BLOB_EDGE_FRAC * box_px)).to(device)
    return torch.randn(n, box_px, box_px, box_px, generator=rng).to(device) * blob


def start(data: Images, maps: Tensor | None, n_maps: int, radius: float, mask: Tensor,
          rng: torch.Generator) -> MapMixture:
    """Mixture at the first step: low-passed, scaled maps, the images' power as noise.

    ``maps`` are filled up with random ones to ``n_maps``: from one map alone a mixture often ends in wrong poses.
    """
    power, groups = image_power(data), []
    if maps is not None:
        groups.append(scaled_to_images(low_passed(maps, radius), data, power, radius))
    n_random = n_maps - (0 if maps is None else len(maps))
    if n_random > 0:
        blobs = random_maps(n_random, data.box_px, rng, data.device)
        groups.append(_RANDOM_START * scaled_to_images(low_passed(blobs, radius), data, power, radius))
    return MapMixture(torch.cat(groups), power, mask)
