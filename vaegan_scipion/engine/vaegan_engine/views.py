"""What the viewing direction explains of a number per image: a quadratic function of it, by least squares.

A rigid map that is a little worse along some directions, or that its mask or its box cuts, orders and divides its
images by their view, and two halves of the images agree on that. Of states and motions the view knows nothing.
"""
from __future__ import annotations

import torch
from torch import Tensor


def apart_from_view(t: Tensor, A: Tensor) -> Tensor:
    """What a least-squares fit by a quadratic function of the view ``A[:, 2]`` leaves of values ``(n,)``."""
    v = A[:, 2].double()
    i, j = torch.triu_indices(3, 3)
    terms = torch.cat((v, v[:, i] * v[:, j]), 1)  # a constant is among them: the squares sum to 1
    return t.double() - terms @ torch.linalg.lstsq(terms, t.double()[:, None]).solution[:, 0]


def explained_by_view(t: Tensor, A: Tensor) -> float:
    """Part of the variance of values ``(n,)`` that views at rotations ``A`` explain, 0 where all are the same."""
    t, A = t.double().cpu(), A.cpu()  # where least squares may lack a rank
    variance = float(t.var(correction=0))
    return max(0.0, 1 - float(apart_from_view(t, A).square().mean()) / variance) if variance > 0 else 0.0
