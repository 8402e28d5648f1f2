"""STAR text: every row of the file is there, with its own text, or the file is refused with the line."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from particle_files import (
    loaded,
    noise_images,
    optics_columns,
    particle_columns,
    star_block,
    write_particles,
    write_stack,
    write_star,
)
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data import star_text
from vaegan_engine.data.star_files import read_star
from vaegan_engine.data.star_text import StarBlock, encoded, read_blocks, write_blocks

value = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(value, value, value), min_size=1, max_size=6))
def test_any_text_comes_back_as_it_went_in(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("star") / "p.star"
    rows = [row for row in rows if not any(f"{a} " in text for text in row for a in "'\"")]  # STAR cannot hold both
    columns = {name: encoded([row[i] for row in rows]) for i, name in enumerate("abc")}
    if not rows:
        return
    write_blocks([StarBlock("p", columns), StarBlock("q", {"k": encoded([rows[0][0]])}, is_loop=False)], path)
    (loop, pair), _ = read_blocks(path)
    assert [tuple(row) for row in zip(*(loop.text(name) for name in "abc"), strict=True)] == rows
    assert pair.text("k") == [rows[0][0]] and not pair.is_loop


def test_a_file_that_is_read_and_written_keeps_every_value_of_every_block(tmp_path):
    text = ("# version 30001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   1 # yes\n# a comment\n_rlnName 'a b'\n\n"
            "data_optics\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n01 3.000000e+02\n\n"
            "data_particles\nloop_\n_rlnImageName #1\n# between columns\n_rlnTomoName #2\n_rlnX #3\n"
            "1@O'Neil/s.mrcs 001 2.5e-07\n2@\"my\" \"grid #2\" 'x y'  # whole\n\n3@d#2/s.mrcs 1e5 "
            "1234567890123456789\n")
    (tmp_path / "a.star").write_text(text)
    blocks, _ = read_blocks(tmp_path / "a.star")
    write_blocks(blocks, tmp_path / "b.star")
    again, _ = read_blocks(tmp_path / "b.star")
    assert [block.name for block in again] == ["general", "optics", "particles"]
    for one, other in zip(blocks, again, strict=True):
        assert {k: v.tolist() for k, v in one.columns.items()} == {k: v.tolist() for k, v in other.columns.items()}
    assert blocks[0].text("rlnName") == ["a b"] and blocks[1].columns["rlnOpticsGroup"].tolist() == [b"01"]
    assert blocks[2].text("rlnImageName") == ["1@O'Neil/s.mrcs", '2@"my"', "3@d#2/s.mrcs"]
    assert blocks[2].text("rlnTomoName") == ["001", "grid #2", "1e5"]
    assert blocks[2].columns["rlnX"].tolist() == [b"2.5e-07", b"'x y'", b"1234567890123456789"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_line_ends_and_encodings(tmp_path, line_end, encoding):
    star = write_particles(tmp_path)
    text = "# 2 Å/px, µm\n" + star.read_text().replace("_rlnImageName #1", "_rlnImageName #1\n_rlnGroupName #9")
    text = text.replace("@particles.mrcs ", "@particles.mrcs grün ")
    star.write_bytes(text.replace("\n", line_end).encode(encoding))
    table = read_star(star)
    assert len(table) == 6 and len(loaded(star)) == 6
    assert [name.encode("utf-8", "surrogateescape") for name in table.text("rlnGroupName")] == 6 * [
        "grün".encode("latin-1" if encoding == "latin-1" else "utf-8")]


def test_a_stack_whose_name_is_not_utf_8_is_found(tmp_path):
    star = write_particles(tmp_path)
    name = b"pr\xf6be.mrcs"
    (tmp_path / "particles.mrcs").rename(tmp_path / name.decode("utf-8", "surrogateescape"))
    star.write_bytes(star.read_bytes().replace(b"particles.mrcs", name))
    assert loaded(star).headers[0].n_images == 6


@pytest.mark.parametrize("name", ["grid#2/s.mrcs", "O'Neil/s.mrcs", 'a"b/s.mrcs', "data_1/s.mrcs", "me@lab/s.mrcs",
                                  "my dir/s.mrcs"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_names_that_mean_something_in_star(tmp_path, name, place):
    write_stack(tmp_path / name, noise_images(4, 8))
    columns = particle_columns(4, name)
    quoted = [f'"{x}"' if " " in x else x for x in columns.pop("rlnImageName")]
    groups = {"rlnGroupName": ["data_a", "loop_", "_b", "data_"]}
    columns = ({**groups, "rlnImageName": quoted, **columns} if place == "first" else
               {**columns, **groups, "rlnImageName": quoted})
    table = loaded(write_star(tmp_path / "p.star", columns, optics_columns()))
    np.testing.assert_array_equal(table.slice_index, np.arange(4))
    assert table.headers[0].path.samefile(tmp_path / name)
    assert read_star(tmp_path / "p.star").text("rlnGroupName") == groups["rlnGroupName"]


def test_rows_of_one_column_that_begin_with_data(tmp_path):
    path = tmp_path / "p.star"
    path.write_text("data_a\nloop_\n_rlnImageName #1\ndata_x/s.mrcs\ndata_y\ndata_z\n\n"
                    "data_b\nloop_\n_rlnX #1\nloop_\n1\n")
    (a, b), _ = read_blocks(path)
    assert a.text("rlnImageName") == ["data_x/s.mrcs", "data_y", "data_z"]
    assert b.text("rlnX") == ["loop_", "1"]


@pytest.mark.parametrize(("text", "words"), [
    ("data_p\nloop_\n_a #1\n_b #2\n1 2\ndata_p\nloop_\n_a #1\n3\n",
     "line 6: the block data_p was there before, in line 1"),
    ("data_p\nloop_\n_a #1\n_b #2\n1 2\n3\n", "line 6: 1 values in a row of block data_p, which has 2 columns"),
    ("data_p\nloop_\n_a #1\n_b #2\n1 2\n3 4 5\n", "line 6: 3 values"),
    ("data_p\nloop_\n_a #1\n_a #2\n1 2\n", "line 4: the column _a is there twice"),
    ("data_p\nloop_\n_a #1\n_b #2\n1 2\nloop_\n_c #1\n3\n", "line 6: a second loop in block data_p"),
    ("data_p\n_a 1\nloop_\n_c #1\n3\n", "line 3: a loop in block data_p, which holds single values"),
    ("data_p\n_a 1 2\n", "line 2: '_a 1 2' is no pair"),
    ("hello\n", "line 1: 'hello' stands in no block"),
    ("data_p\n_a 1\nhello\n", "line 3: 'hello' stands in no block"),
    ("data_p\n_a 1\n\0", "zero bytes")])
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "p.star").write_text(text)
    with pytest.raises(DataError, match="cannot be read as a STAR file") as caught:
        read_blocks(tmp_path / "p.star")
    assert words in str(caught.value) and caught.value.hint


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n_columns=st.integers(1, 4))
def test_rows_are_those_counted_in_the_text(data, n_columns, tmp_path_factory):
    """Every line that is neither blank nor a comment is a row, whatever its values look like."""
    word = st.text(st.sampled_from("ab1#'\"_;@"), min_size=1, max_size=4).filter(lambda x: x[0] not in "#'\"")
    lines = data.draw(st.lists(st.one_of(st.just(""), st.just("  # note"), st.lists(
        st.one_of(word, st.just("data_x")), min_size=n_columns, max_size=n_columns).map(" ".join)), max_size=8))
    lines = [line for line in lines if not (n_columns == 1 and line[:5] in ("data_", "loop_")) and line[:1] != "_"]
    path = tmp_path_factory.mktemp("star") / "p.star"
    head = "".join(f"_c{i}\n" for i in range(n_columns))
    path.write_text(f"data_p\nloop_\n{head}" + "\n".join(lines))
    counted = [line.split() for line in lines if line.strip() and line.strip()[0] != "#"]
    (block,), _ = read_blocks(path)
    assert len(block) == len(counted)
    for i in range(n_columns):
        assert [x.decode() for x in block.columns[f"c{i}"].tolist()] == [row[i] for row in counted]


def test_long_files_are_read_and_written_in_parts(tmp_path):
    n = 2 * star_text.ROWS_AT_ONCE + 30
    columns = {"rlnA": list(range(n)), "rlnB": [10 ** (i % 12) for i in range(n)]}
    (tmp_path / "p.star").write_text(star_block("p", columns))
    blocks, _ = read_blocks(tmp_path / "p.star")
    write_blocks(blocks, tmp_path / "q.star")
    again, _ = read_blocks(tmp_path / "q.star")
    for block in (*blocks, *again):
        assert block.text("rlnA") == [str(i) for i in range(n)]
        assert block.text("rlnB") == [str(x) for x in columns["rlnB"]]


def test_starfile_reads_what_we_write(tmp_path):
    """Independent oracle."""
    import starfile

    write_blocks([StarBlock("optics", {"rlnOpticsGroup": encoded(["1"])}),
                  StarBlock("particles", {"rlnImageName": encoded(["1@a b.mrcs", "2@c.mrcs"]),
                                          "rlnX": encoded(["1", "2"])})], tmp_path / "p.star")
    read = starfile.read(tmp_path / "p.star", always_dict=True)
    assert read["particles"]["rlnImageName"].tolist() == ["1@a b.mrcs", "2@c.mrcs"]
    assert read["particles"]["rlnX"].tolist() == [1, 2] and "# version 30001" in (tmp_path / "p.star").read_text()


# ------------------------------- optics and particles -------------------------------
def test_optics_are_the_block_of_that_name(tmp_path):
    """A block of micrographs with optics groups of its own stands before it."""
    star = write_particles(tmp_path)
    micrographs = star_block("micrographs", {"rlnMicrographName": ["a", "b"], "rlnOpticsGroup": [1, 1],
                                             "rlnVoltage": [100.0] * 2, "rlnImagePixelSize": [9.0] * 2})
    star.write_text(micrographs + star.read_text())
    table = loaded(star)
    assert table.pixel_size_ang == 2.0 and (table.ctf[:, 3] == 300).all()


def test_two_blocks_of_images_need_the_name(tmp_path):
    star = write_particles(tmp_path)
    other = star_block("classes", {"rlnImageName": ["1@x.mrcs"]})
    star.write_text(other + star.read_text())
    assert len(read_star(star)) == 6
    star.write_text(star.read_text().replace("data_particles", "data_images"))
    with pytest.raises(DataError, match="'classes', 'images' all have the column rlnImageName"):
        read_star(star)


def test_an_optics_block_without_groups_is_refused(tmp_path):
    write_stack(tmp_path / "particles.mrcs", noise_images(2, 8))
    star = write_star(tmp_path / "p.star", particle_columns(2), {"rlnVoltage": [300.0]})
    with pytest.raises(DataError, match="data_optics has no column rlnOpticsGroup"):
        read_star(star)


@pytest.mark.parametrize("ids", [[2 ** 62 + 1, 2 ** 62 + 3, 2 ** 62 + 2], [1234567890123456789 + i for i in range(3)],
                                 [2 ** 63 - 1, 0, 7]])
def test_ids_keep_all_their_digits(tmp_path, ids):
    write_stack(tmp_path / "particles.mrcs", noise_images(3, 8))
    star = write_star(tmp_path / "p.star", {**particle_columns(3), "vaeParticleId": ids}, optics_columns())
    assert loaded(star).particle_id.tolist() == ids


@pytest.mark.parametrize("text", [str(2 ** 63), "1.5", "x", "1_0", "9007199254740993.5", "nan", ""])
def test_ids_that_are_none_are_refused(tmp_path, text):
    write_stack(tmp_path / "particles.mrcs", noise_images(3, 8))
    ids = ["1", text or '""', "3"]
    star = write_star(tmp_path / "p.star", {**particle_columns(3), "vaeParticleId": ids}, optics_columns())
    with pytest.raises(DataError, match=f"vaeParticleId {text} in particle row 2 is no whole number"):
        loaded(star)


def test_whole_numbers_with_a_point_are_ids(tmp_path):
    write_stack(tmp_path / "particles.mrcs", noise_images(3, 8))
    ids = ["7.0", "9007199254740993.000", "'9'"]
    star = write_star(tmp_path / "p.star", {**particle_columns(3), "vaeParticleId": ids}, optics_columns())
    assert loaded(star).particle_id.tolist() == [7, 9007199254740993, 9]


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.text(st.sampled_from("a1 \t#'"), max_size=6), min_size=1, max_size=6))
def test_values_are_counted_line_by_line(lines):
    text = "\n".join(lines).encode()
    if text:
        assert star_text._value_counts(text).tolist() == [len(line.split()) for line in lines]
