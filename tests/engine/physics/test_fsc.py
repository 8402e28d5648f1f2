"""FSC in closed form and against a direct sum over the full transform."""
import numpy as np
import pytest
from vaegan_engine.physics import fsc

BOXES = [16, 17]


def noise(d, seed):
    return np.random.default_rng(seed).normal(size=(d, d, d))


@pytest.mark.parametrize("d", BOXES)
def test_of_itself_and_its_negative(d):
    curve = fsc.fourier_shell_correlation(noise(d, 0), noise(d, 0))
    assert curve.shape == (d // 2 + 1,)
    np.testing.assert_allclose(curve, 1, atol=1e-12)
    np.testing.assert_allclose(fsc.fourier_shell_correlation(noise(d, 0), -3 * noise(d, 0)), -1, atol=1e-12)


@pytest.mark.parametrize("d", BOXES)
def test_equals_the_sum_over_the_full_transform(d):
    a, b = noise(d, 0) + 2 * noise(d, 9), noise(d, 1) + 2 * noise(d, 9)
    fa, fb = np.fft.fftn(a), np.fft.fftn(b)
    k = np.fft.fftfreq(d, 1 / d)
    radius = np.sqrt((np.stack(np.meshgrid(k, k, k)) ** 2).sum(0))
    expected = [(fa * fb.conj())[shell].real.sum() / np.sqrt(
        (np.abs(fa[shell]) ** 2).sum() * (np.abs(fb[shell]) ** 2).sum())
        for shell in (np.rint(radius) == s for s in range(d // 2 + 1))]
    np.testing.assert_allclose(fsc.fourier_shell_correlation(a, b), expected, atol=1e-12)


def test_of_noise_is_about_zero():
    d = 32
    curve = fsc.fourier_shell_correlation(noise(d, 0), noise(d, 1))
    shells = np.arange(4, d // 2)
    assert np.abs(curve[4:d // 2] * np.sqrt(2 * np.pi * shells**2)).max() < 4  # standard errors


def test_follows_the_signal_to_noise_ratio():
    """Two halves with noise of the signal's own power: FSC = 1/2."""
    d = 32
    signal = noise(d, 2)
    curve = fsc.fourier_shell_correlation(signal + noise(d, 0), signal + noise(d, 1))
    assert curve[8:16].mean() == pytest.approx(0.5, abs=0.03)


def test_empty_shell_is_zero():
    np.testing.assert_array_equal(fsc.fourier_shell_correlation(np.zeros((8,) * 3), noise(8, 0)), 0)
    with pytest.raises(ValueError, match="cannot be compared"):
        fsc.fourier_shell_correlation(noise(8, 0), noise(9, 0))


def test_resolution_between_shells():
    """A straight line 1 - s/16 falls to 0.5 at shell 8 and to 0.143 at shell 13.712."""
    d, voxel = 32, 2.5
    curve = 1 - np.arange(d // 2 + 1) / 16
    for threshold in (0.5, 0.143):
        found = fsc.resolution_at(curve, threshold, d, voxel)
        assert found.ang == pytest.approx(d * voxel / (16 * (1 - threshold)))
        assert found.crossed


def test_resolution_without_a_crossing():
    assert fsc.resolution_at(np.ones(17), 0.143, 32, 2.5) == (5.0, False)
    # the first crossing counts, whatever follows
    curve = np.array([1, 1, 0.4, 1, 1.0])
    assert fsc.resolution_at(curve, 0.5, 8, 1.0).ang == pytest.approx(8 / (1 + 0.5 / 0.6))
    assert fsc.resolution_at(np.array([1, 0.1, 0.9, 0.9, 0.9]), 0.5, 8, 1.0) == (8.0, True)


@pytest.mark.parametrize("d", BOXES)
def test_mask(d):
    mask = fsc.soft_sphere_mask(d, 4, 3)
    center = d // 2
    assert mask[center, center, center] == 1
    assert mask[center, center, center + 4] == 1
    assert mask[center, center - 7, center] == 0
    assert 0 < mask[center + 5, center, center] < 1
    np.testing.assert_array_equal(np.unique(fsc.soft_sphere_mask(d, 4, 0)), [0, 1])
