"""Maps on other grids keep their transforms, and so their projections."""
import pytest
import torch
from refine_particles import blobs
from tolerances import TOLERANCES
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_resize import resized_maps, working_box_px
from vaegan_engine.physics.projection import extract_slices, volume_to_fourier
from vaegan_engine.physics.rotations import random_rotations


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
    expected = extract_slices(volume_to_fourier(map_), index, A, 32).flatten(1)[:, large.index]
    found = extract_slices(volume_to_fourier(resized_maps(map_, d)), index, A, d).flatten(1)[:, small.index]
    assert float((found - expected).abs().max()) < 0.01 * float(expected.abs().max())


def test_the_working_box_holds_the_band_and_is_no_larger_than_the_image():
    for radius in (3, 8, 12.5, 30):
        assert 2 * radius + 2 <= working_box_px(radius, 200)
    assert working_box_px(12, 24) == 24
