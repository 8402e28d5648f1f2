"""Poses off the grid, and the rotations of their steps."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.projection import map_to_fourier
from vaegan_engine.physics.rotations import rotation_distance_deg
from vaegan_engine.reconstruction.images import image_power
from vaegan_engine.reconstruction.pose_refinement import AtPoses, refine_poses, small_rotations
from vaegan_engine.refine.start.starting_maps import scale_to_images


def test_small_rotation_turns_by_its_length():
    w = torch.tensor([[0.3, -0.2, 0.1]])
    turned = small_rotations(w)
    angle = float(rotation_distance_deg(turned, torch.eye(3)[None]))
    assert angle == pytest.approx(math.degrees(float(w.norm())), rel=1e-4)
    torch.testing.assert_close((turned @ w[..., None])[..., 0], w)


def test_poses_are_refined_off_the_grid():
    truth = blobs(4)
    data, _, rotations, shifts = simulated([truth], 120, 0.5)
    rng = torch.Generator().manual_seed(1)
    start_rotations = small_rotations(0.08 * torch.randn(120, 3, generator=rng)) @ rotations
    start_shifts = shifts + 0.5 * torch.randn(120, 2, generator=rng)
    band = make_band(24, 8.0)
    X, C = data.coefficients(np.arange(120), band)
    maps = scale_to_images(truth[None], data, image_power(data), 6.0)
    found_rotations, found_shifts, cost = refine_poses(
        map_to_fourier(maps)[0], AtPoses(X, C, start_rotations, start_shifts, band), band.weight, 6)
    before, after = (rotation_distance_deg(a, rotations).median() for a in (start_rotations, found_rotations))
    assert float(before) > 5 and float(after) < 1.5
    assert float((found_shifts - shifts).norm(dim=1).median()) < 0.15
    assert torch.isfinite(cost).all()
