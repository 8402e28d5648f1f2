"""A second search brings images back from wrong poses and states, and costs little where nothing is wrong."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_assignment import RADIUS, assignment
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.refine.rounds.second_search import search_all_again
from vaegan_engine.refine.tuning import TUNING

N, SHIFT_PX = 300, 1.5
SEARCH = TUNING.search


def two_states(noise: float):
    """Two states at known poses: (data, label, the right assignment)."""
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], N, noise)
    return data, label, assignment(data, label, rotations, shifts, 2)


def disturbed(right, rows):
    """The assignment with some images at random poses, half of them in the other state."""
    rotations = random_rotations(2 * len(rows), torch.Generator().manual_seed(5)).view(len(rows), 2, 3, 3)
    state_of = right.state_of.copy()
    state_of[rows[::2]] = 1 - state_of[rows[::2]]
    return replace(right.with_poses(rows, rotations, right.shifts_px[rows]), state_of=state_of)


def searched(data, assignment, tuning=TUNING, progress=None):
    """The assignment after a second search, and the part of a sample that changed."""
    problem = problem_of(data, tuning=tuning, max_shift_px=SHIFT_PX)
    return search_all_again(problem, assignment, make_band(24, RADIUS), progress)


def test_images_come_back_from_wrong_poses_and_states():
    data, label, right = two_states(1.0)
    wrong = np.arange(0, 2 * N, 10)
    found = disturbed(right, wrong)
    made, changed = searched(data, found)
    assert changed == pytest.approx(0.1, abs=0.03)
    assert (made.state_of == label).mean() > 0.99
    error = rotation_distance_deg(made.rotations[wrong, label[wrong]], right.rotations[wrong, label[wrong]])
    assert (error < 10).float().mean() > 0.9


def test_where_nothing_is_wrong_a_sample_is_searched_alone():
    data, label, right = two_states(0.3)
    seen = []
    made, changed = searched(data, right, replace(TUNING, search=replace(SEARCH, second_sample=60)), seen.append)
    assert changed <= SEARCH.max_changed_frac and not seen
    moved = (made.rotations != right.rotations).flatten(1).any(1).numpy()
    assert moved.sum() <= 60
    assert (made.state_of == label).all()


def test_fewer_images_than_a_sample_are_searched_at_once():
    data, label, right = two_states(1.0)
    found = disturbed(right, np.arange(0, 2 * N, 10))
    found = found.with_junk(np.arange(2 * N) >= SEARCH.second_sample - 50)
    made, changed = searched(data, found)
    assert changed > SEARCH.max_changed_frac
    assert (made.state_of == label)[~found.aside].mean() > 0.99


def test_images_set_aside_and_the_argument_stay_as_they_are():
    data, _, right = two_states(1.0)
    found = disturbed(right, np.arange(0, 2 * N, 10))
    found = found.with_junk(np.arange(2 * N) < 20)
    before = found.rotations.clone(), found.state_of.copy(), found.log_posterior.copy()
    made, _ = searched(data, found)
    assert torch.equal(made.rotations[:20], found.rotations[:20]) and (made.state_of[:20] == found.state_of[:20]).all()
    assert torch.equal(found.rotations, before[0])
    assert (found.state_of == before[1]).all() and (found.log_posterior == before[2]).all()
