"""Half maps share nothing beyond the shell that they state: on noise, on a particle, on given and moving poses."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import FEW_ROTATIONS, PIXEL_SIZE_ANG, blobs, problem_of, simulated
from vaegan_engine.contract.wording import halves_text
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.reconstruction.images import Images, low_passed
from vaegan_engine.refine.assignment import reassign, search_in_all_maps
from vaegan_engine.refine.detail.half_map_fsc import halves_proof
from vaegan_engine.refine.detail.half_maps import Halves, refine_halves, shared_shell
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.rounds.second_search import search_again
from vaegan_engine.refine.states import Assignment, State

BOX_PX = 32


def one_state(n: int, rotations: torch.Tensor, shifts_px: torch.Tensor, map_: torch.Tensor) -> Assignment:
    return Assignment(np.zeros(n, np.int64), np.zeros((n, 1), np.float32), rotations[:, None], shifts_px[:, None],
                      map_[None], torch.ones(BOX_PX // 2 + 1), np.zeros(n, bool))


@pytest.fixture(scope="module")
def noise():
    """Images of noise at poses found in joint maps of them: a problem and what the rounds leave."""
    rng = torch.Generator().manual_seed(0)
    n = 300
    ctf = torch.tensor([[15000.0, 14700, 0, 300, 2.7, 0.1, 0]]).repeat(n, 1)
    images = Images(torch.randn(n, BOX_PX, BOX_PX, generator=rng).numpy(), ctf.numpy(), PIXEL_SIZE_ANG,
                    torch.device("cpu"))
    mask = torch.from_numpy(soft_sphere_mask(BOX_PX, 0.35 * BOX_PX, 2.0))
    problem = problem_of(images, tuning=FEW_ROTATIONS, mask=mask)
    tuning = replace(FEW_ROTATIONS, search=replace(FEW_ROTATIONS.search, n_rotations=1000))
    run = replace(problem.settings, start_shells=4, search_shells=6, state_shells=6)
    problem = replace(problem, tuning=tuning, settings=run)
    map_ = low_passed(torch.randn(1, BOX_PX, BOX_PX, BOX_PX, generator=rng) * mask, 4.0)[0]
    found = search_in_all_maps(problem, [State(np.arange(n), random_rotations(n, rng), torch.zeros(n, 2), map_)])
    for _ in range(2):
        found = reassign(problem, found, problem.max_shell(1))
        found = search_again(problem, found, np.arange(n), make_band(BOX_PX, problem.max_shell(1)))
    return problem, reassign(problem, found, problem.max_shell(1))


def test_halves_of_noise_claim_nothing_beyond_the_shared_shells(noise):
    """From the poses that the rounds left they agree far beyond; from a search of their own they do not."""
    problem, joint = noise
    before, _ = refine_halves(problem, joint, 0, search=False)
    halves, _ = refine_halves(problem, joint, 0)
    assert (before.shared_shell, halves.shared_shell) == (10, 6)
    raw = [fourier_shell_correlation(*found.maps) for found in (before, halves)]
    assert raw[0][5:7].mean() > 3 * raw[1][5:7].mean()  # noise that poses of joint maps have in common
    assert np.abs(raw[1][7:].mean()) < 0.03 and raw[1][7:].max() < 0.15
    compared, proof = halves_proof(halves, PIXEL_SIZE_ANG)
    assert max(compared.fsc[7:]) < 0.15 and not proof.proven_0143
    assert halves_text(compared, proof).startswith("no resolution is proven")


def test_a_half_never_sees_the_other_one(noise):
    """Other images in the second half: the first half's map stays bit by bit, the joint start being the same."""
    problem, joint = noise
    first, _ = refine_halves(problem, joint, 0)
    images = problem.images.images.copy()
    images[problem.half_set == 2] = images[problem.half_set == 2][::-1]
    changed = replace(problem, images=replace(problem.images, images=images))
    second, _ = refine_halves(changed, joint, 0)
    assert not np.array_equal(first.maps[1], second.maps[1])
    # the band of a round depends on the FSC of both, so maps are alike only as far as the same rounds were made
    assert fourier_shell_correlation(first.maps[0], second.maps[0])[1:6].min() > 0.99


def test_poses_of_a_particle_are_found_again_and_its_detail_is_proven():
    """Poses are forgotten: those that are given here are random, and only the map cut at the search tells."""
    true = blobs(3, BOX_PX, width_frac=0.035)
    data, _, rotations, shifts = simulated([true], 300, 1.0)
    mask = torch.from_numpy(soft_sphere_mask(BOX_PX, 0.4 * BOX_PX, 2.0))
    problem = problem_of(data, tuning=FEW_ROTATIONS, mask=mask)
    at_truth = reassign(problem, one_state(300, rotations, shifts, true), 6.0)
    lost = one_state(300, random_rotations(300, torch.Generator().manual_seed(1)), torch.zeros(300, 2),
                     at_truth.maps[0])
    halves, found = refine_halves(problem, replace(lost, noise=at_truth.noise), 0)
    error_deg = rotation_distance_deg(found.rotations[:, 0], rotations)
    assert float(error_deg.median()) < 4.0, error_deg.median()
    compared, proof = halves_proof(halves, PIXEL_SIZE_ANG)
    assert proof.proven_0143 and compared.resolution_0143_ang < proof.shared_ang
    assert proof.direction_best_ang <= proof.direction_worst_ang
    assert "shared, not proven" in halves_text(compared, proof)


def test_given_poses_are_kept_and_share_all_that_the_rounds_used():
    data, _, rotations, shifts = simulated([blobs(3, BOX_PX)], 60, 1.0)
    problem = problem_of(data, tuning=FEW_ROTATIONS, poses=GivenPoses(rotations, shifts))
    start = reassign(problem, one_state(60, rotations, shifts, blobs(3, BOX_PX)), 6.0)
    halves, found = refine_halves(problem, start, 0)
    assert float(rotation_distance_deg(found.rotations[:, 0], rotations).median()) < 4.0
    assert halves.shared_shell == shared_shell(problem, problem.max_shell(1)) == 11


def test_all_shells_of_a_small_box_may_be_shared():
    problem = problem_of(simulated([blobs(0)], 20, 1.0)[0])
    assert shared_shell(problem, 11.0) == 12
    compared, proof = halves_proof(Halves(np.stack([blobs(0).numpy()] * 2), blobs(0).numpy(), 12), PIXEL_SIZE_ANG)
    assert not proof.proven_0143 and compared.resolution_0143_ang == 2 * PIXEL_SIZE_ANG
