"""``states`` on a device that is none (``second_device``): every transfer is made, and results are the CPU's."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from refine_particles import RUN, blobs, problem_of, recorder_of, simulated
from second_device import NAME, SecondDevice
from torch import Tensor
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.rotations import super_fibonacci_rotations
from vaegan_engine.reconstruction import pose_search
from vaegan_engine.refine.assignment import reassign
from vaegan_engine.refine.detail import common_frame, each_state
from vaegan_engine.refine.detail.moving_poses import follow_motion
from vaegan_engine.refine.problem import GivenPoses, Problem
from vaegan_engine.refine.rounds import join_states, restart_states, second_search
from vaegan_engine.refine.rounds.restart_states import Suspect
from vaegan_engine.refine.start import known_poses
from vaegan_engine.refine.states import Assignment
from vaegan_engine.refine.tuning import MotionTuning, RefineTuning, SearchTuning, StartTuning

pytestmark = pytest.mark.slow

N_EACH, SHELL = 40, 5.0
FEW = RefineTuning(search=SearchTuning(n_rotations=60), start=StartTuning(n_rotations=60, search_n_rotations=60),
                   motion=MotionTuning(
    min_images=10, max_follow_turns=1, n_nodes=3, pose_turns=1, curve_rounds=1, trial_rounds=1, n_places=11))
SHORT = replace(RUN, n_starts=2, n_maps=1, start_steps=2, search_steps=2, batch_size=20)


def two_states(device: str) -> tuple[Problem, Assignment]:
    """Two states at their true poses, on a device."""
    data, label, rotations, shifts = simulated([blobs(1, 16), blobs(2, 16)], N_EACH, 0.5)
    problem = problem_of(replace(data, device=torch.device(device), contrast=np.ones(len(data), np.float32),
                                 contrast_spread=0.2), run=SHORT, tuning=FEW)
    problem = replace(problem, mask=problem.mask.to(device))
    posterior = np.where(label[:, None] == np.arange(2), 0.0, -50.0).astype(np.float32)
    poses = [values.to(device)[:, None].repeat_interleave(2, 1) for values in (rotations, shifts)]
    begun = Assignment(label, posterior, *poses, torch.zeros(2, 16, 16, 16, device=device),
                       torch.ones(9, device=device), np.zeros(len(label), bool))
    return problem, reassign(problem, begun, SHELL, all_poses=True)


def as_of_a_gpu(images: Any, model: Any, n_rotations: int, turn: Tensor) -> Any:
    """The grid of rotations of a device that is no CPU."""
    return model.templates(images.band, super_fibonacci_rotations(n_rotations, turn.device) @ turn)


def paired(problem: Problem, found: Assignment, _: Any) -> list[Any]:
    pairs = join_states.separate_pairs(problem, found, SHELL, torch.Generator().manual_seed(0))
    swapped = join_states.exchange_poses(problem, found, (0, 1), SHELL)
    rotations, shifts_px = swapped.poses(np.arange(len(problem)))  # in the other state's map none is determined
    return [pairs[0].agreement, pairs[0].valley, rotations, shifts_px]


def searched(problem: Problem, found: Assignment, _: Any) -> list[Any]:
    band = make_band(problem.box_px, SHELL, problem.device)
    return [second_search.search_all_again(problem, found, band, lambda n: None)[0].log_posterior]


def laid(problem: Problem, found: Assignment, tmp_path: Any) -> list[Any]:
    halves, found = each_state.refine_details(problem, found, [False, False], recorder_of(tmp_path))
    found, halves, _ = common_frame.lay_in_one_frame(problem, found, halves)
    return [found.maps, halves[0].full]


def moved(problem: Problem, found: Assignment, tmp_path: Any) -> list[Any]:
    followed = follow_motion(problem, found, 0, SHELL, lambda *turn: None)
    motions = each_state.find_motions(problem, found, recorder_of(tmp_path))
    assert all(motion is not None for motion in motions)
    return [followed.rotations[:, 0]]


def begun_anew(problem: Problem, found: Assignment, tmp_path: Any) -> list[Any]:
    suspect = Suspect(1, 2.0, 1.0)
    maps = restart_states.start_anew(problem, found, suspect, recorder_of(tmp_path))
    assert maps is not None
    return [restart_states.place_map(problem, found, 1, found.maps[0]).rotations]


def given(problem: Problem, found: Assignment, _: Any) -> list[Any]:
    poses = GivenPoses(*found.poses(np.arange(len(problem))))
    posed = replace(problem, poses=poses)
    return [known_poses.known_start(posed).maps, known_poses.at_own_poses(posed, found.states()).rotations]


@pytest.mark.parametrize("step", [
    paired, searched, laid, pytest.param(moved, marks=pytest.mark.slow), begun_anew, given])
def test_a_step_is_the_same_on_another_device(step: Callable[..., list[Any]], tmp_path, monkeypatch):
    monkeypatch.setattr(pose_search, "templates_for", as_of_a_gpu)
    here = step(*two_states("cpu"), tmp_path / "here")
    with SecondDevice():
        there = step(*two_states(NAME), tmp_path / "there")
        for one, other in zip(here, there, strict=True):
            other = other.cpu() if isinstance(other, Tensor) else other
            apart = np.abs(np.asarray(one) - np.asarray(other))
            # a pose whose misfit hardly depends on it may end elsewhere
            assert np.quantile(apart, 0.95) < 1e-3 * np.abs(np.asarray(one)).max()
