"""States found in other frames and hands are laid on the largest one, poses and maps together."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.map_alignment import AlignedMap, carried
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.refine.detail import common_frame
from vaegan_engine.refine.detail.common_frame import lay_in_one_frame
from vaegan_engine.refine.detail.half_maps import halves_at
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.states import Assignment

BOX_PX, N = 24, 150
MASK = torch.from_numpy(soft_sphere_mask(BOX_PX, 0.42 * BOX_PX, 2.0))


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_state_in_another_frame_is_laid_on_the_largest(mirrored):
    """Two states of one frame; the poses of the second, smaller one are first carried to another frame and hand."""
    common, extra = blobs(7), np.roll(blobs(8, n=6, reach_frac=0.1).numpy(), 4, 2)
    data, label, rotations, shifts = simulated([common, common + 0.7 * torch.from_numpy(extra)], N, 0.5)
    rng = torch.Generator().manual_seed(4)
    R, t = random_rotations(1, rng)[0].numpy(), np.array([0.8, -0.5, 0.3], np.float32)
    other = AlignedMap(np.zeros((1, 1, 1)), R, t, t, mirrored, 1.0)
    rotations_other, shifts_other = carried(rotations, shifts, other, forward=True)
    label = np.where(np.arange(2 * N) < N + 10, label, 1)
    aside = np.zeros(2 * N, bool)
    aside[N:N + 20] = True  # so that the first state is the larger one
    found = Assignment(label, np.eye(2, dtype=np.float32)[label] - 1, torch.stack((rotations, rotations_other), 1),
                       torch.stack((shifts, shifts_other), 1), torch.zeros(2, BOX_PX, BOX_PX, BOX_PX),
                       torch.ones(BOX_PX // 2 + 1), aside)
    half_set = 1 + np.arange(2 * N) % 2
    problem = problem_of(data, half_set=half_set, mask=MASK)
    before = [halves_at(problem, found, state, 8) for state in (0, 1)]
    made, halves, laid = lay_in_one_frame(problem, found, before)

    own = made.members(1)
    error = rotation_distance_deg(made.rotations[own, 1], rotations[own])
    assert float(error.median()) < 5.0, error.median()
    assert float((made.shifts_px[own, 1] - shifts[own]).abs().median()) < 0.3
    assert (laid[1].mirrored, laid[0].correlation) == (mirrored, 1.0)
    assert laid[1].correlation > 0.8
    true = (common + 0.7 * torch.from_numpy(extra)).numpy() * MASK.numpy()
    assert fourier_shell_correlation(halves[1].full, true)[1:6].min() > 0.9
    assert fourier_shell_correlation(before[1].full, true)[1:6].min() < 0.7  # or nothing would have been asked
    assert np.array_equal(halves[0].full, before[0].full)
    assert torch.equal(found.rotations[:, 1], rotations_other)  # what was given is unchanged
    assert np.allclose(made.maps[1].numpy(), halves[1].full)


def test_states_at_given_poses_stay_in_their_frame():
    """An alignment would follow the part that moves: here the other map is the first one turned."""
    maps = [blobs(7), torch.rot90(blobs(7), 1, (1, 2))]
    data, label, rotations, shifts = simulated(maps, 20, 0.5)
    given = Assignment(label, np.eye(2, dtype=np.float32)[label] - 1, torch.stack((rotations, rotations), 1),
                       torch.stack((shifts, shifts), 1), torch.zeros(2, BOX_PX, BOX_PX, BOX_PX),
                       torch.ones(BOX_PX // 2 + 1), np.zeros(40, bool))
    problem = problem_of(data, half_set=1 + np.arange(40) % 2, mask=MASK)
    problem = replace(problem, poses=GivenPoses(rotations, shifts))
    halves = [halves_at(problem, given, state, 8) for state in (0, 1)]
    made, same, fits = lay_in_one_frame(problem, given, halves)
    assert made is given and same is halves
    assert [fit.mirrored for fit in fits] == [False, False] and fits[0].correlation == pytest.approx(1.0)
    assert fits[1].correlation == pytest.approx(np.corrcoef(halves[0].full.ravel(), halves[1].full.ravel())[0, 1])


@pytest.mark.slow
def test_a_state_that_fits_the_largest_in_both_hands_alike_is_laid_on_its_likest(monkeypatch):
    """Three states: the third shares half of itself with the second, and nothing that has a hand with the first."""
    pairs = []

    def aligned(moving, reference, voxel_size_ang):
        sizes = sorted((int(moving.max() > 15), int(reference.max() > 15)))
        pairs.append(sizes)
        hand_of, likeness = {0: (False, 0.8), 1: (True, 0.48)}[max(sizes) - min(sizes)]
        identity, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
        return AlignedMap(moving, identity, none, none, hand_of, likeness, likeness - (0.01 if hand_of else 0.3))

    halves, assignment, problem = three_states([1.0, 20.0, 20.0], [60, 40, 30])
    monkeypatch.setattr(common_frame, "align_map", aligned)
    monkeypatch.setattr(common_frame, "halves_at", lambda problem, assignment, state, shared: halves[state])
    _, _, fits = lay_in_one_frame(problem, assignment, halves)
    # the second is like neither hand of the first, and nothing else lies there yet: its hand is open, and so is that of
    # the third, which is of one hand with it
    assert (fits[1].onto, fits[1].correlation, fits[1].hand_open) == (0, 0.48, True)
    assert (fits[2].onto, fits[2].correlation, fits[2].mirrored, fits[2].hand_open) == (1, 0.8, False, True)
    assert (fits[0].onto, fits[0].other_hand, fits[0].hand_open) == (0, None, False)


def three_states(brightness, sizes):
    """Halves of maps that are told apart by their brightest voxel, with images at one pose."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    n, c = len(label), len(sizes)
    one, none = torch.eye(3).expand(n, c, 3, 3).clone(), torch.zeros(n, c, 2)
    maps = torch.stack([bright * torch.ones(BOX_PX, BOX_PX, BOX_PX) for bright in brightness])
    assignment = Assignment(label, np.eye(c, dtype=np.float32)[label] - 1, one, none, maps,
                            torch.ones(BOX_PX // 2 + 1), np.zeros(n, bool))
    data, _, _, _ = simulated([blobs(7)], n, 0.5)
    problem = problem_of(data, half_set=1 + np.arange(n) % 2, mask=MASK)
    halves = [halves_at(problem, assignment, state, 8) for state in range(c)]
    return [replace(half, full=maps[state].numpy()) for state, half in enumerate(halves)], assignment, problem
