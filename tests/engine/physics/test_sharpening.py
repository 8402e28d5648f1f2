"""B-factors that were put in come out; weights are those of the formula."""
import numpy as np
import pytest
from vaegan_engine.physics.fsc import shells_of
from vaegan_engine.physics.sharpening import filtered, guinier_fit, reference_weight, sharpened

VOXEL_ANG = 1.5


def falling(box_px, b_factor_ang2):
    """White noise whose amplitudes fall as exp(B g^2 / 4)."""
    g = np.arange(box_px) / (box_px * VOXEL_ANG)
    white = np.random.default_rng(0).standard_normal((box_px,) * 3)
    return filtered(white, np.exp(b_factor_ang2 * g ** 2 / 4))


@pytest.mark.parametrize("box_px", [47, 48])
def test_the_b_factor_of_a_map_is_found_and_undone(box_px):
    map_, sure = falling(box_px, -120.0), np.ones(box_px // 2 + 1)
    fit = guinier_fit(map_, sure, VOXEL_ANG, 3.2)
    assert fit.b_factor_ang2 == pytest.approx(-120, abs=4)
    assert fit.from_ang <= 10 and fit.to_ang >= 3.2
    sharp = sharpened(map_, fit.b_factor_ang2, sure, VOXEL_ANG, 3.2)
    again = guinier_fit(sharp, sure, VOXEL_ANG, 3.4)
    assert abs(again.b_factor_ang2) < 5


def test_noise_in_the_amplitudes_is_taken_off_by_the_weight():
    """Half of the power is noise where F = 1/3 of the halves: C_ref^2 = 2 F / (1 + F) = 1/2."""
    np.testing.assert_allclose(reference_weight(np.array([1.0, 1 / 3, 0.0, 0.5])) ** 2, [1, 0.5, 0, 0])
    box_px, g = 48, np.arange(25) / (48 * VOXEL_ANG)
    signal = np.exp(-100 * g ** 2 / 2)  # power of a map of B = -100
    noise = 0.02
    map_ = falling(box_px, -100.0) + np.sqrt(noise) * np.random.default_rng(1).standard_normal((box_px,) * 3)
    fsc = signal / (signal + 2 * noise)  # of two halves, each with twice the noise of their mean
    plain = guinier_fit(map_, np.ones(25), VOXEL_ANG, 3.2).b_factor_ang2
    weighted = guinier_fit(map_, fsc, VOXEL_ANG, 3.2).b_factor_ang2
    assert plain > -85 and weighted == pytest.approx(-100, abs=6)


def test_maps_that_do_not_reach_10_ang_have_no_guinier_plot():
    assert guinier_fit(falling(48, -100.0), np.ones(25), VOXEL_ANG, 9.5) is None


def test_shells_are_multiplied_by_their_gain_and_nothing_is_left_beyond():
    map_ = np.random.default_rng(2).standard_normal((12, 12, 12)).astype(np.float32)
    gain = np.linspace(1, 0.4, 7)
    shell, _ = shells_of(12, 3)
    before, after = np.fft.rfftn(map_).ravel(), np.fft.rfftn(filtered(map_, gain)).ravel()
    expected = np.where(shell <= 6, gain[np.minimum(shell, 6)], 0) * before
    np.testing.assert_allclose(after, expected, atol=1e-4)
