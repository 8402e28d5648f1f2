"""Poses carried from the frame of one map to that of another, and to the other hand."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import blobs
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_alignment import AlignedMap, carried, move_map
from vaegan_engine.physics.projection import extract_slices, map_to_fourier, shift_slices
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg


@pytest.mark.parametrize("mirrored", [False, True])
def test_poses_are_carried_between_frames_and_hands(mirrored):
    d, rng = 24, torch.Generator().manual_seed(9)
    b = blobs(10)
    R, t = random_rotations(1, rng)[0].numpy(), np.array([1.5, -0.7, 0.4], np.float32)
    a = torch.from_numpy(move_map(b.numpy(), R, t, mirrored))
    found = AlignedMap(a.numpy(), R, t, t, mirrored, 1.0)
    rotations, shifts = random_rotations(6, rng), torch.randn(6, 2, generator=rng)
    zero = torch.zeros(6, dtype=torch.long)

    def made(map_, rotations, moves):
        return shift_slices(extract_slices(map_to_fourier(map_[None]), zero, rotations, d), moves)

    A_b, shifts_b = carried(rotations, shifts, found, forward=True)
    seen_a, seen_b = made(a, rotations, shifts), made(b, A_b, shifts_b)
    band = make_band(d, 6.0)
    x, y = (plane.flatten(1)[:, band.index] for plane in (seen_a, seen_b))
    correlation = (x.conj() * y).real.sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    assert float(correlation.min()) > 0.98
    back_rotations, back_shifts = carried(A_b, shifts_b, found, forward=False)
    assert float(rotation_distance_deg(back_rotations, rotations).max()) < 0.1
    torch.testing.assert_close(back_shifts, shifts, atol=1e-3, rtol=1e-3)
