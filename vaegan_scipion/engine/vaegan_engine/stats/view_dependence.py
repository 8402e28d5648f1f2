"""What the viewing direction explains of a number per image: a quadratic function of it, by least squares.

A rigid map that is a little worse along some directions, or that its mask or its box cuts, orders and divides its
images by their view, and two halves of the images agree on that. Of states and motions the view knows nothing.
"""
from __future__ import annotations

import numpy as np
from torch import Tensor


def apart_from_view(t: Tensor, rotations: Tensor) -> np.ndarray:
    """What a least-squares fit by a quadratic function of the view ``A[:, 2]`` leaves of values ``(n,)``; float64.

    NumPy's solver may lack a rank, and gives the same bits wherever the arrays lie, which torch's does not.
    """
    v, values = rotations[:, 2].double().cpu().numpy(), t.double().cpu().numpy()
    i, j = np.triu_indices(3)
    terms = np.concatenate((v, v[:, i] * v[:, j]), 1)  # a constant is among them: the squares sum to 1
    left: np.ndarray = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return left


def explained_by_view(t: Tensor, rotations: Tensor) -> float:
    """Part of the variance of values ``(n,)`` that views at ``rotations`` explain, 0 where all are the same."""
    variance = float(t.double().cpu().numpy().var())
    return max(0.0, 1 - float(np.mean(apart_from_view(t, rotations) ** 2)) / variance) if variance > 0 else 0.0
