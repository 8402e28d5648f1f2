"""A search near known shifts against one at all shifts: the same poses where the shifts are right, all where not."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, mask_of, simulated
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.reconstruction import near_search
from vaegan_engine.reconstruction.images import image_power
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.near_search import Placed, passes_in_one_frame, search_in_one_frame, search_near
from vaegan_engine.reconstruction.pose_count import counted_poses
from vaegan_engine.reconstruction.pose_search import PoseGrid, search_all, shift_step_px
from vaegan_engine.refine.start.starting_maps import scale_to_images

N = 240
GRID = PoseGrid(6.0, 400, 4.0)


@pytest.fixture(scope="module")
def problem():
    """Images of two maps, noise as strong as they are; the mixture of both, and the search at all shifts."""
    maps = [blobs(0), 0.7 * blobs(0) + 0.3 * blobs(1)]
    data, _, _, shifts = simulated(maps, N // 2, 1.0)
    maps = scale_to_images(torch.stack(maps), data, image_power(data), 6.0)
    model = MapMixture(maps, torch.full((13,), 24.0 ** 2), within(mask_of(24)))
    rows = np.arange(N)
    before = counted_poses()
    return data, model, shifts, search_all(data, model, rows, GRID), counted_poses() - before


def same_poses(one, other):
    """Part of the images whose best map and pose in it are the same."""
    best, at = one.log_evidence.argmax(1), np.arange(N)
    same = (one.rotations[at, best] - other.rotations[at, best]).abs().amax((1, 2)) < 1e-5
    return float((same & (torch.from_numpy(best) == torch.from_numpy(other.log_evidence.argmax(1)))).float().mean())


def test_near_right_shifts_the_poses_are_those_of_the_whole_grid(problem):
    data, model, _, whole, n_whole = problem
    best = torch.from_numpy(whole.log_evidence.argmax(1))
    known = whole.shifts_px[torch.arange(N), best][:, None].expand(N, 2, 2)
    before = counted_poses()
    found = search_near(data, model, Placed(np.arange(N), known, 40), GRID)
    assert counted_poses() - before < 0.5 * n_whole
    assert same_poses(whole, found) > 0.98
    step_px = shift_step_px(24, GRID.radius)
    at = torch.arange(N)
    assert float((found.shifts_px - known).abs().max()) <= float((whole.shifts_px - known).abs().max())
    assert float((found.shifts_px[at, best] - known[:, 0]).abs().max()) <= step_px + 1e-5
    odds, all_odds = (one.log_evidence[:, 0] - one.log_evidence[:, 1] for one in (found, whole))
    assert np.corrcoef(odds, all_odds)[0, 1] > 0.99


def test_shifts_that_are_wrong_are_noticed_and_all_are_tried(problem):
    data, model, shifts, whole, n_whole = problem
    wrong = torch.where(shifts > 0, -3.5, 3.5)[:, None].expand(N, 2, 2)
    before = counted_poses()
    found = search_near(data, model, Placed(np.arange(N), wrong, 40), GRID)
    assert counted_poses() - before == n_whole
    assert same_poses(whole, found) > 0.99
    np.testing.assert_allclose(found.log_evidence, whole.log_evidence, atol=3)  # of hundreds


def test_no_shift_is_larger_than_the_largest(problem):
    data, model = problem[:2]
    far = torch.full((N, 2), 9.0)
    found = search_all(data, model, np.arange(N), replace(GRID, around=far, n_steps=1))
    assert float(found.shifts_px.max()) <= GRID.largest_shift_px + 1e-5
    assert float(found.shifts_px.min()) >= GRID.largest_shift_px - 2 * shift_step_px(24, GRID.radius) - 1e-5


def test_maps_of_one_frame_are_searched_near_the_first_ones_shifts(problem):
    data, model, _, whole, n_whole = problem
    before, told = counted_poses(), []
    found = search_in_one_frame(data, model, np.arange(N), GRID, told.append)
    assert sum(told) == passes_in_one_frame(model) * N
    assert counted_poses() - before <= 1.5 * n_whole  # nearly all of the few images are the sample
    assert same_poses(whole, found) > 0.97
    one = MapMixture(model.maps[:1], model.noise, model.constraint)
    alone = search_in_one_frame(data, one, np.arange(N), GRID)
    np.testing.assert_array_equal(alone.log_evidence, search_all(data, one, np.arange(N), GRID).log_evidence)


@pytest.mark.parametrize(("n_steps", "saves"), [(1, True), (2, False)])
def test_the_first_map_is_searched_alone_only_where_that_saves_poses(problem, monkeypatch, n_steps, saves):
    """Of 49 shifts 9 or 25 lie near: 49 + 2 x 9 are fewer than 0.8 x 2 x 49, 49 + 2 x 25 are more."""
    data, model, _, whole, n_whole = problem
    monkeypatch.setattr(near_search, "_SAMPLE", 40)
    monkeypatch.setattr(near_search, "steps_to_try", lambda *_: n_steps)
    before, told = counted_poses(), []
    found = search_in_one_frame(data, model, np.arange(N), GRID, told.append)
    assert sum(told) == 2 * N
    searched = counted_poses() - before
    assert searched < 0.8 * n_whole if saves else searched == n_whole
    assert same_poses(whole, found) > (0.9 if saves else 0.99)


def test_few_images_are_searched_at_all_shifts(problem):
    data, model, _, whole, _ = problem
    found = search_near(data, model, Placed(np.arange(N), torch.zeros(N, 2, 2), N), GRID)
    assert torch.equal(found.shifts_px, whole.shifts_px)
    np.testing.assert_array_equal(found.log_evidence, whole.log_evidence)
