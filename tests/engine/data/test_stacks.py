"""MRC stacks: every mode and byte order, memory, damage."""
import tracemalloc

import mrcfile
import numpy as np
import pytest
from particle_files import MODES, noise_images, write_stack
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data import stacks


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("extended_bytes", [0, 240])
@pytest.mark.parametrize("d", [8, 9])
def test_every_mode_and_byte_order_gives_the_values_written(tmp_path, mode, order, extended_bytes, d):
    dtype = np.dtype(MODES[mode])
    rng = np.random.default_rng(mode)
    images = (rng.normal(size=(5, d, d)) if dtype.kind == "f" else
              rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (5, d, d), endpoint=True)).astype(dtype)
    header = stacks.read_header(write_stack(tmp_path / "s.mrcs", images, mode, order, extended_bytes))
    assert (header.n_images, header.ny, header.nx) == (5, d, d)
    made = stacks.read_images([header], np.zeros(4, int), np.array([3, 0, 3, 4]))
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, images[[3, 0, 3, 4]].astype(np.float32))


def test_a_stack_written_by_mrcfile_agrees(tmp_path):
    """Independent oracle: mrcfile writes, the engine reads."""
    images = noise_images(3, 10)
    with mrcfile.new(tmp_path / "m.mrcs") as stream:
        stream.set_data(images)
    header = stacks.read_header(tmp_path / "m.mrcs")
    np.testing.assert_array_equal(stacks.read_images([header], np.zeros(3, int), np.arange(3)), images)


def test_rows_of_several_stacks_come_in_the_rows_order(tmp_path):
    all_images = [noise_images(4, 8, seed) for seed in range(3)]
    headers = [stacks.read_header(write_stack(tmp_path / f"{i}.mrcs", images))
               for i, images in enumerate(all_images)]
    stack, image = np.array([2, 0, 1, 2, 0]), np.array([3, 1, 0, 0, 2])
    made = stacks.read_images(headers, stack, image)
    np.testing.assert_array_equal(made, [all_images[s][i] for s, i in zip(stack, image, strict=True)])


def test_a_large_stack_is_read_in_bounded_memory(tmp_path):
    """200 MiB on paper (a sparse file); reading 20 images must not cost more than a few of them."""
    d, n = 256, 800
    path = write_stack(tmp_path / "big.mrcs", np.zeros((1, d, d), np.float32))
    raw = bytearray(path.read_bytes()[:1024])
    raw[8:12] = np.array(n, "<i4").tobytes()
    with open(path, "wb") as stream:
        stream.write(raw)
        stream.truncate(1024 + n * d * d * 4)
    tracemalloc.start()
    made = stacks.read_images([stacks.read_header(path)], np.zeros(20, int), np.arange(0, n, 40))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.shape == (20, d, d)
    assert peak_bytes < 3 * made.nbytes


@pytest.mark.parametrize("cut_bytes", [1, 400, 8 * 8 * 4 * 2 + 5])
def test_a_truncated_stack_is_refused_with_its_counts(tmp_path, cut_bytes):
    path = write_stack(tmp_path / "cut.mrcs", noise_images(5, 8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut_bytes])
    with pytest.raises(DataError, match=r"cut\.mrcs: the stack is truncated.*promises 5 images"):
        stacks.read_header(path)


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"\0" * 2000, b"text " * 400])
def test_what_is_no_stack_is_refused(tmp_path, content):
    path = tmp_path / "odd.mrcs"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.mrcs"):
        stacks.read_header(path)


def test_a_mode_that_cannot_be_read_is_refused(tmp_path):
    path = write_stack(tmp_path / "complex.mrcs", noise_images(1, 8))
    raw = bytearray(path.read_bytes())
    raw[12:16] = np.array(4, "<i4").tobytes()
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"complex\.mrcs.*12 = float16"):
        stacks.read_header(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_not_finite_is_named(tmp_path, value):
    images = noise_images(5, 8)
    images[3, 2, 1] = value
    header = stacks.read_header(write_stack(tmp_path / "n.mrcs", images))
    with pytest.raises(DataError, match=r"n\.mrcs: image 4 has 1 values"):
        stacks.read_images([header], np.zeros(5, int), np.arange(5))
    stacks.read_images([header], np.zeros(3, int), np.arange(3))  # the others are fine


def test_large_values_are_not_taken_for_infinite(tmp_path):
    images = np.full((2, 8, 8), 3e38, np.float32)
    header = stacks.read_header(write_stack(tmp_path / "l.mrcs", images))
    np.testing.assert_array_equal(stacks.read_images([header], np.zeros(2, int), np.arange(2)), images)


def test_boxes_must_be_square_and_equal(tmp_path):
    a = stacks.read_header(write_stack(tmp_path / "a.mrcs", np.zeros((1, 8, 8))))
    b = stacks.read_header(write_stack(tmp_path / "b.mrcs", np.zeros((1, 10, 10))))
    c = stacks.read_header(write_stack(tmp_path / "c.mrcs", np.zeros((1, 8, 10))))
    assert stacks.common_box_px([a, a]) == 8
    with pytest.raises(DataError, match=r"b\.mrcs: the images are 10 pixels wide"):
        stacks.common_box_px([a, b])
    with pytest.raises(DataError, match=r"c\.mrcs: the images are 10 x 8"):
        stacks.common_box_px([c])


SIGNED = np.clip(np.round(40 * noise_images(5, 9)), -127, 127).astype(np.int8)


def bytes_with_header(path, pixels, stamp=None, statistics=(0, 0), order="<"):
    """A stack of mode 0 with IMOD's stamp (stamp, flags) and smallest and largest value."""
    raw = bytearray(write_stack(path, np.zeros_like(SIGNED), 0, order).read_bytes())
    raw[1024:] = pixels.tobytes()
    raw[76:84] = np.array(statistics, order + "f4").tobytes()
    if stamp is not None:
        raw[152:160] = np.array(stamp, order + "i4").tobytes()
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("is_unsigned", "stamp", "statistics"), [
    (True, (1146047817, 0), (0, 0)), (True, (1146047817, 6), (0, 0)), (True, None, (1, 255)), (True, None, (0, 128)),
    (False, (1146047817, 1), (1, 255)), (False, None, (-3, 255)), (False, None, (0, 0)), (False, None, (0, 127)),
    (False, None, (0, -1)), (False, None, (0, 1e9))])
def test_bytes_are_unsigned_where_the_header_says_so(tmp_path, order, is_unsigned, stamp, statistics):
    pixels = (SIGNED.astype(np.int16) + 128).astype(np.uint8) if is_unsigned else SIGNED
    path = bytes_with_header(tmp_path / "b.mrcs", pixels, stamp, statistics, order)
    made = stacks.read_images([stacks.read_header(path)], np.zeros(5, int), np.arange(5))
    np.testing.assert_array_equal(made, pixels)


def test_a_map_of_unsigned_bytes(tmp_path):
    """The same rule for maps."""
    from vaegan_engine.data.mrc_files import read_map

    cube = np.arange(729).reshape(9, 9, 9).astype(np.uint8)
    path = tmp_path / "m.mrc"
    with mrcfile.new(path, cube.view(np.int8)) as stored:
        stored.voxel_size = 2.0
    raw = bytearray(path.read_bytes())
    raw[152:160] = np.array((1146047817, 0), "<i4").tobytes()
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_map(path)[0], cube)


def test_the_pixel_size_of_the_header(tmp_path):
    with mrcfile.new(tmp_path / "m.mrcs", noise_images(3, 10)) as stored:
        stored.set_image_stack()
        stored.voxel_size = 1.35
    assert stacks.read_header(tmp_path / "m.mrcs").pixel_size_ang == pytest.approx(1.35)
    assert stacks.read_header(write_stack(tmp_path / "n.mrcs", noise_images(3, 10))).pixel_size_ang == 0
