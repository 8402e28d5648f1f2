"""Point groups: axes against RELION, one pose of all that show the same, maps that a group leaves as they are."""
from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from refine_particles import blobs
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.symmetry import check_symmetries, family_and_fold, group_name, is_symmetric
from vaegan_engine.physics import map_constraint
from vaegan_engine.physics.map_alignment import AlignedMap, move_map, with_axes
from vaegan_engine.physics.map_constraint import MapConstraint, symmetrised_maps, symmetrised_sums
from vaegan_engine.physics.rotations import (
    euler_to_matrix,
    product_rotations,
    random_rotations,
    rotation_distance_deg,
    super_fibonacci_rotations,
)
from vaegan_engine.physics.symmetry import distance_deg, group_of, in_one_unit, keeping_axes
from vaegan_engine.reconstruction.pose_refinement import small_rotations

ORDERS = {"C1": 1, "C4": 4, "D2": 4, "D3": 6, "T": 12, "O": 24, "I": 60, "I1": 60, "I2": 60}
MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0]))


def is_the_same_set(found: torch.Tensor, expected: torch.Tensor, within: float = 1e-4) -> bool:
    apart = (found[:, None] - expected[None]).abs().amax((2, 3))
    return len(found) == len(expected) and bool((apart.amin(1) < within).all() and (apart.amin(0) < within).all())


@pytest.mark.parametrize("name", ORDERS)
def test_groups_are_groups(name):
    group = group_of(name)
    assert len(group) == ORDERS[name]
    assert torch.equal(group[0], torch.eye(3))
    products = torch.einsum("aij,bjk->abik", group, group).flatten(0, 1)
    assert float((products[:, None] - group[None]).abs().amax((2, 3)).amin(1).max()) < 1e-4
    assert is_the_same_set(group.mT, group)


@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="RELION is not installed")
@pytest.mark.parametrize("name", sorted(set(ORDERS) - {"C1"}))
def test_axes_are_those_of_relion(name):
    text = subprocess.run(["relion_refine", "--sym", name, "--print_symmetry_ops"], capture_output=True, text=True,
                          check=False).stdout
    theirs = [np.array(part.split()[:9], float).reshape(3, 3) for part in re.split(r"R\(\d+\)=", text)[1:]]
    assert is_the_same_set(group_of(name), torch.from_numpy(np.stack(theirs)).float())


@pytest.mark.parametrize("name", ["C0", "C", "D", "X4", "C100", "I3", "", "C4 D2", "1", "C-1", "Oh", "D1", "d1"])
def test_names_of_no_group_are_refused(name):
    with pytest.raises(ConfigError, match="symmetry is"):
        family_and_fold(name)


def test_names_as_relion_takes_them():
    assert family_and_fold("i") == ("I2", 1) and family_and_fold(" d7 ") == ("D", 7) and group_name("o") == "O"
    assert not is_symmetric("c1") and is_symmetric("D2")


@pytest.mark.parametrize("given", [("D4", "", False, True), ("C1", "C1", True, False), ("D2", "D4", True, False),
                                   ("C1", "D4", False, False), ("C1", "Q", True, False)])
def test_groups_that_do_not_go_together_are_refused(given):
    with pytest.raises(ConfigError):
        check_symmetries(*given)


@pytest.mark.parametrize("name", ORDERS)
def test_one_unit_has_one_of_all_poses_that_show_the_same(name):
    group, grid = group_of(name), super_fibonacci_rotations(2400)
    tried = in_one_unit(grid, group)
    assert int(tried.sum()) == pytest.approx(len(grid) / len(group), rel=0.1, abs=3)
    copies = torch.einsum("nij,gjk->ngik", random_rotations(40, torch.Generator().manual_seed(0)), group)
    assert [int(in_one_unit(of_one, group).sum()) for of_one in copies] == [1] * 40


def test_of_a_product_grid_whole_views_are_tried_and_never_none():
    constraint = MapConstraint(torch.ones(4, 4, 4), group_of("I"))
    grid = product_rotations(300, 12)
    kept = constraint.product(grid)
    assert len(kept) == 12 and kept.shape[1] == pytest.approx(5, abs=3)
    view = kept[:, :, 2]
    torch.testing.assert_close(view, view[:1].expand_as(view))
    assert constraint.product(grid[:, :1]).shape[1] == 1 and constraint.rotations(grid[0, 1:2]).shape[0] == 1


@pytest.mark.parametrize("name", ["C3", "D2", "T", "I"])
def test_distance_is_of_the_nearest_of_poses_that_show_the_same(name):
    group, rng = group_of(name), torch.Generator().manual_seed(1)
    A = random_rotations(60, rng)
    B = A @ group[torch.randint(len(group), (60,), generator=rng)]
    assert float(distance_deg(A, B, group).max()) < 0.1
    frame = random_rotations(1, rng)[0]
    assert float(distance_deg(B @ frame, A, group, frame).max()) < 0.1
    assert float((rotation_distance_deg(A, B) > 1).float().mean()) > 0.5


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", ["C4", "D2", "D3", "T", "O", "I1", "I2"])
def test_what_keeps_axes_carries_a_group_onto_itself(name, mirrored):
    group = group_of(name)
    moving = MIRROR @ group @ MIRROR if mirrored else group
    for R in random_rotations(12, torch.Generator().manual_seed(2)):
        kept = keeping_axes(R, name, mirrored)
        assert float((kept @ kept.T - torch.eye(3)).abs().max()) < 1e-4 and float(torch.linalg.det(kept)) > 0
        assert is_the_same_set(kept.T @ moving @ kept, group)
        torch.testing.assert_close(keeping_axes(kept, name, mirrored), kept, atol=1e-4, rtol=0)
        nearest = min(float(rotation_distance_deg(R, kept @ G)) for G in group)
        assert float(rotation_distance_deg(R, kept)) == pytest.approx(nearest, abs=0.1)


@pytest.mark.parametrize("name", ["C2", "C4", "D2", "D4", "O"])
def test_a_group_of_quarter_turns_leaves_a_symmetrised_map_exactly_as_it_is(name):
    """Voxels are carried to voxels: nothing is interpolated."""
    map_ = symmetrised_maps(blobs(0, 15)[None], group_of(name))[0].numpy()
    at = np.stack(np.meshgrid(*[np.arange(-7, 8)] * 3, indexing="ij")[::-1], -1)  # x, y, z of every voxel
    for turn in group_of(name).numpy():
        x, y, z = np.moveaxis(np.rint(at @ turn.T).astype(int) + 7, -1, 0)
        np.testing.assert_allclose(map_[z, y, x], map_, atol=1e-5 * float(map_.max()))


@pytest.mark.parametrize("box_px", [19, 20])
@pytest.mark.parametrize("name", ["C3", "D3", "T", "I"])
def test_a_group_leaves_a_symmetrised_map_as_it_is(name, box_px):
    map_ = symmetrised_maps(blobs(0, box_px, width_frac=0.1)[None], group_of(name))[0].numpy()
    for turn in group_of(name)[1::13]:
        moved = move_map(map_, turn.numpy(), np.zeros(3, np.float32))
        assert np.linalg.norm(moved - map_) < 0.07 * np.linalg.norm(map_)  # each reading is interpolated: 4 %


def test_symmetrised_map_is_the_mean_of_the_turned_ones():
    map_, group = blobs(1, 20), group_of("D2")
    turned = np.mean([move_map(map_.numpy(), turn.numpy(), np.zeros(3, np.float32)) for turn in group], 0)
    np.testing.assert_allclose(symmetrised_maps(map_[None], group)[0], turned, atol=1e-3 * float(map_.max()))
    assert symmetrised_maps(map_, group_of("C1")) is map_


def test_symmetrised_sums_read_the_transform_where_the_group_carries_it():
    """Quarter turns about z carry grid points to grid points: nothing is interpolated."""
    size, rng = 12, torch.Generator().manual_seed(3)
    real = torch.randn(size, size, size, generator=rng)
    whole = torch.fft.fftn(real)
    sums = symmetrised_sums(torch.fft.rfftn(real)[None], group_of("C4"))[0]
    k = torch.fft.fftfreq(size, 1 / size).long()
    z, y, x = torch.meshgrid(k, k, k, indexing="ij")
    expected = sum(whole[z, b, a] for a, b in ((x, y), (-y, x), (-x, -y), (y, -x)))
    inside = ((x ** 2 + y ** 2 + z ** 2).float().sqrt() < size / 2 - 1)[..., :size // 2 + 1]
    torch.testing.assert_close(sums[inside], expected[..., :size // 2 + 1][inside], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_alignment_that_is_a_little_off_keeps_the_axes(mirrored):
    rng = torch.Generator().manual_seed(6)
    for name, turn_deg in (("C3", 40.0), ("D2", 90.0)):
        turn = euler_to_matrix(torch.tensor(turn_deg), torch.tensor(0.0), torch.tensor(0.0))
        off = (turn @ small_rotations(0.05 * torch.randn(1, 3, generator=rng))[0]).numpy()
        free = AlignedMap(np.zeros((2, 2, 2)), off, np.array([0.3, -0.2, 1.5]), np.array([0.6, -0.4, 3]), mirrored, 1.0)
        found = with_axes(free, name)
        assert float(rotation_distance_deg(torch.from_numpy(found.rotation), turn)) < 5
        assert found.shift_px.tolist() == ([0, 0, 1.5] if name == "C3" else [0, 0, 0])
        assert found.shift_ang[2] == (3 if name == "C3" else 0)
        moving = MIRROR @ group_of(name) @ MIRROR if mirrored else group_of(name)
        R = torch.from_numpy(found.rotation)
        assert is_the_same_set(R.T @ moving @ R, group_of(name))
    assert with_axes(free, "C1") is free


@pytest.mark.parametrize("size", [16, 18])
@pytest.mark.parametrize("name", ["C3", "D2", "T", "I1"])
def test_compiled_sums_over_a_group_are_those_of_the_definition(size, name):
    """A transform in double precision takes the definition's way."""
    real = torch.randn(3, size, size, size, generator=torch.Generator().manual_seed(0))
    sums = torch.fft.rfftn(real, dim=(1, 2, 3)) / size
    compiled, expected = (symmetrised_sums(x, group_of(name)) for x in (sums, sums.to(torch.complex128)))
    torch.testing.assert_close(compiled, expected.to(torch.complex64), rtol=1e-4, atol=1e-4)


def test_sums_over_a_group_are_made_of_a_limited_number_of_points_at_a_time(monkeypatch):
    rng, sampled = torch.Generator().manual_seed(0), []
    sums = torch.fft.rfftn(torch.randn(2, 16, 16, 16, generator=rng, dtype=torch.float64), dim=(1, 2, 3))
    whole, sample = symmetrised_sums(sums, group_of("D2")), map_constraint.sample_half_transform

    def noted(map_ft, index, points):
        sampled.append(len(points) * points.shape[1])
        return sample(map_ft, index, points)

    monkeypatch.setattr(map_constraint, "_TOGETHER", 300)
    monkeypatch.setattr(map_constraint, "sample_half_transform", noted)
    torch.testing.assert_close(symmetrised_sums(sums, group_of("D2")), whole)
    assert max(sampled) <= 300
