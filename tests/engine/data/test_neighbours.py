"""Where neighbours stand, by the coordinates of a star file."""
from __future__ import annotations

import numpy as np
import pytest
from vaegan_engine.data.neighbours import N_NEAR, neighbours_ang
from vaegan_engine.data.star_files import read_star

OPTICS = """data_optics

loop_
_rlnOpticsGroup
_rlnImagePixelSize
{column}
1 3.0 {size}

"""


def star(tmp_path, rows, columns, size="1.5", column="_rlnMicrographOriginalPixelSize"):
    text = OPTICS.format(column=column, size=size) if column else "data_optics\n\nloop_\n_rlnOpticsGroup\n1\n\n"
    text += "data_particles\n\nloop_\n_rlnImageName\n_rlnOpticsGroup\n" + "".join(f"_{name}\n" for name in columns)
    text += "".join(f"{k + 1}@a.mrcs 1 {row}\n" for k, row in enumerate(rows))
    (tmp_path / "particles.star").write_text(text)
    return read_star(tmp_path / "particles.star")


PLACES = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")


def test_vectors_to_the_others_of_the_micrograph(tmp_path):
    table = star(tmp_path, ["b.mrc 100 100", "a.mrc 10 20", "b.mrc 140 70", "a.mrc 900 20", "c.mrc 10 20"], PLACES)
    near, said = neighbours_ang(table, np.arange(5), 192.0)
    assert near.shape == (5, N_NEAR, 2) and near.dtype == np.float32 and len(said) == 1
    np.testing.assert_allclose(near[0, 0], (60, -45))
    np.testing.assert_allclose(near[2, 0], (-60, 45))
    assert np.isfinite(near[..., 0]).sum() == 2  # those of a.mrc stand too far apart
    np.testing.assert_array_equal(neighbours_ang(table, np.array([2]), 192.0)[0], near[2:3])  # the others still count


@pytest.mark.parametrize(("origins", "unit"), [(("rlnOriginXAngst", "rlnOriginYAngst"), 1.0),
                                               (("rlnOriginX", "rlnOriginY"), 3.0)])
def test_particles_stand_off_the_middle_of_their_boxes(tmp_path, origins, unit):
    """The neighbour lies at minus its origin of its box; the middle of the own image is that of its box."""
    table = star(tmp_path, ["m 100 100 2 -4", "m 140 100 -6 8"], (*PLACES, *origins))
    near, _ = neighbours_ang(table, np.arange(2), 192.0)
    np.testing.assert_allclose(near[0, 0], (60 + 6 * unit, -8 * unit))
    np.testing.assert_allclose(near[1, 0], (-60 - 2 * unit, 4 * unit))


def test_the_nearest_count_and_copies_take_no_place(tmp_path):
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 100, (30, 2)).round(2)
    rows = [f"m {x} {y}" for x, y in np.concatenate((places, places[:6]))]
    near, _ = neighbours_ang(star(tmp_path, rows, PLACES), np.arange(36), 300.0)
    apart = 1.5 * (places - places[0])
    expected = apart[np.argsort(np.linalg.norm(apart, axis=1))][1:]
    got = {tuple(vector) for vector in near[0].round(1)}
    assert got <= {tuple(vector) for vector in expected[:N_NEAR].astype(np.float32).round(1)}
    assert len(got) >= N_NEAR - 3 and not np.isnan(near[0]).any()


def test_pixel_sizes_of_the_micrograph(tmp_path):
    rows = ["m 100 100", "m 140 100"]
    given, nothing = neighbours_ang(star(tmp_path, rows, PLACES), np.arange(2), 500.0, 3.0)
    binned, nothing_too = neighbours_ang(star(tmp_path, rows, PLACES, "2.0", "_rlnMicrographPixelSize"), np.arange(2),
                                         500.0)
    assert given[0, 0, 0] == 120 and binned[0, 0, 0] == 80 and nothing == nothing_too == []
    of_movies, said = neighbours_ang(star(tmp_path, rows, PLACES), np.arange(2), 500.0)
    assert of_movies[0, 0, 0] == 60  # RELION's particles have the movies' alone, which may have been binned
    assert "rlnMicrographOriginalPixelSize, 1.5 A" in said[0] and "--micrograph-pixel-size-ang" in said[0]
    assert neighbours_ang(star(tmp_path, rows, PLACES), np.arange(2), 1.0) == (None, [])
    unknown, said = neighbours_ang(star(tmp_path, rows, PLACES, column=""), np.arange(2), 500.0)
    assert unknown is None and "--micrograph-pixel-size-ang" in said[0]


@pytest.mark.parametrize("columns", [("rlnCoordinateX", "rlnCoordinateY"), ("rlnMicrographName", "rlnCoordinateX")])
def test_without_places_nothing_is_known(tmp_path, columns):
    rows = [" ".join(["5"] * len(columns))] * 2
    assert neighbours_ang(star(tmp_path, rows, columns), np.arange(2), 192.0) == (None, [])


def test_a_place_that_is_no_number_is_nobody(tmp_path):
    near, _ = neighbours_ang(star(tmp_path, ["m 100 100", "m nan 100", "m 130 100"], PLACES), np.arange(3), 192.0)
    assert np.isfinite(near[:, :, 0]).sum(axis=1).tolist() == [1, 0, 1]
    alone, _ = neighbours_ang(star(tmp_path, ["m 100 100", "m <NA> 100"], PLACES), np.arange(2), 192.0)
    assert alone is None


def test_a_micrographs_pixel_size_that_is_no_number_refuses_nobody(tmp_path):
    table = star(tmp_path, ["m 100 100", "m 140 100"], PLACES, "None", "_rlnMicrographPixelSize")
    near, said = neighbours_ang(table, np.arange(2), 500.0)
    assert near is None and "--micrograph-pixel-size-ang" in said[0]
