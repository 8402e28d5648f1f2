"""Every bad input: the right error, a sentence with file, value, limit and remedy, nothing left."""
import errno
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from particle_files import (
    ctf_columns,
    noise_images,
    optics_columns,
    particle_columns,
    star_block,
    write_particles,
    write_stack,
    write_star,
)
from vaegan_engine.contract.errors import EXIT_DATA, DataError
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data import prepared_images
from vaegan_engine.data.prepared_images import open_cache

N, D = 6, 24


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "in"


def refused(star, out: Path, *named: str, **changes) -> str:
    """The message of the DataError; asserts what it names and that nothing is left in ``out``."""
    with pytest.raises(DataError) as caught:
        open_cache(DataConfig(**{"particles": str(star), "box_px": 16, **changes}), out / "run" / "cache",
                   progress=False)
    assert caught.value.exit_code == EXIT_DATA
    for text in named:
        assert text in str(caught.value)
    assert caught.value.hint.endswith(".")
    assert "\n" not in str(caught.value)
    assert not (out / "run").exists()
    return str(caught.value)


def star_with(folder, columns=None, optics=None):
    write_particles(folder, N, D)
    return write_star(folder / "particles.star", {**particle_columns(N), **(columns or {})},
                      {**optics_columns(), **(optics or {})})


def test_truncated_stack(folder, tmp_path):
    star = write_particles(folder, N, D)
    with open(folder / "particles.mrcs", "r+b") as stream:
        stream.truncate(1024 + 4 * D * D * 4 + 10)
    refused(star, tmp_path, "particles.mrcs", "promises 6 images", "4 whole images")


def test_missing_stack(folder, tmp_path):
    star = star_with(folder)
    columns = particle_columns(N)
    columns["rlnImageName"][2:4] = ["1@Extract/gone.mrcs", "2@Extract/gone.mrcs"]
    write_star(star, columns, optics_columns())
    message = refused(star, tmp_path, "1 of 2 stacks are missing", "Extract/gone.mrcs", str(folder),
                      str(Path.cwd()), "--stack FILE")
    assert message.startswith(str(star))


def test_missing_stack_that_no_row_in_use_needs_is_no_error(folder, tmp_path):
    columns = particle_columns(N)
    columns["rlnImageName"][5] = "1@gone.mrcs"
    star = write_star(write_particles(folder, N, D), columns, optics_columns())
    made = open_cache(DataConfig(particles=str(star), box_px=16, max_images=5), tmp_path / "c", False)
    assert len(made) == 5


@pytest.mark.parametrize("name", ["rlnDefocusU", "rlnDefocusAngle", "rlnVoltage", "rlnAmplitudeContrast"])
def test_missing_ctf_column(folder, tmp_path, name):
    star = write_particles(folder, N, D)
    columns, optics = particle_columns(N), optics_columns()
    columns.pop(name, None)
    optics.pop(name, None)
    refused(write_star(star, columns, optics), tmp_path, str(star), f"column {name} is missing")


def test_missing_image_name_column(folder, tmp_path):
    write_particles(folder, N, D)
    star = write_star(folder / "mics.star", ctf_columns(3))
    refused(star, tmp_path, "mics.star", "rlnImageName")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_image_that_is_not_finite(folder, tmp_path, value):
    images = noise_images(N, D)
    images[4, 3, 3] = value
    refused(write_particles(folder, N, D, images), tmp_path, "particles.mrcs: image 5", "NaN or infinite")


@pytest.mark.parametrize("number", [0, 7, 999])
def test_row_past_the_end_of_its_stack(folder, tmp_path, number):
    columns = particle_columns(N)
    columns["rlnImageName"][3] = f"{number}@particles.mrcs"
    refused(star_with(folder, columns), tmp_path, "particle row 4", f"points at image {number}", "1 to 6")


@pytest.mark.parametrize("text", ["x@particles.mrcs", "-1@particles.mrcs", "@particles.mrcs"])
def test_image_name_that_is_none(folder, tmp_path, text):
    columns = particle_columns(N)
    columns["rlnImageName"][0] = text
    refused(star_with(folder, columns), tmp_path, "particle row 1", "NUMBER@STACK")


@pytest.mark.parametrize("box_px", [15, 17, 26, 4])
def test_training_box_that_cannot_be(folder, tmp_path, box_px):
    refused(star_with(folder), tmp_path, f"box_px is {box_px}", box_px=box_px)


@pytest.mark.parametrize("content", [
    "", "\n", "data_particles\n\nloop_\n_rlnImageName #1\n",
    "# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n\n# version 30001\n"])
def test_empty_star(folder, tmp_path, content):
    star = write_particles(folder, N, D)
    star.write_text(content)
    refused(star, tmp_path, "particles.star")


@pytest.mark.parametrize("content", ["hello\nworld\n", "data_particles\n", "data_x\n_rlnImageName\n",
                                     "data_p\nloop_\n_rlnImageName #1\n_rlnB #2\n1@a.mrcs\n",
                                     "data_p\nloop_\n_rlnImageName #1\n1@a.mrcs 3 4\n1@a.mrcs\n"])
def test_star_that_is_none(folder, tmp_path, content):
    star = write_particles(folder, N, D)
    star.write_text(content)
    refused(star, tmp_path, "particles.star")


def test_binary_file_in_place_of_the_star_file(folder, tmp_path):
    write_particles(folder, N, D)
    refused(folder / "particles.mrcs", tmp_path, "particles.mrcs")


@pytest.mark.parametrize("size", [0, -1.5, "nan", "wide"])
def test_wrong_pixel_size(folder, tmp_path, size):
    shown = "nan" if size == "nan" else str(size)
    star = star_with(folder, optics={"rlnImagePixelSize": [size]})
    refused(star, tmp_path, str(star), shown)


def test_zero_magnification(folder, tmp_path):
    columns = {**particle_columns(N), "rlnDetectorPixelSize": [5.0] * N, "rlnMagnification": [0.0] * N}
    optics = optics_columns()
    del optics["rlnImagePixelSize"]
    star = write_star(write_particles(folder, N, D), columns, optics)
    refused(star, tmp_path, "pixel size", "greater than 0")


def test_no_pixel_size(folder, tmp_path):
    optics = optics_columns()
    del optics["rlnImagePixelSize"]
    star = write_star(write_particles(folder, N, D), particle_columns(N), optics)
    refused(star, tmp_path, "rlnImagePixelSize")


def test_optics_groups_of_different_pixel_sizes(folder, tmp_path):
    optics = {name: values * 2 for name, values in optics_columns().items()}
    optics.update(rlnOpticsGroup=[1, 2], rlnImagePixelSize=[2.0, 2.02])
    columns = {**particle_columns(N), "rlnOpticsGroup": [1, 2] * (N // 2)}
    refused(star_with(folder, columns, optics), tmp_path, "2 to 2.02 A", "optics groups 1 and 2", "0.5 %")


def test_unknown_optics_group(folder, tmp_path):
    columns = {**particle_columns(N), "rlnOpticsGroup": [1] * (N - 1) + [4]}
    refused(star_with(folder, columns), tmp_path, "particle row 6", "rlnOpticsGroup 4")


def test_optics_groups_that_are_names(folder, tmp_path):
    columns = {**particle_columns(N), "rlnOpticsGroup": ["night_1"] * N}
    refused(star_with(folder, columns, {"rlnOpticsGroup": ["night_1"]}), tmp_path,
            "rlnOpticsGroup is 'night_1' in optics row 1, it must be a number")


def test_a_group_without_particles_may_lack_values(folder, tmp_path):
    optics = {name: values * 2 for name, values in optics_columns().items()}
    optics.update(rlnOpticsGroup=[1, 2], rlnVoltage=[300.0, "nan"], rlnImagePixelSize=[2.0, "nan"])
    assert len(open_cache(DataConfig(particles=str(star_with(folder, None, optics)), box_px=16), tmp_path / "c",
                          False)) == N
    columns = {**particle_columns(N), "rlnOpticsGroup": [1] * (N - 1) + [2]}
    refused(star_with(folder, columns, optics), tmp_path, "rlnVoltage is 'nan' in optics row 2")


@pytest.mark.parametrize(("columns", "named"), [
    ({"rlnDefocusU": ["nan"] * N}, "rlnDefocusU"), ({"rlnDefocusV": ["inf"] * N}, "rlnDefocusV"),
    ({"rlnVoltage": [300000.0] * N}, "rlnVoltage is 300000"),
    ({"rlnAmplitudeContrast": [7.0] * N}, "rlnAmplitudeContrast is 7")])
def test_ctf_that_cannot_be(folder, tmp_path, columns, named):
    refused(star_with(folder, columns), tmp_path, named)


@pytest.mark.parametrize("ids", [[1, 2, 3, 4, 5, 5], [1.5, 2, 3, 4, 5, 6]])
def test_particle_ids_that_are_none(folder, tmp_path, ids):
    refused(star_with(folder, {"vaeParticleId": ids}), tmp_path, "vaeParticleId")


def test_stack_of_another_box_than_the_star_says(folder, tmp_path):
    refused(star_with(folder, optics={"rlnImageSize": [32]}), tmp_path, "rlnImageSize is 32", "24 pixels")


def test_stacks_of_different_boxes(folder, tmp_path):
    columns = particle_columns(N)
    columns["rlnImageName"][0] = "1@other.mrcs"
    star = star_with(folder, columns)
    write_stack(folder / "other.mrcs", noise_images(1, 32))
    refused(star, tmp_path, "24", "32", "one box is needed")


@pytest.mark.parametrize("value", [0.0, 1234.5])
def test_blank_image(folder, tmp_path, value):
    images = noise_images(N, D)
    images[2] = value
    refused(write_particles(folder, N, D, images), tmp_path, "particles.mrcs: image 3",
            "background standard deviation")


def test_image_that_float16_cannot_hold(folder, tmp_path):
    images = noise_images(N, D)
    images[1, D // 2 - 2:D // 2 + 2, D // 2 - 2:D // 2 + 2] = 1e9  # wider than a hot pixel
    refused(write_particles(folder, N, D, images), tmp_path, "particles.mrcs: image 2", "65504", box_px=D)


def test_missing_star_and_folder_in_its_place(folder, tmp_path):
    write_particles(folder, N, D)
    refused(folder / "gone.star", tmp_path, "gone.star", "No such file")
    refused(folder, tmp_path, "Is a directory")
    refused("", tmp_path, "--particles")


@pytest.fixture
def open_folder():
    """A folder that every user may reach (pytest's own are closed to others)."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    for closed in (path / "in", path / "in" / "sub"):
        if closed.is_dir():
            closed.chmod(0o777)
    shutil.rmtree(path)


@pytest.mark.parametrize("closed", ["in", "in/particles.star", "in/particles.mrcs", "in/sub"])
def test_unreadable_file_or_folder(open_folder, closed, request):
    star = write_particles(open_folder / "in", N, D)
    if closed == "in/sub":
        (open_folder / "in" / "sub").mkdir()
        os.rename(open_folder / "in" / "particles.mrcs", open_folder / "in" / "sub" / "particles.mrcs")
        write_star(star, particle_columns(N, "sub/particles.mrcs"), optics_columns())
    (open_folder / closed).chmod(0)
    request.getfixturevalue("as_ordinary_user")
    refused(star, open_folder, "Permission denied", closed.split("/")[-1])


def test_output_folder_that_may_not_be_written(open_folder, request):
    star = write_particles(open_folder / "in", N, D)
    (open_folder / "in").chmod(0o555)
    request.getfixturevalue("as_ordinary_user")
    with pytest.raises(DataError, match=r"run/cache: the cache cannot be written \(Permission denied\)"):
        open_cache(DataConfig(particles=str(star), box_px=16), open_folder / "in" / "run" / "cache", False)


def test_output_folder_that_is_a_file(folder, tmp_path):
    star = write_particles(folder, N, D)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        open_cache(DataConfig(particles=str(star), box_px=16), tmp_path / "file" / "cache", False)
    with pytest.raises(DataError, match="cannot be written"):
        open_cache(DataConfig(particles=str(star), box_px=16), tmp_path / "file", False)
    assert (tmp_path / "file").read_text() == "mine"


def test_disk_that_is_full_from_the_start(folder, tmp_path, monkeypatch):
    star = write_particles(folder, N, D)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepared_images.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(star, tmp_path, "disk is full", "MiB are free", "smaller box_px or max_images")


def test_disk_that_fills_up_on_the_way(folder, tmp_path, monkeypatch):
    """The second block does not fit: the first is removed."""
    star = write_particles(folder, N, D)
    monkeypatch.setattr(prepared_images, "BLOCK_BYTES", 4 * D * D)
    original, blocks = prepared_images.read_images, []

    def read_then_full(*args):
        blocks.append(1)
        if len(blocks) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args)

    monkeypatch.setattr(prepared_images, "read_images", read_then_full)
    refused(star, tmp_path, "disk is full")


def test_a_failure_leaves_the_old_cache_whole(folder, tmp_path, monkeypatch):
    data = DataConfig(particles=str(write_particles(folder, N, D)), box_px=16)
    old = np.array(open_cache(data, tmp_path / "c", False).images)
    monkeypatch.setattr(prepared_images, "read_images", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        open_cache(replace(data, box_px=20), tmp_path / "c", False)
    assert sorted(os.listdir(tmp_path / "c")) == ["images.npy", "meta.json", "table.npz"]
    np.testing.assert_array_equal(open_cache(data, tmp_path / "c", False).images, old)


def test_two_blocks_with_images_take_the_particles(folder, tmp_path):
    star = star_with(folder)
    star.write_text(star_block("other", {"rlnImageName": ["1@gone.mrcs"], "rlnVoltage": [300.0]})
                    + star.read_text())
    assert len(open_cache(DataConfig(particles=str(star), box_px=16), tmp_path / "c", False)) == N
