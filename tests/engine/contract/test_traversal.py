"""Points of a traversal, and the pictures that results name, are read or the file is named."""
import mrcfile
import numpy as np
import pytest
from vaegan_engine.contract.analysis_records import TraversalPoint, read_traversal
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.result_files import TRAVERSAL_CSV, read_picture

HEADER = "cluster,component,point,position,n_near,distance_z,file,index,z_1\n"


def test_rows_are_points(tmp_path):
    (tmp_path / TRAVERSAL_CSV).write_text(HEADER + "0,1,2,-0.5,7,0.25,maps/images.mrcs,3,0.1\n")
    assert read_traversal(tmp_path) == [TraversalPoint(0, 1, 2, -0.5, 7, 0.25, "maps/images.mrcs", 3)]


@pytest.mark.parametrize("text", ["", HEADER + "0,1,2\n", HEADER + "0,1,two,-0.5,7,0.25,a.mrc,0,0.1\n",
                                  "cluster,point\n0,1\n"])
def test_a_cut_table_is_named(tmp_path, text):
    if text:
        (tmp_path / TRAVERSAL_CSV).write_text(text)
    with pytest.raises(DataError, match=TRAVERSAL_CSV):
        read_traversal(tmp_path)


@pytest.mark.parametrize(("name", "shape"), [("map.mrc", (4, 4, 4)), ("one.mrcs", (4, 4)), ("many.mrcs", (4, 4))])
def test_a_map_is_read_whole_and_one_image_of_a_stack(tmp_path, name, shape):
    stored = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    with mrcfile.new(tmp_path / name) as mrc:
        mrc.set_data(stored[:1] if name == "one.mrcs" else stored)
    picture = read_picture(tmp_path / name, 2 if name == "many.mrcs" else 0)
    np.testing.assert_array_equal(picture, {"map.mrc": stored, "one.mrcs": stored[0], "many.mrcs": stored[2]}[name])
    assert picture.shape == shape


def test_a_picture_that_is_not_there_is_named(tmp_path):
    with mrcfile.new(tmp_path / "two.mrcs") as mrc:
        mrc.set_data(np.zeros((2, 4, 4), np.float32))
    for name, index in (("gone.mrc", 0), ("two.mrcs", 2)):
        with pytest.raises(DataError, match=name):
            read_picture(tmp_path / name, index)
