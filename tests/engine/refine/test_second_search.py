"""A second search brings images back from wrong poses and states, and costs little where nothing is wrong."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from test_junk import MASK, RADIUS, assignment
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.refine import second_search

N, SHIFT_PX = 300, 1.5


def two_states(noise: float):
    """Two states at known poses: (data, label, the right assignment)."""
    data, label, A, shifts = simulated([blobs(0), blobs(1)], N, noise)
    return data, label, assignment(data, label, A, shifts, 2)


def disturbed(right, rows):
    """The assignment with some images at random poses, half of them in the other state."""
    found = replace(right, A=right.A.clone(), class_=right.class_.copy())
    found.A[rows] = random_rotations(2 * len(rows), torch.Generator().manual_seed(5)).view(len(rows), 2, 3, 3)
    found.class_[rows[::2]] = 1 - found.class_[rows[::2]]
    return found


def test_images_come_back_from_wrong_poses_and_states():
    data, label, right = two_states(1.0)
    wrong = np.arange(0, 2 * N, 10)
    found = disturbed(right, wrong)
    made, changed = second_search.all_searched_again(data, found, make_band(24, RADIUS), SHIFT_PX, MASK)
    assert changed == pytest.approx(0.1, abs=0.03)
    assert (made.class_ == label).mean() > 0.99
    error = rotation_distance_deg(made.A[wrong, label[wrong]], right.A[wrong, label[wrong]])
    assert (error < 10).float().mean() > 0.9


def test_where_nothing_is_wrong_a_sample_is_searched_alone(monkeypatch):
    monkeypatch.setattr(second_search, "SAMPLE", 60)
    data, label, right = two_states(0.3)
    seen = []
    made, changed = second_search.all_searched_again(data, right, make_band(24, RADIUS), SHIFT_PX, MASK, seen.append)
    assert changed <= second_search.MOST_CHANGED_FRAC and not seen
    moved = (made.A != right.A).flatten(1).any(1).numpy()
    assert moved.sum() <= 60
    assert (made.class_ == label).all()


def test_fewer_images_than_a_sample_are_searched_at_once():
    data, label, right = two_states(1.0)
    found = disturbed(right, np.arange(0, 2 * N, 10))
    found.aside[second_search.SAMPLE - 50:] = True
    made, changed = second_search.all_searched_again(data, found, make_band(24, RADIUS), SHIFT_PX, MASK)
    assert changed > second_search.MOST_CHANGED_FRAC
    assert (made.class_ == label)[~found.aside].mean() > 0.99


def test_images_set_aside_and_the_argument_stay_as_they_are():
    data, _, right = two_states(1.0)
    found = disturbed(right, np.arange(0, 2 * N, 10))
    found.aside[:20] = True
    before = found.A.clone(), found.class_.copy(), found.log_posterior.copy()
    made, _ = second_search.all_searched_again(data, found, make_band(24, RADIUS), SHIFT_PX, MASK)
    assert torch.equal(made.A[:20], found.A[:20]) and (made.class_[:20] == found.class_[:20]).all()
    assert torch.equal(found.A, before[0])
    assert (found.class_ == before[1]).all() and (found.log_posterior == before[2]).all()
