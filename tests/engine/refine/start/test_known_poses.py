"""States from poses that the particles carry: refined where they are, never searched, still asked if they are good."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import FEW_ROTATIONS, RUN, blobs, problem_of, recorder_of, simulated
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.labels import UNASSIGNED
from vaegan_engine.data.pose_table import PoseTable
from vaegan_engine.physics.rotations import quaternion_to_matrix, random_rotations, rotation_distance_deg
from vaegan_engine.refine import assignment
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.rounds import rounds, second_search
from vaegan_engine.refine.start.known_poses import at_own_poses, given_poses, known_start

N_EACH = 150


def shaken(rotations: torch.Tensor, shifts_px: torch.Tensor, degrees: float = 5.0) -> GivenPoses:
    """Poses that are off by some degrees about random axes, and by 0.3 px."""
    rng = torch.Generator().manual_seed(5)
    axes = torch.nn.functional.normalize(torch.randn(len(rotations), 3, generator=rng), dim=1)
    half = torch.deg2rad(torch.tensor(degrees / 2))
    turns = torch.cat((half.cos().expand(len(rotations), 1), half.sin() * axes), 1)
    return GivenPoses(quaternion_to_matrix(turns) @ rotations,
                      shifts_px + 0.3 * torch.randn(shifts_px.shape, generator=rng))


@pytest.fixture(scope="module")
def two_states():
    """Images of a molecule with and without a part, in one frame, their labels, and poses that are a little off."""
    small = blobs(7, n=25, width_frac=0.04, reach_frac=0.2)
    extra = torch.roll(blobs(8, n=8, width_frac=0.04, reach_frac=0.1), 6, 2)
    data, label, rotations, shifts = simulated([small, small + 1.5 * extra], N_EACH, 0.7)
    return data, label, rotations, shaken(rotations, shifts)


@pytest.mark.slow
def test_poses_are_refined_and_never_searched(two_states, tmp_path, monkeypatch):
    data, label, rotations, poses = two_states
    problem = problem_of(data, 40, run=replace(RUN, state_shells=8.0), tuning=FEW_ROTATIONS, poses=poses)
    start = known_start(problem)
    assert start.unseen > FEW_ROTATIONS.start.min_log_evidence
    for module in (rounds, assignment):
        monkeypatch.setattr(module, "search_all", lambda *args, **more: pytest.fail("a global search"))
    monkeypatch.setattr(assignment, "search_near", lambda *args, **more: pytest.fail("a global search"))
    search, searched = second_search.search_near, []

    def noted(images, model, placed, *args, **more):
        if images.images is data.images:  # and not those of noise that tell what an empty image gains
            searched.extend(placed.rows)
        return search(images, model, placed, *args, **more)

    monkeypatch.setattr(second_search, "search_near", noted)
    _, found, evidence = rounds.find_states(problem, start, recorder_of(tmp_path))
    assert evidence.structured and found.n_states == 2
    agreement = (found.state_of == label).mean()
    assert max(agreement, 1 - agreement) > 0.85
    assert len(searched) < 0.05 * len(rotations)  # images that no state explains
    own, _ = found.poses(np.arange(len(rotations)))
    before, after = (rotation_distance_deg(one, rotations).median() for one in (poses.rotations, own))
    assert before > 4.5 and after < 0.6 * before, (before, after)


def test_poses_of_no_worth_are_told(two_states, capsys):
    """A map at random poses is a blob, and explains images it was made without as well as any other blob."""
    data, _, rotations, poses = two_states
    rng = torch.Generator().manual_seed(1)
    problem = problem_of(data, tuning=FEW_ROTATIONS, poses=poses)
    good = known_start(problem)
    assert good.unseen > 2 * max(good.starts[0].coarse_log_evidence)
    assert "warning" not in capsys.readouterr().out
    known_start(replace(problem, poses=replace(poses, rotations=random_rotations(len(rotations), rng))))
    assert "warning: the given angles are no better than angles dealt out at random" in capsys.readouterr().out


def test_an_image_of_no_state_keeps_its_given_pose(two_states):
    data, _, _, poses = two_states
    problem = problem_of(data, tuning=FEW_ROTATIONS, poses=poses)
    state = rounds.first_states(problem, None, True, None)[0]
    moved = replace(state.part(np.arange(len(data)) > 0), rotations=state.rotations[1:].flip(2))
    found = at_own_poses(problem, [moved, moved])
    assert torch.equal(found.rotations[0, 0], poses.rotations[0])
    assert torch.equal(found.rotations[1:, 1], moved.rotations)
    assert found.log_posterior.shape == (len(data), 2)
    part = problem.part(np.array([3, 5])).poses
    assert part is not None and torch.equal(part.rotations, poses.rotations[[3, 5]])


def test_every_particle_needs_a_pose():
    table = PoseTable(np.array([1, 2]), np.zeros((2, 3)), np.array([[4.0, -2.0], [0.0, 0.0]]), np.ones(2),
                      np.array([0, UNASSIGNED]))
    found = given_poses(table, np.array([1]), 2.0, torch.device("cpu"))
    assert torch.equal(found.rotations[0], torch.eye(3)) and found.shifts_px.tolist() == [[2.0, -1.0]]
    with pytest.raises(DataError, match="1 of 2 particles have no pose, the first is particle 2"):
        given_poses(table, np.array([1, 2]), 2.0, torch.device("cpu"))
