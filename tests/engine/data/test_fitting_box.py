"""The box that is taken where nobody names one."""
from dataclasses import replace
from pathlib import Path

import pytest
from vaegan_engine.cli.main import main, was_asked_for
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data.fitting_box import fitting_box, optics_image_px
from vaegan_engine.evaluation.forecast import forecasts
from vaegan_engine.training import train

STAR = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnImageSize #2
{rows}

data_particles

loop_
_rlnImageName #1
000001@x.mrcs
"""


def star(tmp_path, *sizes):
    path = tmp_path / "particles.star"
    path.write_text(STAR.format(rows="\n".join(f"{i + 1} {size}" for i, size in enumerate(sizes))))
    return DataConfig(particles=str(path))


@pytest.mark.parametrize(("sizes", "box_px"), [((32,), 32), ((46,), 40), ((300, 33), 32), ((48,), 48), ((200,), 48),
                                               ((15,), 48), (("nan",), 48)])
def test_small_images_have_the_largest_box_that_they_fill(tmp_path, capsys, sizes, box_px):
    assert fitting_box(star(tmp_path, *sizes)).box_px == box_px
    assert bool(capsys.readouterr().err) == (box_px != 48)


def test_the_part_that_is_kept_counts(tmp_path):
    assert fitting_box(replace(star(tmp_path, 64), crop_frac=0.6)).box_px == 32  # of 38 px


def test_nothing_is_known_of_other_files(tmp_path):
    (tmp_path / "old.star").write_text("data_\n\nloop_\n_rlnImageName #1\n000001@x.mrcs\n")
    assert optics_image_px(tmp_path / "old.star") == optics_image_px(tmp_path / "none.star") == 0


@pytest.mark.parametrize(("values", "settings", "asked"), [
    ({"data": {"particles": "x"}}, (), False), ({"data": {"box_px": 48}}, (), True), ({}, ("data.box_px=40",), True)])
def test_a_box_that_was_asked_for_stays(values, settings, asked):
    assert was_asked_for("data", "box_px", values, settings) == asked


@pytest.mark.parametrize(("size", "more", "band"), [
    (20, [], 7.0), (31, [], 11.0), (32, [], 12.0),
    (20, ["--set", "training.band_shells=5"], 5.0), (64, ["--set", "data.box_px=24"], 11.0),
    (64, ["--box-px", "16"], 7.0), (64, ["--box-px", "40"], 12.0)])
def test_a_band_that_nobody_asked_for_has_room_in_the_box(tmp_path, monkeypatch, size, more, band):
    begun = []
    monkeypatch.setattr(train, "run_train", lambda run, out, resume=False: begun.append(run))
    monkeypatch.setattr(forecasts, "say", lambda *_: None)
    given = star(tmp_path, size).particles
    assert main(["train3d", "--particles", given, "--poses", str(tmp_path), "--out", str(tmp_path / "x"), *more]) == 0
    assert begun[0].training.band_shells == band


@pytest.mark.parametrize("cut", range(4))
def test_a_long_optics_table_is_read_to_its_last_whole_line(tmp_path, cut):
    path = star(tmp_path, 256, 256, 256).particles
    head = STAR.index("{rows}") + len("1 256\n2 256\n3 25") - cut
    assert optics_image_px(Path(path), head) == 256
