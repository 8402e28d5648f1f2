"""Masks that a user gives: read in another box, refused by name and limit where they are none or do not fit."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data.given_mask import MaskBox, check_symmetry, reach_px, read_mask
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.symmetry import group_of

BOX_ANG = 192.0


def ball(box_px: int, at_ang: tuple[float, float, float] = (0.0, 0.0, 0.0), radius_ang: float = 40.0,
         edge_ang: float = 24.0) -> np.ndarray:
    """A soft ball about a point (z, y, x) from voxel d // 2, in a box of ``BOX_ANG``: by its formula."""
    x = (np.arange(box_px) - box_px // 2) * BOX_ANG / box_px
    axes = np.meshgrid(x, x, x, indexing="ij")
    radius = np.sqrt(sum((axis - centre) ** 2 for axis, centre in zip(axes, at_ang, strict=True)))
    return (0.5 * (1 + np.cos(np.pi * np.clip((radius - radius_ang) / edge_ang, 0, 1)))).astype(np.float32)


def written(folder, array: np.ndarray, voxel_ang: float):
    """The path of a mask."""
    path = folder / "mask.mrc"
    write_map(path, array, voxel_ang)
    return path


@pytest.mark.parametrize("from_px", [32, 33, 64])
@pytest.mark.parametrize("to_px", [24, 25, 48])
def test_a_mask_is_read_at_the_voxels_of_another_box(tmp_path, from_px, to_px):
    """Trilinearly, so to the curvature of its edge: ``h^2 / 8 * (pi / edge)^2 / 2`` along each of three axes."""
    at_ang = (10.0, -15.0, 5.0)
    path = written(tmp_path, ball(from_px, at_ang), BOX_ANG / from_px)
    found = read_mask(path, MaskBox(to_px, BOX_ANG / to_px, (BOX_ANG,)))
    assert found.shape == (to_px,) * 3 and found.dtype == torch.float32
    error = 3 * (BOX_ANG / from_px) ** 2 / 8 * (np.pi / 24.0) ** 2 / 2
    np.testing.assert_allclose(found, ball(to_px, at_ang), atol=error)
    if from_px == to_px:
        np.testing.assert_array_equal(found, ball(to_px, at_ang))


def test_of_a_cropped_box_the_middle_is_read(tmp_path):
    """Kept: 144 of 192 A, in 36 px of 4 A."""
    path = written(tmp_path, ball(48), 4.0)
    found = read_mask(path, MaskBox(36, 4.0, (144.0, BOX_ANG)))
    np.testing.assert_array_equal(found, ball(48)[6:42, 6:42, 6:42])


@pytest.mark.parametrize(("array", "voxel_ang", "message"), [
    (3 * ball(32), 6.0, r"values from 0 to 3; a mask has values from 0 to 1\. Make a mask"),
    (ball(32) - 0.2, 6.0, r"values from -0\.2 to 0\.8"),
    (0.3 * ball(32), 6.0, r"no value is above 0\.3"),
    (ball(32), 1.0, r"the mask has 32 voxels of 1\.000 A, 32\.0 A in all; the box of the particles is 192\.0 A wide\."),
    (ball(32, (0.0, 0.0, 70.0), 30.0, 10.0), 6.0, None)])
def test_what_is_no_mask_is_refused(tmp_path, array, voxel_ang, message):
    path, box = written(tmp_path, array, voxel_ang), MaskBox(24, 8.0, (BOX_ANG,))
    if message is None:  # at the rim: it is whole in this box, and cut by a smaller one
        read_mask(path, box)
        box, message = MaskBox(18, 8.0, (144.0, BOX_ANG)), r"\d+ % of the mask lies outside of the part of the box"
    with pytest.raises(DataError, match=message):
        read_mask(path, box)


def test_a_hard_edge_is_warned_of(tmp_path, capsys):
    box = MaskBox(32, 6.0, (BOX_ANG,))
    read_mask(written(tmp_path, ball(32), 6.0), box)
    assert capsys.readouterr().out == ""
    read_mask(written(tmp_path, (ball(32) > 0.5).astype(np.float32), 6.0), box)
    assert "has no soft edge" in capsys.readouterr().out


@pytest.mark.parametrize("box_px", [24, 25, 96])
def test_a_mask_has_the_symmetry_of_the_maps(box_px):
    group, aside = group_of("C2"), torch.from_numpy(ball(box_px, (0.0, 30.0, 20.0)))
    with pytest.raises(DataError, match=r"m\.mrc: \d+ % of the mask does not have the symmetry"):
        check_symmetry("m.mrc", aside, group)
    both = torch.maximum(aside, torch.from_numpy(ball(box_px, (0.0, -30.0, -20.0))))
    check_symmetry("m.mrc", both, group)
    check_symmetry("m.mrc", torch.from_numpy(ball(box_px)), group_of("O"))


def test_reach_is_to_the_farthest_voxel():
    mask = torch.zeros(16, 16, 16)
    mask[8, 8, 8], mask[8 + 3, 8 - 4, 8] = 1.0, 0.9
    assert reach_px(mask) == 5.0
    assert reach_px(torch.zeros(4, 4, 4)) == 0.0
    assert reach_px(torch.from_numpy(soft_sphere_mask(32, 10.0, 2.0))) == pytest.approx(11.0, abs=0.5)
