"""Information on the orientation against closed forms: none from a ball, all of it from an image without noise."""
from __future__ import annotations

import math

import pytest
import torch
from refine_particles import blobs, mask_of, simulated
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.pose_search import PoseGrid
from vaegan_engine.reconstruction.pose_sharpness import open_angle_deg, orientation_gain

N_ROTATIONS = 300


def gain_of(map_: torch.Tensor, noise: float, variance: float) -> torch.Tensor:
    images, _, _, _ = simulated([map_], 20, noise)
    model = MapMixture(map_[None], torch.full((len(map_) // 2 + 1,), variance), within(mask_of(len(map_))))
    return orientation_gain(images, model, torch.arange(20), PoseGrid(6.0, N_ROTATIONS, 1.0))


def test_a_ball_tells_nothing_and_a_sharp_image_all():
    ball = torch.from_numpy(soft_sphere_mask(24, 6.0, 4.0))
    assert float(gain_of(ball, 0.5, 1e3).mean()) == pytest.approx(0, abs=0.05)
    assert float(gain_of(blobs(0), 0.1, 1e-4).mean()) == pytest.approx(math.log(N_ROTATIONS), abs=0.05)
    assert float(gain_of(blobs(0), 0.1, 1e9).max()) == pytest.approx(0, abs=1e-4)  # noise without end


def test_the_open_angle_is_that_of_a_ball_of_rotations():
    """Of random rotations the part within the angle is exp(-gain)."""
    assert open_angle_deg(0.0) == pytest.approx(180, abs=0.01)
    angle_deg = rotation_distance_deg(random_rotations(200_000, torch.Generator().manual_seed(0)), torch.eye(3)[None])
    for gain in (0.5, 1.0, 2.0, 4.0):
        assert float((angle_deg < open_angle_deg(gain)).float().mean()) == pytest.approx(math.exp(-gain), rel=0.04)
