"""States in the landscape of principal maps, and what is none: noise, contrast, views, motion."""
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_records import landscape
from refine_particles import blobs, problem_of, recorder_of, simulated
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.reconstruction.pose_refinement import small_rotations
from vaegan_engine.refine.rounds import rounds
from vaegan_engine.refine.rounds.landscape import find_landscape, leaves, rows_in_parts
from vaegan_engine.refine.states import State
from vaegan_engine.refine.tuning import TUNING, LandscapeTuning
from vaegan_engine.stats.label_agreement import agreement

QUICK = replace(TUNING, landscape=LandscapeTuning(n_components=4, map_rounds=12, max_groups=6))
MAX_SHELL = 8.0


def shown(images, rotations, shifts_px, min_state=20, tuning=QUICK):
    """Landscape of all images at poses."""
    problem = problem_of(images, min_state, tuning=tuning)
    state = State(np.arange(len(rotations)), rotations, shifts_px, torch.zeros(24, 24, 24))
    return problem, state, find_landscape(problem, state, MAX_SHELL)


def nested(n_states):
    """A common body, and states with parts of their own."""
    common = blobs(7)
    return [common + 1.5 * sum((torch.roll(blobs(20 + k, n=2), k - 2, 0) for k in range(state)),
                               torch.zeros_like(common)) for state in range(n_states)]


@pytest.mark.parametrize("part_images", [3000, 200])  # all in every round; a quarter in each of the first ones
def test_states_are_found_at_poses_that_are_a_little_wrong(part_images):
    tuning = replace(QUICK, landscape=replace(QUICK.landscape, part_images=part_images, whole_rounds=4))
    images, label, rotations, shifts_px = simulated(nested(3), 300, 1.3)
    rng = torch.Generator().manual_seed(5)
    near = small_rotations(0.02 * torch.randn(len(rotations), 3, generator=rng)) @ rotations
    problem, state, found = shown(images, near, shifts_px, tuning=tuning)
    assert found.n_states == 3, found.summary()
    assert agreement(found.label, label)["nmi"] > 0.8
    made = leaves(found, 0, state, problem)
    assert sorted(np.concatenate([leaf.state.rows for leaf in made])) == sorted(np.flatnonzero(found.label >= 0))
    for leaf in made:
        true = np.bincount(label[leaf.state.rows], minlength=3).argmax()
        others = [float(torch.corrcoef(torch.stack((leaf.state.map.flatten(), map_.flatten())))[0, 1])
                  for map_ in nested(3)]
        assert int(np.argmax(others)) == true


@pytest.mark.parametrize(("n", "n_parts"), [(999, 1), (1999, 1), (2000, 2), (3000, 3), (30000, 4), (10 ** 6, 4)])
def test_parts_of_the_images_hold_enough_and_leave_out_none(n, n_parts):
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    parts = rows_in_parts(rows, LandscapeTuning())
    assert len(parts) == n_parts and (n_parts == 1 or min(map(len, parts)) >= 1000)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(n))


def test_copies_of_images_are_no_evidence_of_their_own():
    """Every image three times: the same numbers as of one each, and every copy with the label of the first."""
    images, _, rotations, shifts_px = simulated(nested(2), 100, 1.3)
    rows = np.tile(np.arange(200), 3)
    at = torch.from_numpy(rows)
    _, _, once = shown(images, rotations, shifts_px)
    problem = replace(problem_of(images.part(rows), 20, tuning=QUICK), twin_id=rows)
    thrice = find_landscape(problem, State(np.arange(600), rotations[at], shifts_px[at], torch.zeros(24, 24, 24)),
                            MAX_SHELL)
    assert (thrice.bic, thrice.pairs, thrice.by_view) == (once.bic, once.pairs, once.by_view)
    np.testing.assert_array_equal(thrice.label, once.label[rows])


def test_one_state_is_one():
    images, _, rotations, shifts_px = simulated([blobs(7)], 900, 2.0)
    assert shown(images, rotations, shifts_px)[2].n_states == 1


def test_contrast_is_no_state():
    images, _, rotations, shifts_px = simulated([blobs(7)], 900, 0.0)
    rng = np.random.default_rng(0)
    factor = np.where(rng.random(900) < 0.5, 0.7, 1.3)  # as far from a normal one as it can be
    noisy = images.images * factor[:, None, None] + 1.5 * rng.standard_normal(images.images.shape)
    assert shown(replace(images, images=noisy.astype(np.float32)), rotations, shifts_px)[2].n_states == 1


def test_what_depends_on_the_view_alone_is_no_state():
    """Images seen from above and below are of a map that lacks a part: a mixture alone takes them for a state."""
    whole = blobs(7)
    images, _, rotations, shifts_px = simulated([whole, 0.8 * whole + 0.5 * torch.roll(blobs(9, n=2), 2, 0)], 900, 2.0)
    above = (rotations[:900, 2, 2].abs() > 0.5).numpy()
    rows = np.where(above, np.arange(900), 900 + np.arange(900))
    both = replace(images, images=images.images[rows], ctf=images.ctf[rows])
    at = torch.from_numpy(rows)
    above = (rotations[at][:, 2, 2].abs() > 0.5).numpy()
    _, _, found = shown(both, rotations[at], shifts_px[at])
    sizes = found.summary().sizes
    assert found.n_states == 1 or agreement(found.label, above)["nmi"] < 0.3, (sizes, found.summary())


def test_a_motion_is_one_state_that_varies():
    body, x = blobs(7), torch.arange(24, dtype=torch.float32) - 12
    away = (x[:, None, None] - 5).square() + x[:, None].square()
    frames = [body + 2.0 * torch.exp(-(away + (x - 2 - at).square()) / 6) for at in np.linspace(0, 4, 120)]
    images, _, rotations, shifts_px = simulated(frames, 8, 1.5)
    _, _, found = shown(images, rotations, shifts_px)
    assert found.n_states == 1 and len(found.fit.groups) > 1, found.summary()


@pytest.mark.parametrize("box_px", [24])
def test_a_small_state_is_left_out_of_the_leaves(box_px):
    images, label, rotations, shifts_px = simulated(nested(2), 300, 1.5)
    rows = np.concatenate((np.flatnonzero(label == 0), np.flatnonzero(label == 1)[:40]))
    at = torch.from_numpy(rows)
    some = replace(images, images=images.images[rows], ctf=images.ctf[rows])
    problem, state, found = shown(some, rotations[at], shifts_px[at], min_state=60)
    assert len(leaves(found, 0, state, problem)) == 1
    settled = replace(state, map=torch.zeros(16, 16, 16))  # in the working box: leaves and whole states are stacked
    assert [leaf.state.map.shape for leaf in leaves(found, 0, settled, problem)] == [settled.map.shape]
    assert found.label.shape == (340,) and box_px == problem.box_px


def test_a_state_without_a_group_that_is_large_enough_keeps_its_images(monkeypatch, tmp_path):
    images, _, rotations, shifts_px = simulated([blobs(7)], 60, 1.0)
    problem = problem_of(images, 20, tuning=QUICK)
    nothing = SimpleNamespace(label=np.full(60, -1), n_states=0, summary=landscape)
    monkeypatch.setattr(rounds, "find_landscape", lambda *_: nothing)
    this = rounds.Round(problem, 0, torch.Generator(), recorder_of(tmp_path))
    state = State(np.arange(60), rotations, shifts_px, blobs(7))
    found, outside, landscapes = rounds.split_states(this, [state], np.zeros(60, bool))
    assert landscapes == [landscape()]
    assert len(found) == 1 and len(found[0].state.rows) == 60
    assert not outside.any()


def test_groups_below_the_smallest_share_are_told(capsys):
    """2 % of 10,000 particles stand apart, 3 % are asked of a state: no state, and a warning says why."""
    images = Images(np.zeros((10_000, 16, 16), np.float32), np.zeros((10_000, 8), np.float32), 5.0,
                    torch.device("cpu"))
    for min_state, told in ((300, True), (150, False)):
        rounds.say_small(landscape(2, sizes=[9800, 200]), problem_of(images, min_state))
        assert ("groups of 200 particles stand apart" in capsys.readouterr().out) is told
    rounds.say_small(landscape(2, sizes=[9980, 20]), problem_of(images, 300))  # too few whatever is asked
    assert not capsys.readouterr().out
