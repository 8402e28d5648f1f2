"""Maps that are made with a symmetry: images count at all poses that show the same, closed forms on quarter turns."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import blobs, mask_of, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.fsc import fourier_shell_correlation
from vaegan_engine.physics.map_constraint import MapConstraint, symmetrised_maps, within
from vaegan_engine.physics.rotations import random_rotations, super_fibonacci_rotations
from vaegan_engine.physics.slices import add_slices, grid_turns
from vaegan_engine.physics.symmetry import distance_deg, group_of
from vaegan_engine.reconstruction.images import image_power
from vaegan_engine.reconstruction.least_squares import reconstruction
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.pose_search import Batches, Course, PoseGrid, Stage, run_stage, search_all
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages
from vaegan_engine.reconstruction.principal_maps import drawn_maps, first_maps, improved

BOX_PX = 19
C4 = group_of("C4")


def symmetric_particles(n: int, noise: float):
    map_ = symmetrised_maps(blobs(0, BOX_PX, width_frac=0.08)[None], C4)[0]
    return map_, *simulated([map_], n, noise)


def turned(map_: torch.Tensor) -> torch.Tensor:
    """The map after a quarter turn about z: voxels are carried to voxels (odd boxes)."""
    return torch.rot90(map_, 1, (-2, -1))


@pytest.mark.parametrize("radius", [5.0, 8.0, 9.0])  # of 9: sums up to the edge of the transform
@pytest.mark.parametrize("name", ["C1", "C2", "C3", "C4", "D3", "D4", "T", "O", "I1", "I2"])
def test_slices_are_added_at_all_poses_that_show_the_same(name, radius):
    band, A, group = make_band(18, radius), random_rotations(20, torch.Generator().manual_seed(0)), group_of(name)
    values = torch.randn(20, len(band.index), dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    powers = values.abs()
    found = add_slices(lambda rows: (values[rows], powers[rows]), band, A, 18, group)
    each = [add_slices(lambda rows: (values[rows], powers[rows]), band, A @ turn, 18, torch.eye(3)[None])
            for turn in group]
    for ours, theirs in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(ours, sum(theirs), atol=1e-5 * float(ours.abs().max()), rtol=1e-5)


@pytest.mark.parametrize(("name", "n_kept"), [("C1", 1), ("C3", 3), ("C4", 1), ("C6", 3), ("D3", 3), ("D4", 1),
                                              ("T", 12), ("O", 1), ("I2", 5), ("I1", 5)])
def test_a_group_is_some_rotations_times_those_of_the_grid(name, n_kept):
    group = group_of(name)
    kept, turns = grid_turns(group)
    made = torch.einsum("kij,hjl->khil", kept, turns if len(turns) else torch.eye(3)[None]).reshape(-1, 3, 3)
    assert len(kept) == n_kept and len(made) == len(group)
    nearest = (made[:, None] - group).abs().amax((2, 3)).argmin(1)
    assert sorted(nearest.tolist()) == list(range(len(group)))


def test_a_reconstruction_is_of_the_symmetry_and_better_for_it():
    map_, data, _, rotations, shifts = symmetric_particles(60, 1.0)
    band = make_band(BOX_PX, 8.0)
    images = PosedImages(Coefficients(data, np.arange(60), band), rotations, shifts)
    made = reconstruction(images, band.weight, MapConstraint(mask_of(BOX_PX), C4))
    plain = reconstruction(images, band.weight, within(mask_of(BOX_PX)))
    torch.testing.assert_close(turned(made), made, atol=2e-5 * float(made.abs().max()), rtol=0)
    assert not torch.allclose(turned(plain), plain, atol=0.02 * float(plain.abs().max()))
    ours, theirs = (fourier_shell_correlation(x.numpy(), map_.numpy())[1:8].mean() for x in (made, plain))
    assert ours > theirs + 0.03


def test_principal_maps_are_of_the_symmetry():
    _, data, _, rotations, shifts = symmetric_particles(120, 0.5)
    band = make_band(BOX_PX, 6.0)
    images = PosedImages(Coefficients(data, np.arange(120), band), rotations, shifts)
    constraint = MapConstraint(mask_of(BOX_PX), C4)
    rows = torch.arange(120)
    first = drawn_maps(first_maps(images, 2, constraint), images.part, rows, constraint)
    maps = improved(first, images.part, rows, constraint, 2)
    for made in (maps.mean, *maps.basis):
        torch.testing.assert_close(turned(made), made, atol=1e-4 * float(made.abs().max()), rtol=0)


def test_one_pose_of_those_that_show_the_same_is_searched_and_found():
    map_, data, _, rotations, _ = symmetric_particles(80, 0.3)
    model = MapMixture(map_[None], 0.1 * image_power(data), MapConstraint(mask_of(BOX_PX), C4))
    assert len(model.constraint.rotations(super_fibonacci_rotations(1600))) < 420
    found = search_all(data, model, np.arange(80), PoseGrid(6.0, 1600, 1.0))
    errors = distance_deg(found.rotations[:, 0], rotations, C4)
    assert float(errors.median()) < 14  # the grid is 17 degrees wide


def test_every_step_of_a_start_leaves_a_map_of_the_symmetry():
    _, data, _, _, _ = symmetric_particles(100, 0.5)
    power = image_power(data)
    start = symmetrised_maps(blobs(5, BOX_PX)[None], C4)
    model = MapMixture(start * float(power[2].sqrt() / start.std()), power, MapConstraint(mask_of(BOX_PX), C4))
    course = Course(Batches(np.arange(100), 0), torch.Generator().manual_seed(0))
    run_stage(data, model, Stage(5.0, 400, 3, 50, 1.0), course)
    small = model.maps[0]
    if len(small) % 2 == 0:  # voxel d // 2 is the axis: without the first row and column the box is odd
        small = small[:, 1:, 1:]
    torch.testing.assert_close(turned(small), small, atol=1e-3 * float(small.abs().max()), rtol=0)
