"""Continuous variation inside a state: known coordinates are found, none is found where there is none."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from moving_particles import BOX_PX, arm, images_of
from refine_particles import blobs, mask_of, problem_of
from scipy.stats import spearmanr
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.projection import extract_slices, map_to_fourier
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.physics.slices import transforms_of
from vaegan_engine.reconstruction.images import spread_rows
from vaegan_engine.reconstruction.least_squares import weighted_map
from vaegan_engine.reconstruction.posed_images import posed
from vaegan_engine.refine.assignment import reassign
from vaegan_engine.refine.detail import motion
from vaegan_engine.refine.detail.first_principal_map import MapModel
from vaegan_engine.refine.states import Assignment
from vaegan_engine.refine.tuning import TUNING, MotionTuning, RefineTuning

N = 500
MASK = mask_of(BOX_PX)
N_NODES = TUNING.motion.n_nodes


def lobe(angle_rad: float) -> torch.Tensor:
    """A body with an arm."""
    return blobs(1, BOX_PX, reach_frac=0.12) + 1.2 * arm(angle_rad)


def found_in(maps: torch.Tensor, label: torch.Tensor, noise: float) -> motion.Motion:
    data, rotations, shifts = images_of(maps, label, noise)
    band = make_band(BOX_PX, 7.0)
    transforms, ctf = data.coefficients(np.arange(len(data)), band)
    map_ = weighted_map(posed(transforms, ctf, rotations, shifts, band), torch.ones(len(rotations)),
                        torch.ones_like(band.weight), within(MASK))
    half = 1 + torch.arange(len(rotations)) % 2
    return motion.principal_curve(motion.Unposed(transforms, ctf, band), motion.Poses(rotations, shifts), half,
                                  MapModel(map_, band.weight, within(MASK)), torch.Generator().manual_seed(0))[0]


@pytest.mark.slow
def test_images_that_the_curve_is_not_made_from_get_their_place_on_it():
    label = torch.randperm(N, generator=torch.Generator().manual_seed(9))
    lobes = torch.stack([lobe(angle) for angle in np.linspace(-0.9, 0.9, N)[::10]])
    data, rotations, shifts = images_of(lobes, label // 10, 0.4)
    start = Assignment(np.zeros(N, np.int64), np.zeros((N, 1), np.float32), rotations[:, None], shifts[:, None],
                       torch.zeros(1, BOX_PX, BOX_PX, BOX_PX), torch.ones(BOX_PX // 2 + 1), np.zeros(N, bool))
    problem = problem_of(data, half_set=1 + np.arange(N) // 2 % 2,
                         tuning=RefineTuning(motion=MotionTuning(max_curve_images=300)))
    moved = motion.motion_of(problem, reassign(problem, start, 7.0), 0, 7.0)
    assert sorted(np.round(moved.t * (N - 1)).astype(int)) == list(range(N))  # every image has a place of its own
    others = np.setdiff1d(np.arange(N), spread_rows(N, 300))
    for rows in (others, np.arange(N)):
        assert abs(spearmanr(moved.t[rows], (label // 10)[rows])[0]) > 0.85


@pytest.mark.slow
def test_an_arm_that_turns_is_ordered():
    angles = np.linspace(-0.9, 0.9, N)
    label = torch.randperm(N, generator=torch.Generator().manual_seed(9))
    found = found_in(torch.stack([lobe(angle) for angle in angles[::10]]), label // 10, 0.4)
    rank = abs(spearmanr(found.t, label // 10)[0])
    assert rank > 0.9
    truth = (label // 10 + 0.5).numpy() / (N // 10)
    error = found.t - truth
    error = error if np.abs(error).mean() < 0.3 else 1 - found.t - truth
    assert 0.5 < np.sqrt((error ** 2).mean()) / np.sqrt((found.t_std ** 2).mean()) < 2.5  # 1.7: not all that is unsure
    assert np.corrcoef(np.abs(error), found.t_std)[0, 1] > 0.15
    assert found.agreement > 0.9
    assert found.maps.shape == (N_NODES, BOX_PX, BOX_PX, BOX_PX)
    # the ends of the curve look like the ends of the motion
    ends = [lobe(angles[0]), lobe(angles[-1])]
    first, last = (torch.from_numpy(found.maps[k]) for k in (0, -1))

    def correlation(a, b):
        return float(torch.corrcoef(torch.stack((a.flatten(), (b * MASK).flatten())))[0, 1])

    straight = correlation(first, ends[0]) - correlation(first, ends[1])
    assert straight * (correlation(last, ends[0]) - correlation(last, ends[1])) < 0


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_one_rigid_state_has_no_motion(noise):
    """The halves share nothing: with one starting order for both this was 0.69 and 0.89."""
    found = found_in(lobe(0.0)[None], torch.zeros(N, dtype=torch.long), noise)
    assert found.agreement < 0.8 * TUNING.motion.min_agreement


def test_what_views_tell_is_no_agreement():
    """Two orders by the view alone do not agree; two noisy readings of one coordinate do, as much as they correlate."""
    rng = torch.Generator().manual_seed(3)
    n = 4000
    rotations = random_rotations(n, rng)
    by_view = rotations[:, 2, 2].square() - 0.3 * rotations[:, 2, 0] * rotations[:, 2, 1] + 0.2 * rotations[:, 2, 1]
    noise = 0.1 * torch.randn(2, n, generator=rng)
    assert float(torch.corrcoef(by_view + noise)[0, 1]) > 0.8
    assert abs(motion.agreement(by_view + noise, rotations)) < 0.03
    place = torch.rand(n, generator=rng)
    both = place + 2 * noise
    assert motion.agreement(both, rotations) == pytest.approx(float(torch.corrcoef(both)[0, 1]), abs=0.02)
    both[1] = -both[1]
    assert motion.agreement(both, rotations) == pytest.approx(float(torch.corrcoef(both)[0, 1]), abs=0.02)
    # half of the variance by the view: half of the agreement
    mixed = place / place.std() + by_view / by_view.std()
    assert motion.agreement(torch.stack((mixed, mixed)), rotations) == pytest.approx(0.5, abs=0.05)


def test_log_likelihood_between_nodes_is_that_of_the_mixed_map():
    data, rotations, shifts = images_of(torch.stack([lobe(0.0), lobe(0.5)]), torch.arange(6) % 2, 0.5)
    band = make_band(BOX_PX, 5.0)
    images = posed(*data.coefficients(np.arange(6), band), rotations, shifts, band)
    maps = torch.stack([lobe(0.3 * k) for k in range(N_NODES)])
    precision = band.weight * 0.01
    made = motion.log_likelihoods(images, maps, MapModel(maps[0], precision, within(MASK)))
    grid = torch.linspace(0, 1, made.shape[1])
    for at in (0, 7, 13, len(grid) - 1):
        place = float(grid[at]) * (N_NODES - 1)
        k = min(int(place), N_NODES - 2)
        mixed = (1 - (place - k)) * maps[k] + (place - k) * maps[k + 1]
        planes = extract_slices(map_to_fourier(mixed[None]), torch.zeros(6, dtype=torch.long), rotations, BOX_PX)
        residual = images.moved - images.ctf * planes.flatten(1)[:, band.index]
        expected = -0.5 * (precision * residual.abs().square()).sum(1)
        torch.testing.assert_close(made[:, at], expected, rtol=2e-3, atol=1e-2)


def test_spread_of_a_place():
    """Of a Gaussian likelihood its own; of a flat one that of an even draw; and both on the scale of ranks."""
    grid = torch.linspace(0, 1, 201)
    mean, std = motion.moments(torch.stack((-0.5 * ((grid - 0.4) / 0.06) ** 2, torch.zeros(201))))
    torch.testing.assert_close(mean, torch.tensor([0.4, 0.5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.tensor([0.06, 12 ** -0.5]), atol=2e-3, rtol=0)
    places = torch.linspace(0.2, 0.6, 1001)  # ranks run 2.5 times as fast
    spread = motion.spread_in_quantiles(places.flip(0), torch.full((1001,), 0.05))
    torch.testing.assert_close(spread[200:800], torch.full((600,), 0.125), atol=2e-3, rtol=0)
    assert float(spread[0]) == pytest.approx(0.125 / 2, abs=2e-3)  # half of it lies past the end


def test_weights_and_quantiles():
    t = torch.linspace(0, 1, 33)
    weights = motion.hat_weights(t, N_NODES)
    torch.testing.assert_close(weights.sum(1), torch.ones(33))
    assert (weights > 1e-6).sum(1).max() <= 2
    torch.testing.assert_close(weights[0, 0], torch.tensor(1.0))
    assert motion.quantiles(torch.tensor([3.0, -1.0, 10.0])).tolist() == pytest.approx([0.5, 0.0, 1.0])


def test_compiled_sums_between_maps_are_those_of_the_slices():
    data, rotations, shifts = images_of(torch.stack((lobe(0.0), lobe(1.0))), torch.arange(60) % 2, 1.0)
    band = make_band(BOX_PX, 7.0)
    images = posed(*data.coefficients(np.arange(60), band), rotations, shifts, band)
    transforms = transforms_of(torch.stack([lobe(angle) for angle in (0.0, 0.5, 1.0)]), band)
    precision = torch.rand(len(band.index), generator=torch.Generator().manual_seed(1))
    found, expected = (function(images, transforms, precision)
                       for function in (motion.segment_sums, motion.segment_sums_together))
    assert found.shape == (3, 2, 60)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected[0].max()))
