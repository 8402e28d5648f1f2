"""Images at known poses in known states, as an assignment."""
from __future__ import annotations

import numpy as np
import torch
from refine_particles import problem_of
from vaegan_engine.refine.assignment import reassign
from vaegan_engine.refine.states import Assignment

BOX_PX, RADIUS = 24, 7.0


def assignment(data, label, rotations, shifts, n_states):
    """All images at their poses in every state."""
    n = len(label)
    start = Assignment(label, np.eye(n_states, dtype=np.float32)[label] - 1,
                       rotations[:, None].repeat(1, n_states, 1, 1), shifts[:, None].repeat(1, n_states, 1),
                       torch.zeros(n_states, BOX_PX, BOX_PX, BOX_PX), torch.ones(BOX_PX // 2 + 1), np.zeros(n, bool))
    return reassign(problem_of(data), start, RADIUS)
