"""Poses of a state that moves are found along its motion; those of a rigid state are left alone."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from known_assignment import RADIUS, assignment
from moving_particles import BOX_PX, arm, images_of
from refine_particles import RUN, blobs, problem_of
from scipy.stats import spearmanr
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.refine.detail import moving_poses
from vaegan_engine.refine.detail.motion import motion_of

N, SHIFT_PX = 600, 1.5
HALF_SET = np.arange(N) % 2 + 1
FRAME = np.arange(N) % 12


def state_of(angles, noise, wrong):
    """One state of N images at their true poses, some at random ones: (data, assignment, true rotations)."""
    frames = torch.stack([blobs(1, BOX_PX, reach_frac=0.2) + 1.2 * arm(angle) for angle in angles])
    label = torch.arange(N) % len(frames)
    data, rotations, shifts = images_of(frames, label, noise)
    found = assignment(data, np.zeros(N, np.int64), rotations, shifts, 1)
    random = random_rotations(len(wrong), torch.Generator().manual_seed(3))
    return data, found.with_state_poses(0, random, found.shifts_px[wrong, 0], wrong), rotations


def asked(data):
    """The problem of a state's images, its half sets in turn."""
    return problem_of(data, run=RUN, half_set=HALF_SET, max_shift_px=SHIFT_PX)


@pytest.mark.slow
def test_images_of_a_moving_state_come_back_from_wrong_poses():
    wrong = np.sort(np.random.default_rng(0).permutation(N)[:N // 6])
    data, found, rotations = state_of(np.linspace(-0.9, 0.9, 12), 0.3, wrong)
    problem, turns = asked(data), []
    before = motion_of(problem, found, 0, RADIUS)
    made = moving_poses.follow_motion(problem, found, 0, RADIUS, lambda *turn: turns.append(turn))
    assert turns and turns[0][1] >= len(wrong)
    error = rotation_distance_deg(made.rotations[:, 0], rotations)
    assert (error[wrong] < 15).float().mean() > 0.7
    assert error.median() < 10
    after = motion_of(problem, made, 0, RADIUS)
    assert after.agreement > before.agreement
    assert abs(spearmanr(after.t, FRAME)[0]) > 0.75 > 0.4 > abs(spearmanr(before.t, FRAME)[0])
    assert not torch.equal(made.maps, found.maps)


@pytest.mark.slow
def test_a_rigid_state_is_left_alone():
    data, found, _ = state_of([0.3], 0.5, np.zeros(0, np.int64))
    turns: list[tuple[float, int]] = []
    made = moving_poses.follow_motion(asked(data), found, 0, RADIUS, lambda *turn: turns.append(turn))
    assert not turns
    assert made is found


def test_small_states_are_not_asked_for_a_motion():
    data, found, _ = state_of(np.linspace(-0.9, 0.9, 12), 0.5, np.zeros(0, np.int64))
    found = found.with_junk(np.arange(N) >= 150)
    assert not moving_poses.moves(asked(data), found, 0, RADIUS)
    assert BOX_PX == found.maps.shape[-1]
