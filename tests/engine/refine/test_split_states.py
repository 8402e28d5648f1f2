"""Two states are split, one is not; what evidence it takes."""
from __future__ import annotations

import numpy as np
import torch
from refine_particles import blobs, mask_of, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.reconstruction.least_squares import residual_noise, weighted_map
from vaegan_engine.reconstruction.posed_images import posed
from vaegan_engine.refine.split_states import is_separate, separation, try_split
from vaegan_engine.refine.two_maps import MapModel
from vaegan_engine.stats.density_valley import valley_ratio


def split_of(maps, n_each, seed=0):
    data, label, A, shifts = simulated(maps, n_each, 1.0, seed)
    band = make_band(24, 7.0)
    X, C = data.coefficients(np.arange(len(label)), band)
    images = posed(X, C, A, shifts, band)
    volume = weighted_map(images, torch.ones(len(label)), torch.ones_like(band.weight), mask_of(24))
    precision = band.weight / residual_noise(images, volume)[band.shell]
    return label, try_split(images, MapModel(volume, precision, mask_of(24)), torch.Generator().manual_seed(0))


def test_two_states_are_split():
    common = blobs(7)
    extra = common + 2.5 * torch.roll(blobs(8, n=2), 2, 0)
    label, (side, maps, evidence) = split_of([common, extra], 300)
    right = max(np.mean(side == label), np.mean(side != label))
    assert is_separate(evidence) and right > 0.95, evidence
    assert maps.shape == (2, 24, 24, 24)


def test_one_state_is_not_split():
    _, (_, _, evidence) = split_of([blobs(7)], 600)
    balanced = 0.1 < evidence["n_second"] / 600 < 0.9
    assert not (is_separate(evidence) and balanced), evidence


def test_separation_needs_agreement_and_a_valley():
    rng = torch.Generator().manual_seed(0)
    A = random_rotations(2000, rng)
    state = 6.0 * (torch.arange(2000) % 2) - 3.0
    first, second = (state + torch.randn(2000, generator=rng) for _ in range(2))
    assert is_separate(separation(first, second, second, A))
    noise = [torch.randn(2000, generator=rng) for _ in range(2)]
    assert not is_separate(separation(*noise, noise[1], A))
    ramp = torch.linspace(-3, 3, 2000)
    moving = separation(ramp + 0.3 * noise[0], ramp + 0.3 * noise[1], ramp + 0.3 * noise[1], A)
    assert moving["agreement"] > 0.5 and not is_separate(moving)


def test_what_the_view_divides_is_no_state_unless_it_is_plain():
    """A cone of views has a map of its own: agreement and valley would do, but the view explains the sides."""
    rng = torch.Generator().manual_seed(1)
    A = random_rotations(2000, rng)
    cone = torch.where(A[:, 2, 2].abs() > 0.7, 2.0, -2.0)
    values = [cone + 0.8 * torch.randn(2000, generator=rng) for _ in range(3)]
    cut = separation(*values, A)
    assert cut["by_view"] > 0.5 and 0.5 < cut["agreement"] < 0.95
    assert not is_separate({**cut, "agreement": 0.7})
    assert is_separate({**cut, "agreement": 0.7, "by_view": 0.3, "valley": 0.3})
    assert is_separate({**cut, "agreement": 0.95, "valley": 0.05})  # wrong poses part images by views, and plainly


def test_one_normal_distribution_has_no_valley():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((4000, 1))
    assert valley_ratio(one[one[:, 0] < 0][:, None].reshape(-1, 1), one[one[:, 0] >= 0].reshape(-1, 1)) > 0.6
