"""Whether particles lie further off centre than they were looked for."""
from __future__ import annotations

import numpy as np

from ...contract.records import ShiftLimit
from ..problem import Problem
from ..start.centring import MOST_AT_LIMIT, share_at_limit
from ..states import Assignment


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
    frac = share_at_limit(shifts_px, problem.max_shift_px) if len(rows) and problem.poses is None else 0.0
    return ShiftLimit(problem.max_shift_px * problem.images.pixel_size_ang, frac)
