"""FSC with a mask against closed forms: what the mask alone brings is taken off, what is there stays."""
from __future__ import annotations

import numpy as np
import pytest
from refine_particles import blobs
from vaegan_engine.physics.fsc import fourier_shell_correlation, resolution_at, shells_of, soft_sphere_mask
from vaegan_engine.physics.masked_fsc import (
    conical_fsc,
    corrected,
    mask_of_map,
    masked_fsc,
    otsu_threshold,
    phase_randomised,
)


def white(rng: np.random.Generator, box_px: int) -> np.ndarray:
    return rng.standard_normal((box_px,) * 3)


def filtered(map_: np.ndarray, keep) -> np.ndarray:
    """Only the shells that ``keep`` says."""
    shell = shells_of(len(map_), 3)[0].reshape(len(map_), len(map_), -1)
    return np.fft.irfftn(np.fft.rfftn(map_) * keep(shell), s=map_.shape, axes=(0, 1, 2))


@pytest.mark.parametrize("box_px", [31, 32])
def test_random_phases_keep_every_amplitude_and_what_is_below_the_shell(box_px):
    rng = np.random.default_rng(0)
    map_ = white(rng, box_px)
    turned = phase_randomised(map_, 5, rng)
    before, after = np.fft.rfftn(map_), np.fft.rfftn(turned)
    np.testing.assert_allclose(np.abs(after), np.abs(before), rtol=1e-6, atol=1e-6)
    fsc = fourier_shell_correlation(map_, turned)
    np.testing.assert_allclose(fsc[:5], 1, atol=1e-9)
    assert np.abs(fsc[6:]).max() < 0.2


@pytest.mark.parametrize("box_px", [47, 48])
def test_what_a_hard_mask_brings_is_taken_off(box_px):
    """A smooth particle in independent noise, a mask with a sharp edge: agreement at all shells that is not there."""
    rng = np.random.default_rng(1)
    smooth = filtered(soft_sphere_mask(box_px, 0.3 * box_px, 4), lambda shell: shell < 5)
    halves = np.stack([smooth + 0.04 * filtered(white(rng, box_px), lambda shell: shell > 4) for _ in range(2)])
    hard = soft_sphere_mask(box_px, 0.25 * box_px, 0.0)
    found = masked_fsc(halves, hard)
    assert found.first_random == 5
    np.testing.assert_allclose(found.raw[6:], 0, atol=0.15)
    assert found.masked[8:].mean() > 0.2
    assert abs(found.corrected[8:].mean()) < 0.1


def test_a_signal_that_is_there_stays_and_the_mask_shows_it_without_the_noise_around():
    """White signal inside a ball, noise all over: r = 1 in the whole box becomes r = volume / ball within."""
    rng, box_px = np.random.default_rng(2), 48
    mask = soft_sphere_mask(box_px, 0.3 * box_px, 3.0)
    signal = white(rng, box_px) * soft_sphere_mask(box_px, 0.3 * box_px, 0.0)
    noise = np.sqrt(np.square(signal).mean())
    halves = np.stack([signal + noise * white(rng, box_px) for _ in range(2)])
    found = masked_fsc(halves, mask)
    np.testing.assert_allclose(found.raw[6:].mean(), 0.5, atol=0.03)
    within = np.square(signal * mask).sum()
    np.testing.assert_allclose(found.corrected[6:].mean(), within / (within + noise ** 2 * np.square(mask).sum()),
                               atol=0.03)


def test_noise_halves_claim_nothing_and_phases_of_shared_shells_are_kept():
    rng, box_px = np.random.default_rng(3), 48
    common = filtered(white(rng, box_px), lambda shell: shell <= 6)
    halves = np.stack([common + white(rng, box_px) for _ in range(2)])
    mask = soft_sphere_mask(box_px, 0.3 * box_px, 2.0)
    found = masked_fsc(halves, mask, shared_shell=8)
    assert found.first_random == 7
    assert found.corrected[9:].max() < 0.15
    late = masked_fsc(halves, mask, shared_shell=24)
    assert late.first_random == 23
    np.testing.assert_array_equal(late.corrected, late.masked)  # nothing is left to correct


def test_the_correction_is_its_equation_and_chance_adds_nothing():
    masked, random = np.array([1.0, 0.9, 0.7, 0.6, 0.5]), np.array([1.0, 0.8, 0.5, 0.2, -0.3])
    np.testing.assert_allclose(corrected(masked, random, 1), [1.0, 0.9, 0.7, 0.5, 0.5])


@pytest.mark.parametrize("box_px", [31, 32])
def test_the_mask_holds_the_particle_and_little_else(box_px):
    rng = np.random.default_rng(4)
    particle = blobs(0, box_px).numpy()
    map_ = particle + 0.5 * particle.std() * white(rng, box_px)
    mask = mask_of_map(map_, np.r_[np.ones(7), np.zeros(box_px // 2 - 6)])
    assert mask.min() == 0 and mask.max() == 1
    assert np.square(mask * particle).sum() > 0.97 * np.square(particle).sum()
    assert mask.mean() < 0.35


def test_the_threshold_parts_two_levels():
    values = np.r_[np.random.default_rng(5).normal(0, 0.1, 900), np.random.default_rng(6).normal(1, 0.1, 100)]
    assert 0.3 < otsu_threshold(values) < 0.7


def test_cones_show_the_direction_that_is_missing():
    """Halves that agree along z to Nyquist and along x and y to shell 6 only."""
    rng, box_px = np.random.default_rng(7), 48
    signal, k = white(rng, box_px), np.fft.fftfreq(box_px, 1 / box_px)
    k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(box_px // 2 + 1) ** 2
    kept = (np.abs(k)[:, None, None] >= 0.8 * np.sqrt(k2)) | (k2 < 36)
    signal = np.fft.irfftn(np.fft.rfftn(signal) * kept, s=signal.shape, axes=(0, 1, 2))
    found = conical_fsc(*(signal + 0.3 * white(rng, box_px) for _ in range(2)))
    resolutions = found.resolutions_ang(0.143, 2.0)
    best, worst = found.directions[resolutions.argmin()], found.directions[resolutions.argmax()]
    assert abs(best[2]) > 0.8 and abs(worst[2]) < 0.5
    assert resolutions.min() == 4.0 and 96 / 8 < resolutions.max() < 96 / 5
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), 1)


def test_a_cone_of_all_directions_is_the_shell():
    rng = np.random.default_rng(8)
    a, b = white(rng, 15), white(rng, 15)
    found = conical_fsc(a, a + b, half_angle_deg=90.0, n_directions=3)
    np.testing.assert_allclose(found.fsc, np.tile(fourier_shell_correlation(a, a + b), (3, 1)), atol=1e-9)


@pytest.mark.parametrize("box_px", [15, 16])
def test_resolutions_of_cones_are_those_of_the_shells_of_their_box(box_px):
    """In a cone of all directions, of an odd box too, whose d//2 + 1 shells are those of a box one smaller."""
    rng = np.random.default_rng(9)
    a = white(rng, box_px)
    b = filtered(a, lambda shell: shell < 5) + 0.1 * white(rng, box_px)
    expected = resolution_at(fourier_shell_correlation(a, b), 0.5, box_px, 2.0)
    assert expected.crossed
    found = conical_fsc(a, b, half_angle_deg=90.0, n_directions=3).resolutions_ang(0.5, 2.0)
    np.testing.assert_allclose(found, expected.ang, rtol=1e-9)
