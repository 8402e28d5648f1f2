"""Classes of an assignment: small ones dissolved, images that go over, half sets."""
from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch
from known_assignment import BOX_PX, RADIUS, assignment
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.data.particles import drawn_half_sets
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_alignment import AlignedMap
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.reconstruction.least_squares import residual_noise
from vaegan_engine.refine.assignment import reassign, state_log_posterior
from vaegan_engine.refine.detail import common_frame, each_state, half_maps
from vaegan_engine.refine.detail.half_maps import reached_shell, refine_halves, smaller_halves
from vaegan_engine.refine.detail.moving_poses import search_at_nodes
from vaegan_engine.refine.rounds import join_states
from vaegan_engine.refine.rounds.junk import set_junk_aside
from vaegan_engine.refine.rounds.restart_states import place_map
from vaegan_engine.refine.rounds.second_search import search_again
from vaegan_engine.refine.states import Assignment
from vaegan_engine.refine.tuning import RefineTuning, SearchTuning


def plain(state_of: np.ndarray, log_posterior: np.ndarray) -> Assignment:
    """An assignment with poses and maps of no matter."""
    n, c = log_posterior.shape
    return Assignment(state_of, log_posterior, torch.eye(3).expand(n, c, 3, 3), torch.zeros(n, c, 2),
                      torch.zeros(c, 8, 8, 8), torch.ones(5), np.zeros(n, bool))


def test_images_of_a_dissolved_class_go_to_the_better_of_the_others_however_far():
    costs = [torch.tensor([300.0, 150.0]), torch.tensor([200.0, 300.0]), torch.tensor([0.0, 0.0])]
    log_posterior = state_log_posterior(costs, np.array([1, 1, 1]))
    assert (np.exp(log_posterior).argmax(1) == 2).all()
    assert plain(np.array([2, 2]), log_posterior).without(2).state_of.tolist() == [1, 0]


def test_small_classes_are_dissolved_the_least_one_first():
    log_posterior = np.log(np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], np.float32))
    found = plain(np.array([0, 1, 2, 2]), log_posterior)
    assert found.without_small(1) is found
    assert found.without_small(2).sizes().tolist() == [2, 2]  # the image of 0 goes to 1
    assert found.without_small(100).n_states == 1


def test_no_class_below_the_smallest_is_left():
    """A duplicate class whose images are in wrong poses loses all of them in the last round."""
    data, _, rotations, shifts = simulated([blobs(0)], 240, 0.5)
    state_of = np.zeros(240, np.int64)
    state_of[:50] = 1
    A2 = torch.stack((rotations, random_rotations(240, torch.Generator().manual_seed(1))), 1)
    start = Assignment(state_of, np.zeros((240, 2), np.float32), A2, shifts[:, None].repeat(1, 2, 1),
                       torch.zeros(2, BOX_PX, BOX_PX, BOX_PX), torch.ones(BOX_PX // 2 + 1), np.zeros(240, bool))
    found = reassign(problem_of(data, 50), start, RADIUS)
    assert found.n_states == 1 and found.sizes().tolist() == [240]
    assert found.rotations.shape == (240, 1, 3, 3) and found.log_posterior.shape == (240, 1)


def test_poses_in_states_that_an_image_cannot_belong_to_stay_and_the_states_are_the_same():
    maps = [blobs(0), blobs(1)]
    data, label, rotations, shifts = simulated(maps, 150, 0.5)
    rng = torch.Generator().manual_seed(2)
    A2 = torch.stack((rotations, rotations), 1)
    A2[torch.arange(300), 1 - torch.from_numpy(label)] = random_rotations(300, rng)  # in the other state: anything
    start = Assignment(label.copy(), np.zeros((300, 2), np.float32), A2, shifts[:, None].repeat(1, 2, 1),
                       torch.zeros(2, BOX_PX, BOX_PX, BOX_PX), torch.ones(BOX_PX // 2 + 1), np.zeros(300, bool))
    problem = problem_of(data, 50)
    settled = reassign(problem, start, RADIUS, all_poses=True)
    chosen = settled.may_belong(problem.tuning.rounds.min_posterior)
    assert 0 < chosen.mean() < 0.6
    full, some = (reassign(problem, settled, RADIUS, all_poses=all_poses) for all_poses in (True, False))
    out = torch.from_numpy(~chosen)
    assert torch.equal(some.rotations[out], settled.rotations[out])
    assert torch.equal(some.shifts_px[out], settled.shifts_px[out])
    assert torch.equal(some.rotations[~out], full.rotations[~out])
    assert np.array_equal(some.state_of, full.state_of)
    assert (some.state_of == label).mean() > 0.98


def unchanged(given: Assignment, before: Assignment) -> bool:
    """Whether every array of an assignment is as it was."""
    return all(torch.equal(getattr(given, field.name), getattr(before, field.name))
               if isinstance(getattr(given, field.name), torch.Tensor)
               else np.array_equal(getattr(given, field.name), getattr(before, field.name)) for field in fields(given))


def test_another_assignment_is_made_and_the_one_given_stays():
    """Every ``with_...`` changes what it names, nothing else, and not its input; fields cannot be set."""
    rng = np.random.default_rng(0)
    given = plain(np.array([0, 1, 1, 0]), np.log(rng.dirichlet((1, 1), 4)).astype(np.float32))
    given = replace(given, rotations=given.rotations.clone())
    before = copy.deepcopy(given)
    rows, rotations = np.array([1, 3]), random_rotations(4, torch.Generator().manual_seed(0)).view(2, 2, 3, 3)
    shifts_px, map_, aside = torch.randn(2, 2, 2), torch.ones(8, 8, 8), np.array([True, False, False, False])
    moved = given.with_poses(rows, rotations, shifts_px)
    assert torch.equal(moved.rotations[rows], rotations) and torch.equal(moved.shifts_px[rows], shifts_px)
    assert torch.equal(moved.rotations[[0, 2]], before.rotations[[0, 2]])
    turned = given.with_state_poses(1, rotations[:, 0], shifts_px[:, 0], rows)
    assert torch.equal(turned.rotations[rows, 1], rotations[:, 0])
    assert torch.equal(turned.rotations[:, 0], before.rotations[:, 0])
    assert torch.equal(given.with_map(0, map_).maps[0], map_)
    other = given.with_states(rows, np.log(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)))
    assert other.state_of.tolist() == [0, 0, 1, 1] and np.array_equal(other.log_posterior[[0, 2]],
                                                                      before.log_posterior[[0, 2]])
    assert given.with_junk(aside).aside.tolist() == aside.tolist()
    assert given.without(1).n_states == 1
    assert unchanged(given, before)
    with pytest.raises(FrozenInstanceError):
        given.aside = aside


def test_no_decision_changes_the_assignment_that_it_is_given(monkeypatch):
    """Settling, joining, setting aside, searching, following, halves, frames: each on two small states."""
    for module in (join_states, common_frame):  # an alignment takes seconds
        monkeypatch.setattr(module, "align_map", lambda moving, *_: AlignedMap(
            moving, np.eye(3), np.zeros(3), np.zeros(3), True, 1.0))
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], 40, 0.5)
    tuning = RefineTuning(search=SearchTuning(n_rotations=50))
    problem, given = problem_of(data, tuning=tuning), assignment(data, label, rotations, shifts, 2)
    before, rng, band = copy.deepcopy(given), torch.Generator().manual_seed(0), make_band(BOX_PX, RADIUS)
    reassign(problem, given, RADIUS)
    join_states.exchange_poses(problem, given, (0, 1), RADIUS)
    join_states.join_same(problem, given, RADIUS, rng)
    set_junk_aside(problem, given, RADIUS)
    search_again(problem, given, np.arange(20), band)
    place_map(problem, given, 0, given.maps[1])
    search_at_nodes(problem, given, 0, given.maps, RADIUS)
    halves = [refine_halves(problem, given, state)[0] for state in (0, 1)]
    common_frame.lay_in_one_frame(problem, given, halves)
    assert unchanged(given, before)


def test_the_band_of_the_detail_grows_by_what_the_maps_hold(monkeypatch):
    """Half maps agree as far as they reach, and by their mask beyond: the band grows, it does not jump to Nyquist."""
    assert reached_shell(np.array([1, 0.9, 0.5, 0.1, 0.3]), 4, 0.143) == 3
    assert reached_shell(np.array([1, 0.9, 0.5, 0.4, 0.3, 0.3]), 3.5, 0.143) == 3
    data, label, rotations, shifts = simulated([blobs(0, 48)], 80, 0.2)
    problem, radii = problem_of(data), []
    start = Assignment(label, np.zeros((80, 1), np.float32), rotations[:, None], shifts[:, None],
                       torch.zeros(1, 24, 24, 24), torch.ones(25), np.zeros(80, bool))
    problem = replace(problem, settings=replace(problem.settings, state_shells=6.0))
    monkeypatch.setattr(half_maps, "residual_noise", lambda images, map_: radii.append(images.band.radius)
                        or residual_noise(images, map_))
    refine_halves(problem, reassign(problem, start, 6.0), 0, search=False)
    assert radii[0] == 6 and max(np.diff(sorted({*radii}))) <= 6


@pytest.mark.parametrize("one_half_each", [False, True])
def test_half_sets_that_go_with_a_state_are_drawn_anew_for_all(one_half_each, capsys):
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], 60, 0.5)
    found = assignment(data, label, rotations, shifts, 2)
    given = (1 + (label if one_half_each else np.arange(120) // 2 % 2)).astype(np.uint8)
    twin_id = np.arange(120) // 2  # every image has two rows
    used = each_state.half_sets_of_all(replace(problem_of(data, half_set=given), twin_id=twin_id), found)
    assert smaller_halves(found, used).min() > 0.3
    if one_half_each:
        assert smaller_halves(found, given).max() == 0
        assert np.array_equal(used, drawn_half_sets(twin_id)) and np.array_equal(used[::2], used[1::2])
        assert "state 1 has 0.0 % of its images in the smaller one" in capsys.readouterr().out
    else:
        assert used is given


def test_copies_of_an_image_are_taken_into_one_half_set(capsys):
    """Half sets that a star file states may have an image in both: the halves of a state would share its noise."""
    data, label, rotations, shifts = simulated([blobs(0)], 60, 0.5)
    given, twin_id = (1 + np.arange(60) % 2).astype(np.uint8), np.arange(60)
    twin_id[1:12:2] = twin_id[0:12:2]  # 6 images have two rows, in both half sets
    used = each_state.half_sets_of_all(replace(problem_of(data, half_set=given), twin_id=twin_id),
                                       assignment(data, label, rotations, shifts, 1))
    assert (used[1:12:2] == used[0:12:2]).all() and (used != given).sum() == 6
    assert "6 that have the image of another one are taken into that one's half set" in capsys.readouterr().out


def test_probabilities_of_the_states_that_are_left_sum_to_one():
    log_posterior = np.log(np.array([[0.999999, 1e-6], [0.5, 0.5]], np.float32))
    left = plain(np.array([0, 1]), log_posterior).without(0)
    np.testing.assert_allclose(np.exp(left.log_posterior).sum(1), 1, rtol=1e-6)
