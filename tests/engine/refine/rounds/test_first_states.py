"""What the rounds begin with: copies of one map are one state in its frame, other maps a state each."""
from __future__ import annotations

import numpy as np
import torch
from refine_particles import FEW_ROTATIONS, blobs, problem_of, recorder_of, simulated
from vaegan_engine.physics.rotations import rotation_distance_deg
from vaegan_engine.reconstruction.images import image_power, low_passed
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.refine.rounds.rounds import first_states


def test_copies_of_one_map_are_one_state_at_each_images_best_pose(tmp_path):
    """Two states of 60 images in one frame: all images in one state, their poses near the truth, its map the mean."""
    common, extra = blobs(7), blobs(8, n=8).roll(6, 2)
    data, _, rotations, _ = simulated([common, common + 1.5 * extra], 60, noise=0.3)
    problem = problem_of(data, tuning=FEW_ROTATIONS)
    scale = 1 / simulated([common, common + 1.5 * extra], 60, noise=0.0)[0].images.std()
    maps = low_passed(torch.stack([common, common + 1.5 * extra]), 6.0) * float(scale)
    model = MapMixture(maps, 0.1 * image_power(data), problem.constraint)
    apart = first_states(problem, model, False, recorder_of(tmp_path / "apart"))
    (one,) = first_states(problem, model, True, recorder_of(tmp_path / "one"))
    assert len(apart) == 2 and np.array_equal(one.rows, np.arange(120))
    for state in apart:  # the same poses, put together
        assert torch.equal(one.rotations[torch.from_numpy(state.rows)], state.rotations)
        assert torch.equal(one.shifts_px[torch.from_numpy(state.rows)], state.shifts_px)
    share = torch.tensor([len(state.rows) / 120 for state in apart])
    assert torch.allclose(one.map, (share[:, None, None, None] * model.maps).sum(0), atol=1e-6)
    assert float(rotation_distance_deg(one.rotations, rotations).median()) < 20  # the grid is 28 degrees wide
