"""The box that is taken where nobody names one."""
from dataclasses import replace

import pytest
from vaegan_engine.cli.main import box_was_asked_for
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data.fitting_box import fitting_box, optics_image_px

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
    assert box_was_asked_for(values, settings) == asked
