"""Images prepared as they are read are those that are kept; noise groups of a star file."""
import numpy as np
import pytest
from particle_files import loaded, noise_images, optics_columns, particle_columns, write_stack, write_star
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data.noise_groups import noise_groups
from vaegan_engine.data.prepared_images import open_cache
from vaegan_engine.data.star_files import read_star
from vaegan_engine.data.streamed_images import StreamedImages


def write(folder, images, **columns):
    write_stack(folder / "particles.mrcs", images)
    return write_star(folder / "particles.star", {**particle_columns(len(images)), **columns}, optics_columns())


@pytest.mark.parametrize("invert", [False, True])
def test_they_are_the_prepared_images_of_the_whole_box(tmp_path, invert):
    star = write(tmp_path, 5 + 3 * noise_images(6, 24))
    data = DataConfig(particles=str(star), box_px=24, invert_contrast=invert)
    cache = open_cache(data, tmp_path / "cache", progress=False)
    streamed = StreamedImages(loaded(star), data)
    assert streamed.shape == (6, 24, 24) and len(streamed) == 6
    for at in (np.array([4, 0, 4]), slice(2, 5)):
        np.testing.assert_allclose(streamed[at], cache.images[at], atol=2e-3)
    mean, deviation = streamed.background(np.arange(6))
    assert mean == pytest.approx(5, abs=0.3) and deviation == pytest.approx(3, abs=0.2)


def test_an_odd_box_loses_its_last_row_and_the_circle_stays_as_wide(tmp_path):
    images = noise_images(4, 25)
    streamed = StreamedImages(loaded(write(tmp_path, images)), DataConfig(crop_frac=0.5, particle_radius_frac=0.4))
    assert streamed.shape == (4, 24, 24)
    assert streamed.data.particle_radius_frac == pytest.approx(0.4 * 12 / 25)
    ratio = streamed[slice(0, 1)][0] - streamed[slice(0, 1)][0].mean()
    cut = images[0, :24, :24] - images[0, :24, :24].mean()
    assert np.corrcoef(ratio.ravel(), cut.ravel())[0, 1] > 0.9999


def test_a_blank_image_is_named(tmp_path):
    images = noise_images(4, 24)
    images[2] = 0
    streamed = StreamedImages(loaded(write(tmp_path, images)), DataConfig())
    with pytest.raises(DataError, match=r"image 3 has a background standard deviation of 0"):
        streamed[np.array([0, 2])]


def test_micrographs_with_enough_images_are_groups_and_the_others_go_by_optics(tmp_path):
    names = ["a"] * 3 + ["b"] + ["c"] * 3 + ["d"]
    star = write(tmp_path, noise_images(8, 16), rlnMicrographName=names)
    groups = noise_groups(read_star(star), np.arange(8), 3)
    assert groups.tolist() == [1, 1, 1, 0, 2, 2, 2, 0]
    assert noise_groups(read_star(star), np.array([0, 1, 3, 4]), 3).tolist() == [0, 0, 0, 0]
    optics = {**optics_columns(), **{name: values * 2 for name, values in optics_columns().items()},
              "rlnOpticsGroup": [1, 2]}
    star = write_star(tmp_path / "two.star", {**particle_columns(8), "rlnOpticsGroup": [2, 1] * 4}, optics)
    assert noise_groups(read_star(star), np.arange(8), 3).tolist() == [1, 0] * 4
