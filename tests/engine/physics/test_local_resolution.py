"""Two sides of a map that are known to different resolutions are told apart."""
import numpy as np
import pytest
from vaegan_engine.physics.local_resolution import local_resolution, window_px
from vaegan_engine.physics.sharpening import filtered

VOXEL_ANG = 2.0


@pytest.mark.parametrize("box_px", [35, 36])
def test_each_side_has_its_own_resolution(box_px):
    """The same signal in both half maps, noise beyond 8 A on the left (low x) and beyond 16 A on the right."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((box_px,) * 3)
    shells = np.arange(box_px // 2 + 1)

    def below(map_, resolution_ang):
        return filtered(map_, (shells <= box_px * VOXEL_ANG / resolution_ang).astype(float))

    left = np.arange(box_px) < box_px // 2
    halves = []
    for _ in range(2):
        noise = rng.standard_normal((box_px,) * 3)
        sides = [below(signal, cut) + noise - below(noise, cut) for cut in (8.0, 16.0)]
        halves.append(np.where(left, *sides))
    found = local_resolution(np.stack(halves), np.ones((box_px,) * 3), VOXEL_ANG, 6.0)
    middle = slice(box_px // 4, -box_px // 4)
    fine, coarse = (float(np.median(found.map[middle, middle, part])) for part in (slice(3, 9), slice(-9, -3)))
    assert coarse > 1.5 * fine
    for value, true in ((fine, 8.0), (coarse, 16.0)):  # good to one shell of the window
        assert abs(1 / value - 1 / true) < 1 / (found.window_px * VOXEL_ANG), (fine, coarse)
    assert found.map.shape == (box_px,) * 3 and np.isfinite(found.map).all()


def test_only_points_inside_the_mask_are_looked_at_and_the_nearest_stands_outside():
    halves = np.random.default_rng(1).standard_normal((2, 32, 32, 32))
    mask = np.zeros((32, 32, 32))
    mask[10:22, 10:22, 10:22] = 1
    done = []
    found = local_resolution(halves, mask, VOXEL_ANG, 6.0, progress=done.append)
    assert sum(done) == len(found.at_points_ang) < 7 ** 3
    assert found.map[0, 0, 0] == pytest.approx(found.map[9, 9, 9], rel=0.5)
    empty = local_resolution(halves, np.zeros((32, 32, 32)), VOXEL_ANG, 6.0)
    assert len(empty.at_points_ang) == 1


@pytest.mark.parametrize(("resolution_ang", "side"), [(4.0, 16), (6.0, 20), (100.0, 64)])
def test_the_window_goes_with_the_resolution(resolution_ang, side):
    assert window_px(resolution_ang, VOXEL_ANG, 64) == side
