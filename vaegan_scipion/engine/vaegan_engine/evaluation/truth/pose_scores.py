"""Poses against the truth. The frame and the hand of a map made without a reference are free, so both are fitted."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...physics.rotations import rotation_distance_deg

_CANDIDATES = 200  # images whose own difference is tried as the frame


def median_pose_error_deg(rotations: Tensor, true: Tensor) -> float:
    """Median angle in degrees between rotations ``(n, 3, 3)`` after the best global rotation, of either hand.

    Map frames differ by one rotation G, ``true_i = found_i G``; G is the best of ``found_i^T true_i`` over some
    images i, or the mean of those that agree with it. The other hand sees the same image along ``Z A Z`` with
    ``Z = diag(1, 1, -1)``.
    """
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=rotations.dtype, device=rotations.device))
    n = len(rotations)
    picked = torch.from_numpy(np.unique(np.linspace(0, n - 1, min(n, _CANDIDATES)).astype(int)))
    errors = []
    for hand in (rotations, mirror @ rotations @ mirror):
        own = hand.transpose(1, 2) @ true
        tried = [rotation_distance_deg(hand @ own[i], true) for i in picked]
        near = min(tried, key=lambda error: float(error.median()))
        u, _, v = torch.linalg.svd(own[near <= near.median()].mean(0))  # chordal mean of the frames that agree
        errors += [float(near.median()), float(rotation_distance_deg(hand @ (u @ v), true).median())]
    return min(errors)
