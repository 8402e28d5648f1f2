"""How far two sets of poses of the same images are one, their maps' frames and hands being free."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .symmetry import distance_deg

_CANDIDATES = 100  # images whose own difference is tried as the frame


def share_in_one_frame(first: Tensor, second: Tensor, within_deg: float, group: Tensor) -> float:
    """Share of rotations ``(n, 3, 3)`` that agree within an angle, in the best frame and hand.

    Frames differ by one rotation G, ``second_i = first_i G``; ``first_i^T second_i`` of some images i are tried. The
    other hand sees the same image along ``Z A Z`` with ``Z = diag(1, 1, -1)``. Poses that show the same by the group
    ``(g, 3, 3)`` of the first map are one. Of random rotations the share is some per cent times g.
    """
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=first.dtype, device=first.device))
    picked = np.unique(np.linspace(0, len(first) - 1, min(len(first), _CANDIDATES)).astype(int))
    best = 0.0
    for side in (torch.eye(3).to(first), mirror):
        hand, alike = side @ first @ side, side @ group @ side
        own = hand.transpose(1, 2) @ second
        for i in picked:
            near = distance_deg(second, hand, alike, own[i]) < within_deg
            best = max(best, float(near.float().mean()))
    return best
