"""Claimed against deserved FSC: halves of a known ratio of signal to noise, halves with noise in common, pure noise."""
from __future__ import annotations

import numpy as np
import pytest
from vaegan_engine.evaluation.claimed_fsc import ClaimedFsc, deserved_fsc
from vaegan_engine.physics.fsc import fourier_shell_correlation


def white(rng: np.random.Generator, box_px: int) -> np.ndarray:
    return rng.standard_normal((box_px,) * 3)


@pytest.mark.parametrize("box_px", [31, 32])
def test_halves_of_independent_noise_claim_what_they_deserve(box_px):
    """FSC = r / (1 + r) and the squared FSC with the truth are the same number: 0.8 at r = 4."""
    rng = np.random.default_rng(0)
    truth, whole = white(rng, box_px), np.ones((box_px,) * 3)
    halves = truth + 0.5 * white(rng, box_px), truth + 0.5 * white(rng, box_px)
    deserved = deserved_fsc(halves, truth, whole)
    np.testing.assert_allclose(deserved[4:], 0.8, atol=0.06)
    assert ClaimedFsc(fourier_shell_correlation(*halves)[4:], deserved[4:]).excess < 0.05


def test_noise_in_common_is_an_excess_and_what_is_not_claimed_is_none():
    rng = np.random.default_rng(1)
    box_px = 32
    truth, common, whole = white(rng, box_px), 2 * white(rng, box_px), np.ones((box_px,) * 3)
    halves = truth + common, truth + common
    found = ClaimedFsc(fourier_shell_correlation(*halves)[4:], deserved_fsc(halves, truth, whole)[4:])
    assert found.excess == pytest.approx(0.8, abs=0.1)  # 1 is claimed, 1 / (1 + 4) deserved
    assert found.excess_all_shells == found.excess
    nothing = ClaimedFsc(found.claimed, found.deserved, box_px // 2)
    assert nothing.excess == 0.0 and nothing.excess_all_shells == found.excess_all_shells


def test_pure_noise_deserves_nothing_and_anti_correlation_neither():
    rng = np.random.default_rng(2)
    half, whole = white(rng, 16), np.ones((16,) * 3)
    assert deserved_fsc((half, half), None, whole).tolist() == [0.0] * 9
    np.testing.assert_array_equal(deserved_fsc((half, half), -half, whole), 0.0)
