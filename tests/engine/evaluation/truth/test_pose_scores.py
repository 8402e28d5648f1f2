"""Pose errors: zero for the same poses in another frame or hand, the right size for a known disturbance."""
import pytest
import torch
from vaegan_engine.evaluation.truth.pose_scores import median_pose_error_deg
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.reconstruction.pose_refinement import small_rotations


@pytest.mark.parametrize("mirrored", [False, True])
def test_frame_and_hand_are_free(mirrored):
    rng = torch.Generator().manual_seed(0)
    true, frame = random_rotations(300, rng), random_rotations(1, rng)[0]
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    found = true @ frame
    assert median_pose_error_deg(mirror @ found @ mirror if mirrored else found, true) < 0.2


def test_error_has_the_size_of_the_disturbance():
    rng = torch.Generator().manual_seed(1)
    true = random_rotations(400, rng)
    axis = torch.nn.functional.normalize(torch.randn(400, 3, generator=rng), dim=1)
    found = small_rotations(axis * torch.deg2rad(torch.tensor(10.0))) @ true
    assert 7.0 < median_pose_error_deg(found, true) < 11.0


def test_random_poses_are_far_off():
    rng = torch.Generator().manual_seed(2)
    assert median_pose_error_deg(random_rotations(400, rng), random_rotations(400, rng)) > 60
