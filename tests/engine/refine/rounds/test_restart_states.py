"""A state in wrong poses is seen by its misfit and started anew; right states, and junk, are left alone."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_assignment import BOX_PX, RADIUS, assignment
from refine_particles import blobs, problem_of, recorder_of, simulated
from vaegan_engine.contract.settings import ComputeConfig, StatesRun
from vaegan_engine.evaluation.truth.pose_scores import median_pose_error_deg
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.refine.assignment import reassign
from vaegan_engine.refine.rounds import restart_states

N, SHIFT_PX = 300, 1.5
RUN = StatesRun(n_starts=2, start_steps=30, search_steps=20, batch_size=100, start_shells=4.0, search_shells=5.0,
                state_shells=RADIUS, compute=ComputeConfig(device="cpu", threads=1, seed=0))


def with_wrong_state(images_of_second=None):
    """Two states, the second in random poses: (data, true labels, true rotations, assignment)."""
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 0.7)
    if images_of_second is not None:
        images = data.images.copy()
        images[N:] = images_of_second
        data = Images(images, data.ctf, data.pixel_size_ang, data.device)
    wrong = rotations.clone()
    wrong[N:] = random_rotations(N, torch.Generator().manual_seed(5))
    found = assignment(data, label, wrong, shifts, 2)
    found = replace(found, state_of=label)  # images of one kind stay together
    return data, label, rotations, reassign_maps(data, found)


def reassign_maps(data, found):
    """The same classes, maps and noise of their poses as they are."""
    return replace(reassign(problem_of(data), found, RADIUS), state_of=found.state_of)


def test_a_state_in_wrong_poses_is_the_one_suspect():
    data, _, _, found = with_wrong_state()
    row, = restart_states.suspect_states(problem_of(data), found, make_band(BOX_PX, RADIUS))
    assert row.state == 1 and row.misfit > 1.2 * row.best


def test_right_states_are_no_suspects():
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, 0.7)
    right = assignment(data, label, rotations, shifts, 2)
    assert not restart_states.suspect_states(problem_of(data), right, make_band(BOX_PX, RADIUS))


def restarted(data, found, folder):
    problem = problem_of(data, run=RUN, max_shift_px=SHIFT_PX)
    return restart_states.restart_states(problem, found, RADIUS, recorder_of(folder), "restart_0")


@pytest.mark.slow
def test_it_gets_its_poses_from_its_own_images(tmp_path):
    data, label, rotations, found = with_wrong_state()
    assert median_pose_error_deg(found.rotations[N:, 1], rotations[N:]) > 30
    made, (row,) = restarted(data, found, tmp_path)
    assert row.kept and row.log_evidence > row.log_evidence_before + 3
    assert median_pose_error_deg(made.rotations[N:, 1], rotations[N:]) < 15
    assert torch.equal(made.rotations[:, 0], found.rotations[:, 0])  # the other state is as it was
    settled = reassign(problem_of(data), made, RADIUS, 2)
    assert (settled.state_of == label).mean() > 0.97


@pytest.mark.slow
def test_noise_is_tried_and_stays_what_it_is(tmp_path):
    noise = np.random.default_rng(1).standard_normal((N, BOX_PX, BOX_PX)).astype(np.float32) * 1.2
    data, _, _, found = with_wrong_state(noise)
    made, rows = restarted(data, found, tmp_path)
    assert [row.kept for row in rows] in ([], [False])
    assert torch.equal(made.rotations, found.rotations)


def test_one_state_alone_has_nothing_to_be_held_against(tmp_path):
    data, label, _, shifts = simulated([blobs(0)], N, 0.7)
    found = assignment(data, label, random_rotations(N, torch.Generator().manual_seed(5)), shifts, 1)
    made, rows = restarted(data, found, tmp_path)
    assert not rows and torch.equal(made.rotations, found.rotations)
