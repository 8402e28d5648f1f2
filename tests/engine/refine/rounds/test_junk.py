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
from vaegan_engine.reconstruction.least_squares import misfits
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages
from vaegan_engine.refine.assignment import explained, misfit_and_gain
from vaegan_engine.refine.rounds import junk
from vaegan_engine.refine.rounds.empty_images import least_gain, noise_images, typical_gain
from vaegan_engine.refine.rounds.junk import (
    REASONS,
    explained_now,
    misfit_limit,
    reasons_of,
    set_junk_aside,
    with_faint,
    with_outliers,
)

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


@pytest.mark.parametrize("kind", ["noise", "aggregate", "other"])
def test_sets_that_are_mostly_junk_keep_their_states(kind):
    """Where 6 of 10 images of every state hold nothing, two particles or another molecule, none of the states is junk.

    Nor do these images pass for typical ones.
    """
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 1.0)
    images, rng = data.images.copy(), np.random.default_rng(0)
    junk = rng.permutation(2 * N) < 360
    if kind == "noise":
        images[junk] = rng.standard_normal((360, BOX_PX, BOX_PX))
    elif kind == "aggregate":
        images[junk] += np.roll(images[rng.permutation(np.flatnonzero(junk))], (6, 5), (1, 2))
    else:
        images[junk] = simulated([blobs(5, n=4, width_frac=0.1)], 360, 1.0, seed=3)[0].images
    data = Images(images, data.ctf, data.pixel_size_ang, data.device)
    found, _ = set_junk_aside(problem_of(data, 20), assignment(data, label, rotations, shifts, 2), RADIUS)
    assert found.n_states == 2
    assert (found.aside & ~junk).sum() <= 0.02 * (~junk).sum()
    assert (found.aside & junk).sum() >= 0.9 * junk.sum()


def test_a_typical_particle_of_a_set_that_is_mostly_empty():
    """60 % empty images of gain 2 to 5 and particles of 50 to 60; particles about as faint as noise; stragglers."""
    empty, plain = np.linspace(2, 5, 60), np.linspace(50, 60, 40)
    assert typical_gain(np.concatenate((empty, plain)), 5.0, 20) == pytest.approx(55.0, abs=0.1)
    assert typical_gain(np.linspace(3, 6, 100), 5.0, 20) < 6.0
    assert typical_gain(np.concatenate((empty, plain[:5])), 5.0, 20) < 5.0
    assert typical_gain(plain, 5.0, 20) == pytest.approx(55.0)


def test_none_is_found_where_there_is_none():
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 1.0)
    found, _ = set_junk_aside(problem_of(data, 20), assignment(data, label, rotations, shifts, 2), RADIUS)
    assert found.aside.sum() <= 0.01 * len(label)


@pytest.mark.parametrize(("kind", "most"), [(None, 1), ("noise", 2)])
def test_no_round_follows_one_that_sets_aside_the_same_images(kind, most, monkeypatch):
    """The maps of clean images are made once; where junk was in them once more, and then nothing changes."""
    calls, real = [], junk.reassign
    monkeypatch.setattr(junk, "reassign", lambda *args: calls.append(args) or real(*args))
    if kind is None:
        data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 1.0)
    else:
        data, label, rotations, shifts, _ = with_junk(kind)
    set_junk_aside(problem_of(data, 20), assignment(data, label, rotations, shifts, 2), RADIUS)
    assert 1 <= len(calls) <= most < problem_of(data, 20).tuning.junk.rounds


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
    after, n_outliers = with_outliers(noisy, before, explained_now(noisy, before, RADIUS), outside)
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
    reason = reasons_of(found, explained_now(problem, found, RADIUS), numbers.least_gain, {"outlier": outliers})
    assert ((reason > 0) == found.aside).all() and REASONS[reason[outliers][0]] == "outlier"
    judged = found.aside & ~outliers
    empty, misfit = (judged[part] & (reason[part] == REASONS.index(name)) for part, name in (
        (slice(0, n_empty), "empty"), (slice(n_empty, 120), "misfit")))
    assert empty.sum() >= 0.9 * judged[:n_empty].sum() > 40
    assert misfit.sum() >= 0.9 * judged[n_empty:120].sum() > 40


def test_least_squares_contrast_is_where_the_misfit_is_least():
    """Against the misfit at that contrast, whatever contrast the images were held to."""
    data, label, rotations, shifts = simulated([blobs(0)], 40, 1.0)
    band, held = make_band(BOX_PX, RADIUS), np.linspace(0.5, 2, 40).astype(np.float32)
    found = assignment(data, label, rotations, shifts, 1)
    precision = band.weight / found.noise[band.shell]

    def misfit_at(contrast):
        own = replace(data, contrast=np.asarray(contrast, np.float32))
        images = PosedImages(Coefficients(own, np.arange(40), band), found.rotations[:, 0], found.shifts_px[:, 0])
        return 2 * misfits(images, found.maps[0], precision).numpy() / float(band.weight.sum())

    each = explained(replace(data, contrast=held), found, band)
    np.testing.assert_allclose(each.misfit, misfit_at(held), rtol=1e-4)
    np.testing.assert_allclose(each.least_misfit, misfit_at(each.contrast), rtol=1e-4)
    for other in (0.9, 1.1):
        assert (misfit_at(other * each.contrast) > each.least_misfit).all()
    np.testing.assert_allclose(each.contrast, explained(data, found, band).contrast, rtol=1e-4)
    width = np.sqrt(each.contrast_variance)  # one width off costs half a unit of log likelihood
    cost = 0.5 * float(band.weight.sum()) * (misfit_at(each.contrast + width) - each.least_misfit)
    np.testing.assert_allclose(cost, 0.5, rtol=0.02)


def uneven(n_junk, n=2000, seed=0):
    """Particles of log-normal contrast 0.3 at known poses, and another molecule: (data, label and poses, is junk).

    Some of the other molecule's images are strong: they are what is known to be junk.
    """
    rng = np.random.default_rng(seed)
    data, label, rotations, shifts = simulated([blobs(0)], n, 0.0, seed)
    strength = np.exp(0.3 * rng.standard_normal(n))
    junk = np.arange(n) < n_junk
    images = data.images * strength[:, None, None]
    if n_junk:
        other, _, _, _ = simulated([blobs(5, n=4, width_frac=0.1)], n_junk, 0.0, seed=3)
        strong = np.where(np.arange(n_junk) < n_junk // 2, 1.0, 0.4)[:, None, None]
        images[:n_junk] = (0.35 * images[:n_junk] / strength[:n_junk, None, None] + 0.9 * strong * other.images)
    images = (images + rng.standard_normal(images.shape)).astype(np.float32)
    return Images(images, data.ctf, data.pixel_size_ang, data.device), (label, rotations, shifts), junk


def test_faint_junk_is_found_where_junk_is_known():
    data, (label, rotations, shifts), junk = uneven(300)
    problem = problem_of(data, 20)
    before = assignment(data, label, rotations, shifts, 1).with_junk(junk & (np.arange(len(junk)) < 150))
    after, n_faint = with_faint(problem, before, explained_now(problem, before, RADIUS))
    new = after.aside & ~before.aside
    assert n_faint == new.sum() and (new & junk).sum() >= 0.8 * (junk & ~before.aside).sum()
    assert (new & ~junk).sum() <= 0.01 * (~junk).sum()


@pytest.mark.parametrize("n_known", [0, 20, 100])
def test_uneven_contrast_alone_is_no_faint_junk(n_known):
    """Nor where some particles at random, or the faintest ones, were set aside before."""
    data, (label, rotations, shifts), _ = uneven(0)
    before, problem = assignment(data, label, rotations, shifts, 1), problem_of(data, 20)
    contrast = explained(data, before, make_band(BOX_PX, RADIUS)).contrast
    for known in (np.arange(2000) < n_known, contrast <= np.sort(contrast)[max(n_known - 1, 0)]):
        judged = before.with_junk(known & (n_known > 0))
        after, n_faint = with_faint(problem, judged, explained_now(problem, judged, RADIUS))
        assert n_faint <= 0.01 * 2000 and after.n_states == 1


def test_too_few_images_are_left_alone():
    data, (label, rotations, shifts), junk = uneven(300, n=400)
    before = assignment(data, label, rotations, shifts, 1).with_junk(junk & (np.arange(400) < 150))
    problem = problem_of(data, 200)
    after, n_faint = with_faint(problem, before, explained_now(problem, before, RADIUS))
    assert n_faint == 0 and (after.aside == before.aside).all()
