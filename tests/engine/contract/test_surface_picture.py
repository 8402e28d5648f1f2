"""Surfaces of maps: a ball against Lambert's law, no mirror images, finer grids through the same values."""
import numpy as np
import pytest
from vaegan_engine.contract.surface_picture import (
    AMBIENT,
    LIGHT,
    coloured,
    finer,
    surface_level,
    surface_picture,
)


def ball(side, radius):
    z, y, x = np.indices((side,) * 3) - side // 2
    return 1 / (1 + np.exp(np.sqrt(x**2 + y**2 + z**2) - radius))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [48, 49])
def test_a_ball_is_lit_by_lambert(side, axis):
    radius, centre = 15.0, side // 2
    picture = surface_picture(ball(side, radius), axis, 0.5)
    v, u = np.indices(picture.shape) - centre
    distance = np.hypot(u, v)
    assert np.isfinite(picture[distance < radius - 1]).all() and np.isnan(picture[distance > radius + 1]).all()
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    depth = np.sqrt(np.maximum(radius**2 - distance**2, 0))
    facing = np.clip((u * light[0] + v * light[1] + depth * light[2]) / radius, 0, 1)
    plane = centre - depth if axis == 1 else (side - 1 - centre) - depth
    expected = (AMBIENT + (1 - AMBIENT) * facing) * (1 - 0.25 * plane / (side - 1))
    inner = distance < 0.8 * radius
    assert np.abs(picture - expected)[inner].max() < 0.08  # a voxel of depth, on a voxel grid
    assert np.abs(picture - expected)[inner].mean() < 0.025


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_picture_is_what_the_eye_sees_and_no_mirror_image(axis):
    """The axes of the picture and the way to the viewer are right-handed, and what is nearer is brighter."""
    x, y, z = np.eye(3)
    right, up, toward = {0: (x, y, z), 1: (x, z, -y), 2: (y, z, x)}[axis]
    assert np.allclose(np.cross(right, up), toward)  # the picture's axes and the viewer are right-handed
    array = np.zeros((17, 17, 17))
    near, far = 8 + 5 * toward, 8 - 5 * toward + 3 * right
    for place in (near, far):
        array[tuple(int(k) for k in place[::-1])] = 1.0
    picture = surface_picture(array, axis, 0.5)
    assert picture[8, 8] > picture[8, 11] and np.isfinite(picture).sum() == 2  # the nearer one is the brighter


@pytest.mark.parametrize("side", [16, 15])
def test_finer_grids_pass_through_the_same_values(side):
    array = np.random.default_rng(0).standard_normal((side,) * 3)
    made = finer(array, 3 * side)
    assert made.shape == (3 * side,) * 3
    assert np.allclose(made[::3, ::3, ::3], array, atol=1e-4)
    assert finer(array, side + 1).shape == array.shape


def test_level_and_colours():
    array = ball(24, 8.0)
    assert 0.3 < surface_level(array) < 0.36
    picture = coloured(surface_picture(array, 0, 0.5), (0.2, 0.4, 0.8))
    assert picture.shape == (24, 24, 4) and picture[0, 0, 3] == 0 and picture[12, 12, 3] == 1
    assert picture[12, 12, 2] > picture[12, 12, 0] and 0 <= picture.min() and picture.max() <= 1
