"""Junk among particles with known poses: found, and none is found where there is none."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_assignment import BOX_PX, RADIUS, assignment
from refine_particles import blobs, mask_of, problem_of, simulated
from scipy.stats import norm
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.reconstruction.images import Images, image_power
from vaegan_engine.refine.assignment import misfit_and_gain
from vaegan_engine.refine.rounds.empty_images import least_gain, noise_images
from vaegan_engine.refine.rounds.junk import REASONS, misfit_limit, reasons_of, set_junk_aside, with_outliers

N = 300
MASK = mask_of(BOX_PX)


def with_junk(kind):
    """Two states and 120 images of junk of a kind, which the first state holds: (data, label, A, shifts, is junk)."""
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 1.0)
    rng = np.random.default_rng(0)
    images = data.images.copy()
    junk = np.zeros(2 * N, bool)
    junk[:120] = True
    if kind == "noise":
        images[:120] = rng.standard_normal((120, BOX_PX, BOX_PX))
    elif kind == "aggregate":
        images[:120] += np.roll(images[300:420], (6, 5), (1, 2))
    else:
        other, _, _, _ = simulated([blobs(5, n=4, width_frac=0.1)], 120, 1.0, seed=3)
        images[:120] = other.images
    return Images(images, data.ctf, data.pixel_size_ang, data.device), label, rotations, shifts, junk


@pytest.mark.parametrize("kind", ["noise", "aggregate", "other"])
def test_junk_is_found(kind):
    data, label, rotations, shifts, junk = with_junk(kind)
    found, numbers = set_junk_aside(problem_of(data, 20), assignment(data, label, rotations, shifts, 2), RADIUS)
    assert found.n_states == 2
    assert (found.aside & junk).sum() >= 0.9 * junk.sum()
    assert (found.aside & ~junk).sum() <= 0.02 * (~junk).sum()
    assert numbers.n_junk == found.aside.sum()
    assert found.sizes().sum() == (~found.aside).sum()
    assert not np.isin(np.flatnonzero(found.aside), np.concatenate([found.members(0), found.members(1)])).any()


def test_none_is_found_where_there_is_none():
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 1.0)
    found, _ = set_junk_aside(problem_of(data, 20), assignment(data, label, rotations, shifts, 2), RADIUS)
    assert found.aside.sum() <= 0.01 * len(label)


def test_a_state_of_junk_is_dissolved():
    """Noise that stands as a state of its own is no state."""
    data, label, rotations, shifts = simulated([blobs(0), blobs(1), blobs(2)], N, 1.0)
    images = data.images.copy()
    images[label == 2] = np.random.default_rng(1).standard_normal((N, BOX_PX, BOX_PX))
    data = Images(images, data.ctf, data.pixel_size_ang, data.device)
    found, _ = set_junk_aside(problem_of(data, 20), assignment(data, label, rotations, shifts, 3), RADIUS)
    assert found.n_states == 2
    assert found.aside[label == 2].mean() > 0.9
    assert found.aside[label != 2].mean() < 0.02


def test_wrong_poses_and_states_are_searched_again_before_they_are_judged():
    """Particles in a wrong pose or state have a high misfit; they are no junk, and get pose and state back."""
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 0.5)
    right = assignment(data, label, rotations, shifts, 2)
    wrong = np.arange(0, 2 * N, 20)
    rotations = random_rotations(2 * len(wrong), torch.Generator().manual_seed(5)).view(len(wrong), 2, 3, 3)
    state_of = right.state_of.copy()
    state_of[wrong[::2]] = 1 - state_of[wrong[::2]]
    found = replace(right.with_poses(wrong, rotations, right.shifts_px[wrong]), state_of=state_of)
    misfit, _ = misfit_and_gain(data, found, make_band(BOX_PX, RADIUS))
    n_above = int((misfit[wrong] > misfit_limit(misfit)).sum())
    assert n_above > 0.5 * len(wrong)  # or the test would ask for nothing
    made, numbers = set_junk_aside(problem_of(data, 20), found, RADIUS)
    assert numbers.n_searched_again >= n_above and made.aside.sum() <= 0.01 * len(label)
    back = wrong[misfit[wrong] > misfit_limit(misfit)]
    assert (made.state_of[back] == label[back]).mean() > 0.9
    error = rotation_distance_deg(made.rotations[back, made.state_of[back]], right.rotations[back, label[back]])
    assert (error < 10).float().mean() > 0.8


def test_misfit_is_one_and_gain_positive_for_what_the_model_made():
    data, label, rotations, shifts = simulated([blobs(0)], N, 1.0)
    found = assignment(data, label, rotations, shifts, 1)
    misfit, gain = misfit_and_gain(data, found, make_band(BOX_PX, RADIUS))
    assert misfit.mean() == pytest.approx(1.0, abs=0.1)
    assert gain.min() > 3.0


def test_limit_of_a_normal_distribution():
    values = norm.ppf(np.linspace(0.0005, 0.9995, 2000), loc=1.0, scale=0.1)
    assert misfit_limit(values) == pytest.approx(1.6, abs=0.01)
    junk = np.concatenate((values, np.full(500, 3.0)))  # a fifth more, far off, hardly moves it
    assert misfit_limit(junk) < 1.75


@pytest.mark.parametrize("n_left", [0, 5])
def test_a_state_that_is_all_outliers_is_dissolved(n_left):
    n = N + 60
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 1.0)
    data = data.part(np.arange(n))
    before = assignment(data, label[:n], rotations[:n], shifts[:n], 2)
    outside = np.zeros(n, bool)
    outside[before.members(1)[n_left:]] = True
    images = data.images.copy()
    images[outside] = 3 * np.random.default_rng(0).standard_normal((outside.sum(), BOX_PX, BOX_PX))
    noisy = problem_of(Images(images, data.ctf, data.pixel_size_ang, data.device), 20)
    after, n_outliers = with_outliers(noisy, before, RADIUS, outside)
    assert n_outliers == outside.sum() and (after.aside == outside).all()
    assert after.n_states == 1 and after.sizes()[0] == n - n_outliers


@pytest.mark.parametrize("box_px", [24, 25])
def test_noise_images_have_the_spectrum_they_are_given(box_px):
    data = Images(np.zeros((400, box_px, box_px), np.float32), np.zeros((400, 7), np.float32), 5.0, torch.device("cpu"))
    noise = 100 + 300 * torch.rand(box_px // 2 + 1, generator=torch.Generator().manual_seed(2))
    made = noise_images(data, noise, 300, 0)
    assert made.images.shape == (300, box_px, box_px)
    power = image_power(made)  # per shell of the band
    assert torch.allclose(power[2:-2], noise[2:-2], rtol=0.06)


def test_noise_among_particles_of_uneven_contrast_is_found():
    """A faint particle is kept, noise is not, though both were measured to be faint."""
    data, label, rotations, shifts, junk = with_junk("noise")
    contrast = np.ones(2 * N, np.float32)
    contrast[junk] = 0.3
    data = replace(data, contrast=contrast, contrast_spread=0.25)
    problem = problem_of(data, 20)
    found, numbers = set_junk_aside(problem, assignment(data, label, rotations, shifts, 2), RADIUS)
    assert (found.aside & junk).sum() >= 0.95 * junk.sum()
    assert (found.aside & ~junk).sum() <= 0.02 * (~junk).sum()
    assert numbers.least_gain > problem.tuning.junk.min_gain


def test_particles_as_faint_as_noise_are_kept():
    data, label, rotations, shifts = simulated([blobs(0)], N, 6.0)
    found = assignment(data, label, rotations, shifts, 1)
    band = make_band(BOX_PX, RADIUS)
    problem = problem_of(data, 20)
    _, gain = misfit_and_gain(data, found, band)
    assert least_gain(problem, found, gain, band) == problem.tuning.junk.min_gain
    assert least_gain(problem, found, gain + 1000, band) > problem.tuning.junk.min_gain


def test_every_image_that_is_set_aside_has_its_reason():
    """Noise is empty, two particles in one image a misfit; a kept image has no reason."""
    data, label, rotations, shifts, _ = with_junk("aggregate")
    images, n_empty = data.images.copy(), 60
    images[:n_empty] = np.random.default_rng(0).standard_normal((n_empty, BOX_PX, BOX_PX))
    problem = problem_of(Images(images, data.ctf, data.pixel_size_ang, data.device), 20)
    found, numbers = set_junk_aside(problem, assignment(problem.images, label, rotations, shifts, 2), RADIUS)
    outliers = np.zeros(2 * N, bool)
    outliers[np.flatnonzero(found.aside)[-1]] = True
    reason = reasons_of(problem, found, RADIUS, numbers.least_gain, outliers)
    assert ((reason > 0) == found.aside).all() and REASONS[reason[outliers][0]] == "outlier"
    judged = found.aside & ~outliers
    empty, misfit = (judged[part] & (reason[part] == REASONS.index(name)) for part, name in (
        (slice(0, n_empty), "empty"), (slice(n_empty, 120), "misfit")))
    assert empty.sum() >= 0.9 * judged[:n_empty].sum() > 40
    assert misfit.sum() >= 0.9 * judged[n_empty:120].sum() > 40
