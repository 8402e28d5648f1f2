"""The cache: right images, right rows, made anew when and only when it must be."""
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from particle_files import (
    noise_images,
    optics_columns,
    particle_columns,
    write_particles,
    write_stack,
    write_star,
)
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data import image_preparation, prepared_images
from vaegan_engine.data.part_of_prepared import write_part
from vaegan_engine.data.prepared_images import META_JSON, open_cache


@pytest.fixture
def data(tmp_path) -> DataConfig:
    return DataConfig(particles=str(write_particles(tmp_path / "in", n=30, d=24)), box_px=16)


def is_made_again(data, folder, monkeypatch) -> bool:
    made = []
    original = prepared_images._build
    monkeypatch.setattr(prepared_images, "_build", lambda *args: (made.append(1), original(*args)))
    open_cache(data, folder, progress=False)
    monkeypatch.setattr(prepared_images, "_build", original)
    return bool(made)


@pytest.mark.parametrize("d", [24, 25])
@pytest.mark.parametrize("resize", ["fourier", "lanczos5"])
def test_images_are_normalised_at_the_training_box(tmp_path, d, resize):
    images = 50 + 7 * noise_images(9, d)
    star = write_particles(tmp_path / "in", 9, d, images)
    made = open_cache(DataConfig(particles=str(star), box_px=16, resize=resize), tmp_path / "c", False)
    assert made.images.dtype == np.float16
    assert made.images.shape == (9, 16, 16)
    mask = image_preparation.background_mask(16, 0.45 * 16)
    background = np.asarray(made.images, np.float64)[:, mask]
    np.testing.assert_allclose(background.mean(1), 0, atol=1e-3)
    np.testing.assert_allclose(background.std(1), 1, atol=2e-3)
    assert made.pixel_size_ang == pytest.approx(2.0 * d / 16)
    assert (made.original_box_px, made.original_pixel_size_ang) == (d, 2.0)
    # the same image up to the normalisation
    matrix = image_preparation.resize_matrix(resize, d, 16)
    reference = image_preparation.resize(images[:1], matrix)[0]
    assert np.corrcoef(reference.ravel(), np.asarray(made.images[0], float).ravel())[0, 1] > 0.9999


def test_crop_inversion_and_pixel_size(data, tmp_path):
    plain = open_cache(replace(data, crop_frac=0.75), tmp_path / "a", False)
    dark = open_cache(replace(data, crop_frac=0.75, invert_contrast=True), tmp_path / "b", False)
    np.testing.assert_array_equal(np.asarray(plain.images), -np.asarray(dark.images))
    assert plain.pixel_size_ang == pytest.approx(2.0 * 18 / 16)


def test_thesis_normalisation(data, tmp_path):
    shape = np.where(image_preparation.background_mask(24, 0.45 * 24), 0.0, 5.0)
    images = (noise_images(4, 24) + shape).astype(np.float32)
    star = write_particles(tmp_path / "t", 4, 24, images)
    made = open_cache(replace(data, particles=str(star), normalization="thesis", box_px=24), tmp_path / "c",
                      False)
    mask = image_preparation.background_mask(24, 0.45 * 24)
    values = np.asarray(made.images, np.float64)
    np.testing.assert_allclose(values[:, mask].mean(1), 0, atol=2e-3)
    np.testing.assert_allclose(values[:, ~mask].mean(1), 1, atol=2e-3)


@pytest.mark.parametrize("resize", ["fourier", "lanczos5"])
@pytest.mark.parametrize("normalization", ["background", "thesis"])
def test_every_normalisation_goes_with_every_resize(tmp_path, normalization, resize):
    """Resize and normalise by hand, in the stated order: equation 49 before the resize, RELION's after it."""
    d, box_px = 24, 16
    shape = np.where(image_preparation.background_mask(d, 0.45 * d), 0.0, 5.0)
    images = (noise_images(4, d) + shape).astype(np.float32)
    star = write_particles(tmp_path / "t", 4, d, images)
    made = open_cache(DataConfig(particles=str(star), box_px=box_px, normalization=normalization, resize=resize),
                      tmp_path / "c", False)
    matrix = image_preparation.resize_matrix(resize, d, box_px)
    expected = []
    for image in images.astype(np.float64):
        small, mask = matrix @ image @ matrix.T, image_preparation.background_mask(box_px, 0.45 * box_px)
        if normalization == "thesis":
            full = image_preparation.background_mask(d, 0.45 * d)
            background = image[full].mean()
            expected.append(matrix @ ((image - background) / (image[~full].mean() - background)) @ matrix.T)
        else:
            expected.append((small - small[mask].mean()) / small[mask].std())
    np.testing.assert_allclose(np.asarray(made.images, np.float64), expected, rtol=2e-3, atol=5e-3)


def test_blocks_give_the_same_as_one_block_and_keep_shuffled_ids(tmp_path, monkeypatch):
    n, d = 23, 16
    rng = np.random.default_rng(0)
    write_stack(tmp_path / "particles.mrcs", noise_images(n, d))
    columns = particle_columns(n)
    columns["vaeParticleId"] = [7 * i + 5 for i in range(n)]
    straight = write_star(tmp_path / "a.star", columns, optics_columns())
    order = rng.permutation(n)
    shuffled = write_star(tmp_path / "b.star", {k: [v[i] for i in order] for k, v in columns.items()},
                          optics_columns())
    one = open_cache(DataConfig(particles=str(straight), box_px=16), tmp_path / "ca", False)
    monkeypatch.setattr(prepared_images, "BLOCK_BYTES", 4 * 4 * d * d)  # four images
    many = open_cache(DataConfig(particles=str(shuffled), box_px=16), tmp_path / "cb", False)
    assert list(many.particle_id) == [7 * i + 5 for i in order]
    for row, particle in enumerate(many.particle_id):
        other = int(np.flatnonzero(one.particle_id == particle)[0])
        np.testing.assert_allclose(np.asarray(many.images[row], float), np.asarray(one.images[other], float),
                                   atol=2e-3)
        np.testing.assert_array_equal(many.ctf[row], one.ctf[other])


def test_filters(data, tmp_path):
    assert len(open_cache(replace(data, max_images=7), tmp_path / "a", False)) == 7
    halves = [open_cache(replace(data, half_set=half), tmp_path / str(half), False) for half in (1, 2)]
    assert sum(len(half) for half in halves) == 30
    assert not set(halves[0].particle_id) & set(halves[1].particle_id)


def test_the_second_time_nothing_is_made(data, tmp_path, monkeypatch):
    assert is_made_again(data, tmp_path / "c", monkeypatch)
    assert not is_made_again(data, tmp_path / "c", monkeypatch)


@pytest.mark.parametrize("change", [
    {"box_px": 14}, {"crop_frac": 0.9}, {"particle_radius_frac": 0.4}, {"resize": "lanczos5"},
    {"normalization": "thesis"}, {"invert_contrast": True}, {"ignore_ctf": True}, {"half_set": 1},
    {"max_images": 9}])
def test_another_setting_makes_it_again_and_says_which(data, tmp_path, monkeypatch, capsys, change):
    open_cache(data, tmp_path / "c", False)
    assert is_made_again(replace(data, **change), tmp_path / "c", monkeypatch)
    name, value = next(iter(change.items()))
    assert f"{name} was {getattr(data, name)}, is {value}" in capsys.readouterr().err


def test_another_star_file_stack_or_a_damaged_cache_makes_it_again(data, tmp_path, monkeypatch, capsys):
    folder, star = tmp_path / "c", tmp_path / "in" / "particles.star"
    open_cache(data, folder, False)
    star.write_text(star.read_text().replace("10010.0", "10011.0"))
    assert is_made_again(data, folder, monkeypatch)
    assert "the star file changed" in capsys.readouterr().err
    write_stack(tmp_path / "in" / "particles.mrcs", noise_images(30, 24, seed=9))
    assert is_made_again(data, folder, monkeypatch)
    assert "the image stacks changed" in capsys.readouterr().err
    other = write_stack(tmp_path / "other.mrcs", noise_images(30, 24, seed=8))
    assert is_made_again(replace(data, stack=str(other)), folder, monkeypatch)
    assert is_made_again(data, folder, monkeypatch)
    with open(folder / "images.npy", "r+b") as stream:
        stream.truncate(500)
    assert is_made_again(data, folder, monkeypatch)
    (folder / META_JSON).write_text(json.dumps({"format": 0}))
    assert is_made_again(data, folder, monkeypatch)


@pytest.mark.parametrize("kept_bytes", [0, 10, 100])
@pytest.mark.parametrize("name", ["table.npz", "images.npy", META_JSON])
def test_what_a_power_cut_left_is_made_again(data, tmp_path, monkeypatch, name, kept_bytes):
    open_cache(data, tmp_path / "c", False)
    with open(tmp_path / "c" / name, "r+b") as stream:
        stream.truncate(kept_bytes)
    assert is_made_again(data, tmp_path / "c", monkeypatch)


def test_a_part_of_prepared_images_that_a_power_cut_left_is_written_again(data, tmp_path):
    cache, own = open_cache(data, tmp_path / "c", False), replace(data, half_set=1)
    rows = np.flatnonzero(cache.half_set == 1)
    assert [write_part(tmp_path / "c", own, rows, tmp_path / "part") for _ in range(2)] == [False, True]
    with open(tmp_path / "part" / "table.npz", "r+b") as stream:
        stream.truncate(100)
    assert [write_part(tmp_path / "c", own, rows, tmp_path / "part") for _ in range(2)] == [False, True]


def test_a_moved_project_keeps_its_cache(data, tmp_path, monkeypatch):
    open_cache(data, tmp_path / "in" / "run" / "cache", False)
    os.rename(tmp_path / "in", tmp_path / "moved")
    moved = replace(data, particles=str(tmp_path / "moved" / "particles.star"))
    assert not is_made_again(moved, tmp_path / "moved" / "run" / "cache", monkeypatch)


def test_other_files_in_the_folder_are_left_alone(data, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    open_cache(data, folder, False)
    assert sorted(os.listdir(folder)) == ["images.npy", "meta.json", "notes.txt", "table.npz"]


@pytest.mark.parametrize("star", ["aspire_17/sample_relion_data.star", "filament_5/relion31.star"])
def test_real_particles_become_training_images(shared_data, tmp_path, star):
    source = tmp_path / "set"
    shutil.copytree(shared_data / "real_particles" / star.split("/")[0], source)
    made = open_cache(DataConfig(particles=str(source / star.split("/")[1]), max_images=200, box_px=64),
                      tmp_path / "c", False)
    assert np.isfinite(np.asarray(made.images)).all()
    assert made.box_px * made.pixel_size_ang == pytest.approx(
        made.original_box_px * made.original_pixel_size_ang)


def test_hot_pixels_and_copies_are_said_once(tmp_path, capsys):
    images = noise_images(6, 24)
    images[4, 3, 5] = 3e4
    images[3] = images[0]
    star = write_particles(tmp_path, 6, 24, images)
    columns = {**particle_columns(6), "rlnRandomSubset": [1, 2, 1, 2, 1, 2]}
    data = DataConfig(particles=str(write_star(star, columns, optics_columns())), box_px=16)
    cache = open_cache(data, tmp_path / "c", progress=False)
    hot, copies = cache.notes
    assert "1 in 1 of 6 images, the first in" in hot and "particles.mrcs, image 5" in hot
    assert "equal, pixel by pixel, to another one: 1, 1 of them in the other half set" in copies
    assert "image 4 and" in copies and copies.endswith("image 1).")
    assert capsys.readouterr().err == f"{hot}\n{copies}\n"
    assert open_cache(data, tmp_path / "c", progress=False).notes == cache.notes
    assert capsys.readouterr().err == ""
    assert np.abs(np.asarray(cache.images, np.float32)).max() < 10


def test_all_images_that_cannot_be_used_are_named_together(tmp_path):
    """Blank ones and such with NaN: who has sixty of them must not prepare sixty times."""
    images = noise_images(40, 24)
    images[[3, 17, 18]], images[30, 2, 2] = 0, np.nan
    data = DataConfig(particles=str(write_particles(tmp_path, 40, 24, images)), box_px=16)
    with pytest.raises(DataError, match=r"image 4 has a background standard deviation of 0|image 31 has") as caught:
        open_cache(data, tmp_path / "c", progress=False)
    assert "In all 4 images cannot be used: rows 4, 18, 19, 31 of the particles" in caught.value.hint
    assert not (tmp_path / "c").exists()


def test_copies_are_drawn_into_one_half_set(tmp_path):
    """As rows that name one image are: halves of copies would share their noise. Half sets that are stated stay."""
    images = noise_images(40, 24)
    images[20:] = images[:20]
    star = write_particles(tmp_path, 40, 24, images)
    cache = open_cache(DataConfig(particles=str(star), box_px=16), tmp_path / "c", progress=False)
    np.testing.assert_array_equal(cache.twin_id, np.tile(cache.particle_id[:20], 2))
    np.testing.assert_array_equal(cache.half_set[20:], cache.half_set[:20])
    assert set(cache.half_set) == {1, 2} and "another one: 20, in one half set" in cache.notes[0]
    stated = [1 + i // 20 for i in range(40)]
    columns = {**particle_columns(40), "rlnRandomSubset": stated}
    data = DataConfig(particles=str(write_star(star, columns, optics_columns())), box_px=16)
    assert open_cache(data, tmp_path / "d", progress=False).half_set.tolist() == stated


def test_other_images_of_the_same_particles_have_another_digest(tmp_path):
    """What goes on from a checkpoint compares it; the same images, made again, have the same."""
    images = noise_images(6, 24)
    made = [open_cache(DataConfig(particles=str(write_particles(tmp_path / name, 6, 24, pixels)), box_px=16),
                       tmp_path / f"{name}_cache", False).digest()
            for name, pixels in (("a", images), ("b", images), ("c", images[::-1]))]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("absolute", [False, True])
def test_a_star_file_behind_a_link_is_used_and_not_made_again(tmp_path, monkeypatch, absolute):
    """A job's folder on another disk, deeper than the link to it."""
    (tmp_path / "disk" / "a" / "b" / "job").mkdir(parents=True)
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "Refine").symlink_to(tmp_path / "disk" / "a" / "b")
    stack = tmp_path / "proj" / "Extract" / "a.mrcs"
    stack.parent.mkdir()
    write_stack(stack, noise_images(4, 16))
    columns = particle_columns(4)
    columns["rlnImageName"] = [f"{i + 1}@{stack if absolute else 'Extract/a.mrcs'}" for i in range(4)]
    star = write_star(tmp_path / "proj" / "Refine" / "job" / "run_data.star", columns, optics_columns())
    monkeypatch.chdir(tmp_path / "proj")
    data = DataConfig(particles=str(star), box_px=16)
    assert len(open_cache(data, tmp_path / "c", False)) == 4
    assert not is_made_again(data, tmp_path / "c", monkeypatch)


def test_gradients_of_images_are_taken_out_and_said(tmp_path):
    """With or without a wedge of ice the same particle is prepared, and a sentence says of how many."""
    images = noise_images(12, 48)
    tilted = images.copy()
    tilted[3:7] += 0.2 * np.arange(48, dtype=np.float32)
    caches = [open_cache(DataConfig(particles=str(write_particles(tmp_path / name, 12, images=some)), box_px=32),
                         tmp_path / name / "cache") for name, some in (("flat", images), ("tilted", tilted))]
    flat, tilt = (cache.images.astype(np.float32) for cache in caches)
    np.testing.assert_array_equal(flat[:3], tilt[:3])
    assert [np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99 for a, b in zip(flat, tilt, strict=True)] == [True] * 12
    assert caches[0].notes == () and "4 of 12 images have a gradient" in caches[1].notes[0]
