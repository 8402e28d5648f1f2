"""Maps in the box of their band: the same coefficients, the same slices."""
from __future__ import annotations

import pytest
import torch
from refine_particles import blobs
from tolerances import TOLERANCES
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.map_resize import mask_in_box, resized_maps, resized_transforms, working_box_px
from vaegan_engine.physics.projection import extract_slices, map_to_fourier
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.physics.slices import map_box_px, take_slices, transform_of


@pytest.mark.parametrize(("radius", "box_px", "expected"), [
    (4.0, 128, 16), (4.9, 128, 16), (5.0, 128, 18), (10.0, 128, 28), (11.0, 128, 30), (18.0, 256, 48),
    (20, 48, 48), (70.0, 400, 160), (8.0, 15, 15)])
def test_the_working_box_fits_the_band_and_not_the_images(radius, box_px, expected):
    assert map_box_px(radius, box_px) == expected


def smooth(box_px: int) -> torch.Tensor:
    return blobs(5, box_px, width_frac=0.09, reach_frac=0.15)


@pytest.mark.parametrize("d", [32, 33])
@pytest.mark.parametrize("other", [20, 21, 40])
def test_slices_are_the_same_in_every_box(d, other):
    map_, band = smooth(d), make_band(d, 5.0)
    A = random_rotations(5, torch.Generator().manual_seed(0))
    expected = take_slices(map_to_fourier(map_[None])[0], band, A)
    found = take_slices(map_to_fourier(resized_maps(map_, other)[None])[0], band, A)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(("d", "other"), [(16, 24), (15, 24), (16, 21), (15, 21)])
def test_there_and_back_is_the_map(d, other):
    map_ = smooth(d)
    if d % 2 == 0:  # the edge of an even box's transform is left out
        map_ = resized_maps(resized_maps(map_, d + 1), d)
    torch.testing.assert_close(resized_maps(resized_maps(map_, other), d), map_, rtol=1e-4, atol=1e-5)
    density = resized_maps(map_, other) * (other / d) ** 3
    assert float(density.amax()) == pytest.approx(float(map_.amax()), rel=0.1)


def test_sums_keep_their_place_in_another_size():
    transforms = torch.fft.rfftn(torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0)), dim=(1, 2, 3))
    large = resized_transforms(transforms, 12)
    for z, y, x in ((0, 0, 0), (3, -3, 2), (-1, 2, 3)):
        assert torch.equal(large[:, z, y, x], transforms[:, z, y, x])
    again = resized_transforms(large, 8)  # but for the edge of the even size
    for z in (slice(0, 4), slice(-3, None)):
        assert torch.equal(again[:, z, :4, :4], transforms[:, z, :4, :4])
        assert torch.equal(again[:, z, -3:, :4], transforms[:, z, -3:, :4])


@pytest.mark.parametrize(("d", "other"), [(48, 28), (33, 20), (48, 21)])
def test_a_mask_is_read_in_another_box(d, other):
    mask = torch.from_numpy(soft_sphere_mask(d, 0.3 * d, 0.1 * d))
    found = mask_in_box(mask, other)
    assert 0 <= float(found.min()) and float(found.max()) <= 1
    expected = torch.from_numpy(soft_sphere_mask(other, 0.3 * other, 0.1 * other))
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert mask_in_box(mask, d) is mask


def test_a_map_in_too_small_a_box_is_brought_into_a_larger_one():
    map_, band = smooth(16), make_band(48, 9.0)
    made = take_slices(transform_of(map_, band), band, torch.eye(3)[None])
    assert float(made[:, band.shell > 8].abs().max()) < 0.02 * float(made.abs().max())


@pytest.mark.parametrize(("large", "small"), [(24, 16), (25, 16), (24, 15), (25, 15)])
def test_a_map_made_finer_and_coarser_again_is_the_same(large, small):
    rng = torch.Generator().manual_seed(0)
    maps = resized_maps(torch.randn(2, small, small, small, generator=rng, dtype=torch.float64), large)
    again = resized_maps(resized_maps(maps, small), large)
    rtol, atol = TOLERANCES["float64"]
    assert maps.shape == (2, large, large, large)
    assert torch.allclose(again, maps, rtol=rtol, atol=atol)
    axes = (-3, -2, -1)
    centre = torch.fft.fftn(torch.fft.ifftshift(maps, dim=axes), dim=axes)[0, 1, 2, 3]
    coarse = torch.fft.fftn(torch.fft.ifftshift(resized_maps(maps, small), dim=axes), dim=axes)[0, 1, 2, 3]
    assert torch.allclose(centre, coarse, rtol=rtol, atol=1e-9)


def test_projections_of_the_small_box_are_those_of_the_large_one():
    map_, A = blobs(0, 32)[None], random_rotations(5, torch.Generator().manual_seed(0))
    index, radius = torch.zeros(5, dtype=torch.long), 6
    d = working_box_px(radius, 32)
    large, small = make_band(32, radius), make_band(d, radius)
    assert d < 32 and torch.equal(large.kxy, small.kxy)
    expected = extract_slices(map_to_fourier(map_), index, A, 32).flatten(1)[:, large.index]
    found = extract_slices(map_to_fourier(resized_maps(map_, d)), index, A, d).flatten(1)[:, small.index]
    assert float((found - expected).abs().max()) < 0.01 * float(expected.abs().max())


def test_the_working_box_holds_the_band_and_is_no_larger_than_the_image():
    for radius in (3, 8, 12.5, 30):
        assert 2 * radius + 2 <= working_box_px(radius, 200)
    assert working_box_px(12, 24) == 24
