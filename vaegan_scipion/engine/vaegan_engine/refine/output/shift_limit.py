"""Whether particles lie further off centre than they were looked for."""
from __future__ import annotations

import numpy as np

from ...contract.records import ShiftLimit
from ..problem import Problem
from ..states import Assignment

NEAR_FRAC = 0.95  # of the largest shift: at the limit; of shifts that are even within it, 10 % are
MOST_AT_LIMIT = 0.15  # of the particles: beyond it there is a warning


def shift_warning(shifts: ShiftLimit) -> str:
    """What to do where too many particles lie at the largest shift, or nothing."""
    if shifts.at_limit_frac <= MOST_AT_LIMIT:
        return ""
    return (f"warning: {100 * shifts.at_limit_frac:.0f} % of the particles lie at the largest shift, "
            f"{shifts.largest_ang:.0f} A; give a larger max_shift_frac, or centre the particles")


def shift_limit(problem: Problem, assignment: Assignment) -> ShiftLimit:
    """The share of the particles in states whose shift reaches the largest one that was searched; 0 where none was."""
    rows = np.flatnonzero(~assignment.aside)
    _, shifts_px = assignment.poses(rows)
    near = shifts_px.abs().amax(1) >= NEAR_FRAC * problem.max_shift_px
    frac = float(near.float().mean()) if len(rows) and problem.max_shift_px and problem.poses is None else 0.0
    return ShiftLimit(problem.max_shift_px * problem.images.pixel_size_ang, frac)
