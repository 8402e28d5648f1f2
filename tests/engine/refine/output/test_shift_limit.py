"""Particles at the largest shift that was searched are counted and told of."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import PIXEL_SIZE_ANG, problem_of
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.refine.output.shift_limit import shift_limit, shift_warning
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.states import Assignment


def limit_of(shifts_px: torch.Tensor, aside: np.ndarray, largest_px: float, poses: GivenPoses | None = None):
    n, d = len(shifts_px), 12
    images = Images(np.zeros((n, d, d), np.float32), np.zeros((n, 7), np.float32), PIXEL_SIZE_ANG, torch.device("cpu"))
    assignment = Assignment(np.zeros(n, int), np.zeros((n, 1), np.float32), torch.eye(3).expand(n, 1, 3, 3),
                            shifts_px[:, None], torch.zeros(1, d, d, d), torch.ones(d // 2 + 1), aside)
    return shift_limit(problem_of(images, max_shift_px=largest_px, poses=poses), assignment)


@pytest.mark.parametrize("largest_px", [2.0, 4.8])
def test_even_shifts_are_within_the_limit_and_wider_ones_are_told(largest_px):
    shifts = largest_px * (2 * torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) - 1)
    none = np.zeros(4000, bool)
    even = limit_of(shifts, none, largest_px)
    assert even.at_limit_frac == pytest.approx(1 - 0.95 ** 2, abs=0.02) and not shift_warning(even)
    wider = limit_of((2 * shifts).clamp(-largest_px, largest_px), none, largest_px)  # where a search ends
    assert wider.at_limit_frac == pytest.approx(1 - 0.475 ** 2, abs=0.03)
    assert f"{100 * wider.at_limit_frac:.0f} %" in shift_warning(wider)
    assert f"{largest_px * PIXEL_SIZE_ANG:.0f} A" in shift_warning(wider)


def test_junk_does_not_count():
    shifts = torch.zeros(100, 2)
    shifts[:40, 1] = -3.0
    assert limit_of(shifts, np.arange(100) < 40, 3.0).at_limit_frac == 0.0
    assert limit_of(shifts, np.zeros(100, bool), 3.0).at_limit_frac == pytest.approx(0.4)


def test_shifts_that_were_given_are_no_ones_limit():
    shifts = torch.full((50, 2), 9.0)
    given = GivenPoses(torch.eye(3).expand(50, 3, 3), shifts)
    assert shift_warning(limit_of(shifts, np.zeros(50, bool), 3.0))
    assert not shift_warning(limit_of(shifts, np.zeros(50, bool), 3.0, given))
