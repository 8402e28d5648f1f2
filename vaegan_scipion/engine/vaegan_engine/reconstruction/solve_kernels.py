"""Maps from their sums on a CPU, compiled; ``least_squares.solved`` holds the equation. All arrays are flat."""
from __future__ import annotations

import numpy as np

from ..physics.compiled import compiled


@compiled
def add_by_shell(values: np.ndarray, shell: np.ndarray, total: np.ndarray) -> None:
    """Adds ``values`` (v,) to the ``total`` (n,) of their shells, in double precision."""
    for i in range(len(values)):
        total[shell[i]] += values[i]


@compiled
def divide(numerator: np.ndarray, denominator: np.ndarray, edge: np.ndarray, shell: np.ndarray, added: np.ndarray,
           filled: np.ndarray) -> None:
    """``edge n / (d + added)`` into ``filled`` (2 v,), 0 where d is; ``numerator`` (2 v,), ``added`` (n,) by shell."""
    for i in range(len(denominator)):
        factor = np.float32(0.0)
        if denominator[i] > 0:
            factor = edge[i] / (denominator[i] + added[shell[i]])
        filled[2 * i] = numerator[2 * i] * factor
        filled[2 * i + 1] = numerator[2 * i + 1] * factor
