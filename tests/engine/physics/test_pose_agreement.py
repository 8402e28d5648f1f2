"""Poses that are one but for frame and hand, and poses that are not."""
from __future__ import annotations

import pytest
import torch
from vaegan_engine.physics.pose_agreement import share_in_one_frame
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg

RNG = torch.Generator().manual_seed(4)
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0]))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_another_frame_and_hand_are_the_same_poses(mirrored, share):
    first = random_rotations(400, RNG)
    second = (MIRROR @ first @ MIRROR if mirrored else first) @ random_rotations(1, RNG)
    wrong = int((1 - share) * 400)
    second[:wrong] = random_rotations(wrong, RNG) if wrong else second[:0]
    assert share_in_one_frame(first, second, 5.0, torch.eye(3)[None]) == pytest.approx(share, abs=0.02)


def test_random_poses_agree_by_chance_alone():
    first, second = random_rotations(400, RNG), random_rotations(400, RNG)
    by_chance = float((rotation_distance_deg(random_rotations(20000, RNG), torch.eye(3)) < 25).float().mean())
    assert by_chance < 0.02 and share_in_one_frame(first, second, 25.0, torch.eye(3)[None]) < 0.08
