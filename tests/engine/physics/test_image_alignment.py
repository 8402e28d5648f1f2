"""Alignment of images: known motions are found; ring correlation against its definition."""
import numpy as np
import pytest
from vaegan_engine.physics import fsc
from vaegan_engine.physics.image_alignment import align_image, correlation, move_image
from vaegan_engine.simulation.phantom import phantom_states


@pytest.fixture(scope="module")
def image():
    return phantom_states(1, 32)[0].sum(0).astype(np.float64)


def test_quarter_turn_shift_and_mirror_are_exact():
    picture = np.zeros((8, 8))
    picture[4, 6] = 1  # x = +2, y = 0
    np.testing.assert_allclose(move_image(picture, 90, (0, 0))[6, 4], 1, atol=1e-9)  # x turns to y
    np.testing.assert_allclose(move_image(picture, 0, (-1, 2))[6, 5], 1, atol=1e-9)
    np.testing.assert_allclose(move_image(picture, 0, (0, 0), mirrored=True)[4, 2], 1, atol=1e-9)


@pytest.mark.parametrize(("angle", "shift", "mirrored"), [(33.3, (1.6, -2.3), False), (251.0, (-3.2, 0.4), True)])
def test_a_known_motion_is_undone(image, angle, shift, mirrored):
    moved = move_image(image, angle, shift, mirrored)
    found = align_image(image, moved)
    assert found.mirrored == mirrored
    assert (found.angle_deg - angle + 180) % 360 - 180 == pytest.approx(0, abs=0.1)
    assert found.shift_px == pytest.approx(shift, abs=0.05)
    assert found.correlation == pytest.approx(correlation(found.image, moved))
    assert found.correlation > 0.9999


def test_hand_is_kept_when_asked(image):
    mirrored = move_image(image, 0, (0, 0), mirrored=True)
    assert align_image(image, mirrored, allow_mirror=False).correlation < 0.99
    assert align_image(image, mirrored).correlation > 0.9999


def test_a_constant_image_correlates_with_nothing(image):
    assert correlation(np.ones_like(image), image) == 0


@pytest.mark.parametrize("d", [16, 17])
def test_ring_correlation_is_its_definition(d):
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(2, d, d))
    found = fsc.fourier_shell_correlation(a, b)
    fa, fb = np.fft.fft2(a), np.fft.fft2(b)
    k = np.fft.fftfreq(d, 1 / d)
    ring = np.rint(np.hypot(k[:, None], k[None])).astype(int)
    for s in range(d // 2 + 1):
        x, y = fa[ring == s], fb[ring == s]
        expected = (x * y.conj()).sum().real / np.sqrt((abs(x) ** 2).sum() * (abs(y) ** 2).sum())
        assert found[s] == pytest.approx(expected, abs=1e-12)
