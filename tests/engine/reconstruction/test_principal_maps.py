"""Principal maps at known poses: closed forms, a toy of two states, a toy of one."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.physics import shards
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.reconstruction import principal_maps as module
from vaegan_engine.reconstruction.least_squares import reconstruction, residual_noise
from vaegan_engine.reconstruction.map_family import Spreads, family, seen
from vaegan_engine.reconstruction.pose_refinement import small_rotations
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages, posed
from vaegan_engine.reconstruction.principal_maps import (
    PrincipalMaps,
    agreed,
    drawn_maps,
    improved,
    linear_posterior,
    one_pass,
)

D, RADIUS = 20, 7.0


def start_of(images, rotations, shifts, m=2):
    """Mean, noise and a reader of the images."""
    band = make_band(D, RADIUS)
    source = Coefficients(images, np.arange(len(images)), band)
    whole = PosedImages(source, rotations, shifts)
    mean = reconstruction(whole, torch.ones_like(band.weight), within(torch.ones(D, D, D)))
    noise = residual_noise(whole, mean)
    start = PrincipalMaps(mean, torch.zeros(m, D, D, D), noise, Spreads(), band)
    return start, lambda rows: posed(*source[rows.numpy()], rotations[rows], shifts[rows], band)


def principal_maps(start, read, rows, rounds, seed):
    everywhere = within(torch.ones(D, D, D))
    return improved(drawn_maps(start, read, rows, everywhere, seed), read, rows, everywhere, rounds)


def latents(maps, read):
    found = seen(family(maps.mean, maps.basis, maps.band), read, maps.precision, maps.spreads)
    return linear_posterior(found.gram, found.pull)[0]


@pytest.fixture(scope="module")
def two_states():
    """A blob more or less, and poses that are off by one degree and a quarter of a pixel."""
    one = blobs(0, D)
    other = one + blobs(5, D, n=4, reach_frac=0.2)
    images, label, rotations, shifts = simulated([one, other], 250, 0.5)
    rng = torch.Generator().manual_seed(3)
    rotations = small_rotations(torch.deg2rad(torch.randn(500, 3, generator=rng))) @ rotations
    shifts = shifts + 0.25 * torch.randn(500, 2, generator=rng)
    start, read = start_of(images, rotations, shifts)
    halves = [principal_maps(start, read, torch.arange(k, 500, 2), 6, k) for k in range(2)]
    return other - one, label, read, halves


def test_posterior_of_a_linear_model_is_the_conditional_of_a_joint_gaussian():
    rng = torch.Generator().manual_seed(0)
    Y = torch.randn(40, 3, generator=rng, dtype=torch.float64)
    x = torch.randn(40, generator=rng, dtype=torch.float64)
    joint = torch.eye(40, dtype=torch.float64) + Y @ Y.T  # covariance of x = Y z + n
    mean, covariance = linear_posterior((Y.T @ Y)[None], (Y.T @ x)[None])
    assert torch.allclose(mean[0], Y.T @ torch.linalg.solve(joint, x), rtol=1e-10, atol=1e-10)
    assert torch.allclose(covariance[0], torch.eye(3) - Y.T @ torch.linalg.solve(joint, Y), rtol=1e-10, atol=1e-10)


def test_two_states_are_the_first_direction_and_halves_agree_on_one(two_states):
    difference, label, read, halves = two_states
    found = agreed(*halves)
    assert found.cosines[0] > 0.7 > 0.2 > found.cosines[1]
    inner = difference.flatten() - difference.mean()
    correlation = torch.corrcoef(torch.stack((found.basis[0].flatten(), inner)))[0, 1]
    assert abs(float(correlation)) > 0.8
    maps = replace(halves[0], basis=found.basis[:1])
    z = latents(maps, read(torch.arange(500)))[:, 0].numpy()
    right = ((z > np.median(z)) == label).mean()
    assert max(right, 1 - right) > 0.95
    assert abs(np.rad2deg(maps.spreads.rotation_rad) - 1) < 0.5
    assert abs(maps.spreads.shift * D - 0.25) < 0.12


def test_one_state_has_no_direction_that_halves_agree_on():
    images, _, rotations, shifts = simulated([blobs(0, D)], 400, 1.0)
    start, read = start_of(images, rotations, shifts)
    halves = [principal_maps(start, read, torch.arange(k, 400, 2), 4, k) for k in range(2)]
    assert float(agreed(*halves).cosines[0]) < 0.2


def test_the_same_span_agrees_and_its_directions_come_back(two_states):
    maps = two_states[3][0]
    turned = replace(maps, basis=torch.stack((maps.basis[0] + maps.basis[1], maps.basis[0] - maps.basis[1])) / 2 ** 0.5)
    found = agreed(maps, turned)
    assert torch.allclose(found.cosines, torch.ones(2), atol=1e-4)
    before, after = (torch.linalg.qr(basis.flatten(1).T)[0] for basis in (maps.basis, found.basis))
    assert torch.allclose(torch.linalg.svdvals(before.T @ after), torch.ones(2), atol=1e-4)  # the same span
    power = found.basis.square().sum()
    assert abs(float(power / maps.basis.square().sum()) - 1) < 0.05  # and the same spread


def test_a_pass_in_parts_is_one_over_all_by_any_number_of_threads(two_states, monkeypatch):
    _, _, read, (maps, _) = two_states

    def moments(_, seen_images):
        mean, covariance = linear_posterior(seen_images.gram, seen_images.pull)
        return mean, covariance + mean[:, :, None] * mean[:, None]

    rows = torch.arange(450)
    whole = one_pass(maps, read, rows, moments).values()
    monkeypatch.setattr(module, "FAMILY_CHUNK_IMAGES", 32)
    parts = []
    for n_threads in (2, 1):
        shards.use_threads(n_threads)
        parts.append(one_pass(maps, read, rows, moments, shared=True).values())
    for a, b, c in zip(whole, *parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))
        assert torch.equal(b, c)
