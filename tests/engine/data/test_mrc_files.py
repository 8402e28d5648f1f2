"""MRC maps and stacks, judged by mrcfile, and every refusal."""
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data import mrc_files, stacks


def cube(d=9, seed=0):
    return np.random.default_rng(seed).normal(size=(d, d, d)).astype(np.float32)


@pytest.mark.parametrize("d", [8, 9])
def test_map_round_trip(tmp_path, d, capsys):
    path = tmp_path / "new folder" / "map.mrc"
    mrc_files.write_map(path, cube(d).astype(np.float64), 2.5)
    array, voxel_size_ang = mrc_files.read_map(path)
    np.testing.assert_array_equal(array, cube(d))
    assert array.dtype == np.float32
    assert voxel_size_ang == pytest.approx(2.5, rel=1e-6)
    assert mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        assert mrc.is_volume()
        assert mrc.header.dmin == cube(d).min()
        assert mrc.header.rms == pytest.approx(cube(d).std(), rel=1e-5)
    assert [child.name for child in path.parent.iterdir()] == ["map.mrc"]


def test_stack_in_blocks(tmp_path, capsys):
    images = np.random.default_rng(1).normal(size=(5, 7, 7)).astype(np.float32)
    path = tmp_path / "s.mrcs"
    with mrc_files.StackWriter(path, 5, 7, 3.0) as writer:
        writer.append(images[:2])
        assert not path.exists()
        writer.append(images[2:])
    assert mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        assert mrc.is_image_stack()
        np.testing.assert_array_equal(mrc.data, images)
        assert mrc.voxel_size.x == pytest.approx(3.0)
        assert mrc.voxel_size.z == pytest.approx(3.0)
    assert stacks.read_header(path).n_images == 5


def write_two_of_five(path, stop):
    with mrc_files.StackWriter(path, 5, 7, 3.0) as writer:
        writer.append(np.zeros((2, 7, 7), np.float32))
        if stop:
            raise RuntimeError("stop")


def test_nothing_half_written(tmp_path):
    with pytest.raises(RuntimeError, match="stop"):
        write_two_of_five(tmp_path / "s.mrcs", stop=True)
    with pytest.raises(ValueError, match="2 of 5"):
        write_two_of_five(tmp_path / "s.mrcs", stop=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_a_sentence(tmp_path):
    """The part file is a link to a device that is always full."""
    (tmp_path / "s.mrcs.tmp").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"s\.mrcs: cannot be written \(No space left"):
        mrc_files.write_stack(tmp_path / "s.mrcs", np.zeros((30, 70, 70), np.float32), 3.0)
    assert list(tmp_path.iterdir()) == []


def test_axis_order_of_the_file_does_not_matter(tmp_path):
    """A file stored with x slowest and z fastest is the same map."""
    path = tmp_path / "turned.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.ascontiguousarray(cube().transpose(2, 1, 0)))
        mrc.voxel_size = 2.0
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 2, 1
    np.testing.assert_array_equal(mrc_files.read_map(path)[0], cube())


def test_refused_maps(tmp_path):
    path = tmp_path / "map.mrc"

    def write(array, voxel_size=2.0):
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(array)
            mrc.voxel_size = voxel_size

    with pytest.raises(DataError, match="cannot be read"):
        mrc_files.read_map(tmp_path / "none.mrc")
    path.write_text("no map")
    with pytest.raises(DataError, match=r"map\.mrc"):
        mrc_files.read_map(path)
    write(np.zeros((4, 5, 6), np.float32))
    with pytest.raises(DataError, match="6 x 5 x 4 voxels, it must be a cube"):
        mrc_files.read_map(path)
    broken = cube()
    broken[1, 2, 3] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN"):
        write(broken)
    with pytest.raises(DataError, match="1 of 729 values"):
        mrc_files.read_map(path)
    write(cube(), 0.0)
    with pytest.raises(DataError, match="voxel size is 0 A"):
        mrc_files.read_map(path)
    write(cube(), (2.0, 2.0, 3.0))
    with pytest.raises(DataError, match="2 x 2 x 3 A"):
        mrc_files.read_map(path)
    write(cube())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="truncated"):
        mrc_files.read_map(path)


def test_refused_arrays(tmp_path):
    path = tmp_path / "map.mrc"
    with pytest.raises(DataError, match="must be a cube"):
        mrc_files.write_map(path, np.zeros((2, 3, 3)), 1.0)
    with pytest.raises(DataError, match="NaN or infinite"):
        mrc_files.write_map(path, np.full((2, 2, 2), np.inf), 1.0)
    with pytest.raises(DataError, match="greater than 0"):
        mrc_files.write_stack(path, np.zeros((2, 2, 2)), -1.0)
    assert list(tmp_path.iterdir()) == []
