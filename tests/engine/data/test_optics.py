"""Meanings of RELION's columns: unit, sign and size of what the CTF is made of, and what is said of the rest."""
import re

import mrcfile
import numpy as np
import pytest
from particle_files import loaded, noise_images, optics_columns, particle_columns, write_star
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data.star_files import RelionTable

N, D = 6, 8
U, V = (np.array(particle_columns(N)[name]) for name in ("rlnDefocusU", "rlnDefocusV"))


def star_of(folder, columns=None, optics=None, apix=2.0):
    with mrcfile.new(folder / "particles.mrcs", noise_images(N, D), overwrite=True) as stack:
        stack.set_image_stack()
        stack.voxel_size = apix
    return write_star(folder / "p.star", {**particle_columns(N), **(columns or {})},
                      {**optics_columns(), **(optics or {})})


def defocus(factor):
    return {"rlnDefocusU": list(factor * U), "rlnDefocusV": list(factor * V)}


@pytest.mark.parametrize(("columns", "optics", "words"), [
    (defocus(1e-4), {}, "are 1 and 0.9 in particle row 1 (6 such rows), all are below 100 A: they seem to be micro"),
    (defocus(-1), {}, "RELION's defocus is positive for underfocus"), (defocus(0), {}, "no defocus was measured"),
    (defocus(100), {}, "the limit is 200000 A (20 um)"),
    ({"rlnDefocusU": [*U[:5], 0.0], "rlnDefocusV": [*V[:5], 0.0]}, {}, "are 0 and 0 in particle row 6 (1 such rows)"),
    ({}, {"rlnSphericalAberration": [2.7e7]}, "rlnSphericalAberration is 2.7e+07 in particle row 1, it must"),
    ({}, {"rlnAmplitudeContrast": [7]}, "rlnAmplitudeContrast is 7"), ({}, {"rlnAmplitudeContrast": [-0.1]}, "is -0.1"),
    ({}, {"rlnVoltage": [300000]}, "rlnVoltage is 300000")])
def test_another_unit_or_sign_is_refused(tmp_path, columns, optics, words):
    with pytest.raises(DataError, match=re.escape(words)):
        loaded(star_of(tmp_path, columns, optics))


@pytest.mark.parametrize(("columns", "optics"), [
    ({"rlnDefocusU": list(V), "rlnDefocusV": list(U)}, {}), ({}, {"rlnSphericalAberration": [0.0]}),
    ({}, {"rlnVoltage": [100.0]}), ({"rlnPhaseShift": [90.0] * N}, {}),
    ({**defocus(0), "rlnPhaseShift": [90.0] * N}, {}), (defocus(0), {"rlnAmplitudeContrast": [1.0]}),
    ({}, {"rlnBeamTiltX": [0.0], "rlnMagMat00": [1.0], "rlnMagMat01": [0.0], "rlnOddZernike": ["[0,0]"]}),
    ({"rlnCtfBfactor": [0.0] * N, "rlnCtfScalefactor": [1.0] * N}, {})])
def test_what_is_right_is_taken_without_a_word(tmp_path, columns, optics):
    assert loaded(star_of(tmp_path, columns, optics)).notes == ()


@pytest.mark.parametrize(("columns", "optics", "words"), [
    (defocus(0.1), {}, "the defocus is at most 1005 A (0.10 um), unusually near to focus"),
    ({"rlnPhaseShift": [1.57] * N}, {}, "rlnPhaseShift reaches 1.57; it is read as degrees"),
    ({"rlnCtfBfactor": [100.0] * N, "rlnCtfScalefactor": [0.5] * N}, {}, "B-factors of the CTF, scale factors"),
    ({}, {"rlnBeamTiltX": [1.0], "rlnBeamTiltY": [-0.5]}, "ignored, as the model has no place for it: the beam tilt."),
    ({"rlnBeamTiltX": [0.0] * 5 + [0.2]}, {}, "the beam tilt"),
    ({}, {"rlnMagMat00": [1.05], "rlnMagMat01": [0.0]}, "the magnification matrix"),
    ({}, {"rlnMagMat00": [1.0], "rlnMagMat01": [0.01]}, "the magnification matrix"),
    ({}, {"rlnOddZernike": ["[0,0.3,0]"]}, "higher aberrations")])
def test_what_is_ignored_or_doubtful_is_said(tmp_path, columns, optics, words):
    (note,) = loaded(star_of(tmp_path, columns, optics)).notes
    assert words in note and note.startswith(str(tmp_path / "p.star"))


def test_rows_that_are_not_in_use_do_not_count(tmp_path):
    star = star_of(tmp_path, {"rlnDefocusU": [*U[:5], 0.0], "rlnDefocusV": [*V[:5], 0.0]})
    assert len(loaded(star, max_images=5)) == 5 and len(loaded(star, ignore_ctf=True)) == N


# ------------------------------- pixel sizes -------------------------------
def test_two_old_pixel_sizes_that_disagree_are_refused(tmp_path):
    columns = {**particle_columns(N), "rlnPixelSize": [1.0] * N, "rlnDetectorPixelSize": [4.0] * N,
               "rlnMagnification": [10000.0] * N, "rlnVoltage": [300.0] * N, "rlnSphericalAberration": [2.7] * N,
               "rlnAmplitudeContrast": [0.1] * N}
    star_of(tmp_path)
    with pytest.raises(DataError, match=r"rlnPixelSize is 1 A and rlnDetectorPixelSize .* 4 A in particle row 1"):
        loaded(write_star(tmp_path / "p.star", columns))
    columns["rlnPixelSize"] = [4.003] * N
    star_of(tmp_path, apix=4.0)
    assert loaded(write_star(tmp_path / "p.star", columns)).notes == ()


def test_another_column_beside_the_one_that_decides_is_said(tmp_path):
    table = loaded(star_of(tmp_path, {"rlnPixelSize": [1.0] * N}))
    assert table.pixel_size_ang == 2.0 and len(table.notes) == 1
    assert "rlnImagePixelSize is 2 A and rlnPixelSize 1 A in particle row 1: rlnImagePixelSize" in table.notes[0]


@pytest.mark.parametrize(("apix", "is_said"), [(2.0, False), (2.01, False), (1.0, False), (0.0, False), (4.0, True)])
def test_the_header_of_a_stack(tmp_path, apix, is_said):
    table = loaded(star_of(tmp_path, apix=apix))
    assert table.pixel_size_ang == 2.0
    assert ["is 2 A by the star file and 4 A by the header" in note for note in table.notes] == [True] * is_said


# ------------------------------- half sets -------------------------------
@pytest.mark.parametrize(("values", "words"), [
    ([0, 1, 0, 1, 1, 0], "is 0 and 1: taken as half sets 1 and 2"), ([1] * N, "holds 1, which is no split into"),
    ([0, 1, 2, 0, 1, 2], "holds 0, 1, 2, which is no split"), ([1, 2, 3, 4, 5, 6], "holds 1, 2, 3, 4, 5, ..., which")])
def test_other_half_sets_are_said(tmp_path, values, words):
    table = loaded(star_of(tmp_path, {"rlnRandomSubset": values}))
    assert words in table.notes[0] and set(table.half_set) <= {1, 2}
    if "taken" in words:
        assert table.half_set.tolist() == [value + 1 for value in values]


def test_a_column_that_is_ignored_is_read_once(tmp_path, monkeypatch):
    """Not once for every particle, which takes days for a million of them."""
    read, text = [], RelionTable.text
    monkeypatch.setattr(RelionTable, "text", lambda table, name: (read.append(name), text(table, name))[1])
    table = loaded(star_of(tmp_path, {"rlnCtfBfactor": [0.0] * 5 + [40.0]}))
    assert any("ignored" in note for note in table.notes)
    assert read.count("rlnCtfBfactor") <= 2
