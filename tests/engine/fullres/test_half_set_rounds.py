"""Rounds against truth: poses come back, noise spectra are those of the groups, halves claim what they deserve."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, mask_of, simulated
from states_folders import perturbed
from vaegan_engine.contract.fullres_records import FullresRound
from vaegan_engine.fullres.half_set_rounds import (
    Refinement,
    StateImages,
    begin,
    final_half_maps,
    group_means,
    half_of,
    is_settled,
    noise_over_signal,
    refine_round,
)
from vaegan_engine.fullres.tuning import TUNING
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.fsc import fourier_shell_correlation
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.reconstruction.images import Images

BOX_PX, N = 32, 240


def state_of(images: Images, group: np.ndarray | None = None) -> StateImages:
    n = len(images)
    return StateImages(images, np.arange(n), 1 + np.arange(n) % 2, np.zeros(n, np.int64) if group is None else group,
                       mask_of(images.box_px), False, TUNING)


@pytest.fixture(scope="module")
def particle():
    """A particle with detail to Nyquist, its true map and poses."""
    true = blobs(3, BOX_PX, n=40, width_frac=0.03, reach_frac=0.2)
    return true, *(simulated([true], N, 0.7)[k] for k in (0, 2, 3))


def test_poses_that_were_turned_come_back_and_the_halves_claim_what_they_deserve(particle):
    true, images, rotations, shifts_px = particle
    state, wrong = state_of(images), perturbed(rotations.double(), 4.0).float()
    found = begin(state, wrong, shifts_px + 0.3, 6.0)
    for _ in range(5):
        found = refine_round(state, found)
    errors = [float(rotation_distance_deg(poses, rotations).median()) for poses in (wrong, found.rotations)]
    assert errors[0] == pytest.approx(4.0, abs=0.01) and errors[1] < 1.5, errors
    assert float((found.shifts_px - shifts_px).norm(dim=1).median()) < 0.25
    shells = [row.shells for row in found.rounds]
    assert shells[-1] > shells[0], shells  # the band grows with the FSC
    halves = final_half_maps(state, found) * state.mask.numpy()
    claimed, with_truth = (fourier_shell_correlation(first, second)[1:15] for first, second in
                           (halves, (halves.mean(0), true.numpy() * state.mask.numpy())))
    deserved = with_truth ** 2 / (2 - with_truth ** 2)  # of one half, from what both together share with the truth
    assert (claimed - deserved).max() < 0.1, (claimed, deserved)
    assert claimed[6] > 0.5


def test_a_mask_of_the_maps_lets_in_detail_that_a_sphere_hides():
    """A long particle: most of the sphere that holds it is noise, and the halves agree on more than shows in it."""
    thin = (torch.arange(BOX_PX) - BOX_PX // 2).abs() < 4
    true = blobs(5, BOX_PX, n=40, width_frac=0.03, reach_frac=0.3) * thin[:, None, None]
    images, _, rotations, shifts_px = simulated([true], N, 2.5)
    bands, errors = [], []
    for in_sphere in (True, False):
        state = replace(state_of(images), mask_is_given=in_sphere)
        found = begin(state, perturbed(rotations.double(), 3.0).float(), shifts_px, 6.0)
        for _ in range(5):
            found = refine_round(state, found)
        bands.append(found.rounds[-1].shells)
        errors.append(float(rotation_distance_deg(found.rotations, rotations).median()))
    assert bands[1] > bands[0] and errors[1] < 1.02 * errors[0], (bands, errors)


def test_halves_of_noise_claim_nothing():
    """No particle, halves that share no map: however often it is refined, the FSC stays about 0."""
    rng = torch.Generator().manual_seed(1)
    ctf = simulated([blobs(0)], N, 1.0)[0].ctf
    images = Images(torch.randn(N, 24, 24, generator=rng).numpy(), ctf, 6.0, torch.device("cpu"))
    state = state_of(images)
    found = begin(state, random_rotations(N, rng), torch.zeros(N, 2), 6.0)
    for _ in range(3):
        found = refine_round(state, found)
    fsc = fourier_shell_correlation(*final_half_maps(state, found))
    assert abs(fsc[3:11].mean()) < 0.06 and fsc[3:11].max() < 0.25, fsc


def test_a_group_of_noisy_images_has_its_own_spectrum_and_counts_less(particle):
    true, images, rotations, shifts_px = particle
    group = (np.arange(N) % 3 == 0).astype(np.int64)
    rng = torch.Generator().manual_seed(2)
    noisy = torch.from_numpy(np.array(images.images)) + 3.0 * torch.from_numpy(group)[:, None, None] * torch.randn(
        images.images.shape, generator=rng)
    images, made = replace(images, images=noisy.numpy()), []
    for groups in (group, np.zeros(N, np.int64)):
        state = state_of(images, groups)
        found = refine_round(state, refine_round(state, begin(state, rotations, shifts_px, 8.0)))
        made.append((found, final_half_maps(state, found).mean(0) * state.mask.numpy()))
    noise = made[0][0].noise[:, 3:12].mean(1) / BOX_PX ** 2
    assert noise[0] == pytest.approx(0.7 ** 2, rel=0.15) and noise[1] == pytest.approx(0.7 ** 2 + 9, rel=0.1)
    ours, pooled = (fourier_shell_correlation(map_, true.numpy() * mask_of(BOX_PX).numpy())[4:12].mean()
                    for _, map_ in made)
    assert ours > pooled + 0.03, (ours, pooled)


def test_a_half_holds_one_noise_spectrum_per_group_however_many_images(particle):
    _, images, rotations, shifts_px = particle
    state, band = state_of(images, np.arange(N) % 3), make_band(BOX_PX, 6.0)
    noise = torch.rand(3, BOX_PX // 2 + 1, generator=torch.Generator().manual_seed(3)) + 1
    half = half_of(state, Refinement(rotations, shifts_px, noise, 6.0, []), 2, band, 0)
    assert half.noise.shape == (3, BOX_PX // 2 + 1)
    expected = band.weight / noise[(np.arange(N) % 3)[half.at[4:9]]][:, band.shell]
    torch.testing.assert_close(half.precision(band)(slice(4, 9)), expected)


def test_means_of_groups_by_hand():
    powers = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    expected = torch.tensor([[2.0, 3.0], [5.0, 9.0], [3.0, 5.0]])  # the last group has none: the mean of all
    torch.testing.assert_close(group_means(powers, np.array([0, 0, 1]), 3), expected)


def test_the_prior_is_noise_over_signal_and_shuts_what_the_halves_do_not_agree_on():
    prior = noise_over_signal(np.array([0.2, 0.8, 0.5, 0.1, 0.6]), 3)
    torch.testing.assert_close(prior[1:4], torch.tensor([0.25, 1.0, 9.0]))
    assert prior[0] < 0.01 and prior[4] == pytest.approx(999, rel=1e-3)


@pytest.mark.parametrize(("rounds", "settled"), [
    ([(10, 0.1)], False), ([(10, 0.1), (12, 0.1)], False), ([(12, 2.0), (12, 2.0)], False),
    ([(12, 2.0), (12, 0.4)], True), ([(12, 1.0), (11, 0.1)], True)])
def test_rounds_end_where_neither_band_nor_poses_move(rounds, settled):
    rows = [FullresRound(shells, 10.0, turned_deg, 0.0) for shells, turned_deg in rounds]
    assert is_settled(rows, TUNING) is settled
