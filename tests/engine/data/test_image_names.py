"""Image names: which file, which image, or a sentence."""
import gzip

import numpy as np
import pytest
from particle_files import loaded, noise_images, optics_columns, particle_columns, write_stack, write_star
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data import image_names
from vaegan_engine.data.image_names import split_names
from vaegan_engine.data.prepared_images import open_cache
from vaegan_engine.data.star_files import read_star

N, D = 4, 8


def star_with(folder, names, **optics):
    columns = {**particle_columns(len(names)), "rlnImageName": names}
    return write_star(folder / "p.star", columns, {**optics_columns(), **optics})


@pytest.mark.parametrize("kind", ["stack", "volume", "mixed"])
def test_a_name_without_number_of_several_images_is_refused(tmp_path, kind):
    for i in range(N):
        n_images = 1 if kind == "mixed" and i != 2 else D if kind == "volume" else 5
        write_stack(tmp_path / f"{i}.mrc", noise_images(n_images, D, i))
    with pytest.raises(DataError, match="without the number of an image, and the file holds") as caught:
        loaded(star_with(tmp_path, [f"{i}.mrc" for i in range(N)]))
    assert f"particle row {3 if kind == 'mixed' else 1}" in str(caught.value)


def test_rows_that_are_not_in_use_do_not_count(tmp_path):
    for i in range(N):
        write_stack(tmp_path / f"{i}.mrc", noise_images(5 if i == 3 else 1, D, i))
    assert len(loaded(star_with(tmp_path, [f"{i}.mrc" for i in range(N)]), max_images=3)) == 3


@pytest.mark.parametrize("dimensions", [3, 2])
def test_dimensions_are_read(tmp_path, dimensions):
    write_stack(tmp_path / "s.mrcs", noise_images(N, D))
    star = star_with(tmp_path, [f"{i + 1}@s.mrcs" for i in range(N)], rlnImageDimensionality=[dimensions])
    if dimensions == 2:
        assert len(loaded(star)) == N
    else:
        with pytest.raises(DataError, match="rlnImageDimensionality is 3 in particle row 1: these are no 2D images"):
            loaded(star)


@pytest.mark.parametrize("written", ["s.mrcs:mrcs", ">s.mrcs", ">s.mrcs:mrc", "./../in/s.mrcs", "s.mrcs"])
def test_names_as_other_programs_write_them(tmp_path, written):
    write_stack(tmp_path / "in/s.mrcs", noise_images(N, D))
    table = loaded(star_with(tmp_path / "in", [f"{i + 1}@{written}" for i in range(N)]))
    assert table.headers[0].path.samefile(tmp_path / "in/s.mrcs")


def test_a_file_of_that_very_name_comes_first(tmp_path):
    write_stack(tmp_path / "s.mrcs:mrcs", noise_images(N, D))
    write_stack(tmp_path / "s.mrcs", noise_images(N - 1, D))
    assert loaded(star_with(tmp_path, ["4@s.mrcs:mrcs"])).headers[0].n_images == N


@pytest.mark.parametrize("beside", ["file", "link"])
def test_a_linked_star_file(tmp_path, beside):
    (tmp_path / "real").mkdir()
    (tmp_path / "view").mkdir()
    write_stack(tmp_path / ("real" if beside == "file" else "view") / "J1/s.mrcs", noise_images(N, D))
    star = star_with(tmp_path / "real", [f"{i + 1}@J1/s.mrcs" for i in range(N)])
    (tmp_path / "view/p.star").symlink_to(star)
    assert len(loaded(tmp_path / "view/p.star")) == N


def test_a_compressed_stack_is_named_as_one(tmp_path):
    stack = write_stack(tmp_path / "s.mrcs", noise_images(N, D))
    (tmp_path / "s.mrcs.gz").write_bytes(gzip.compress(stack.read_bytes()))
    with pytest.raises(DataError, match=r"s\.mrcs\.gz: the stack is compressed \(gzip\)"):
        loaded(star_with(tmp_path, ["1@s.mrcs.gz"]))


def test_rows_of_one_image_share_a_half_set_and_are_said(tmp_path):
    write_stack(tmp_path / "s.mrcs", noise_images(3, D))
    names = [f"{1 + i % 3:06d}@s.mrcs" for i in range(24)]
    table = loaded(star_with(tmp_path, names))
    for image in range(3):
        assert len(set(table.half_set[image::3])) == 1
    assert "21 rows name an image that another row names too; they are kept in one half set." in table.notes[0]
    backwards = loaded(write_star(tmp_path / "q.star", {**particle_columns(24), "rlnImageName": names[::-1],
                                                        "vaeParticleId": range(24, 0, -1)}, optics_columns()))
    np.testing.assert_array_equal(backwards.half_set[::-1], table.half_set)
    prepared = open_cache(DataConfig(particles=str(tmp_path / "q.star"), box_px=8), tmp_path / "cache", False)
    for made in (backwards, prepared):
        np.testing.assert_array_equal(made.twin_id[::-1], 1 + np.arange(24) % 3)
    stated = loaded(write_star(tmp_path / "r.star", {**particle_columns(24), "rlnImageName": names,
                                                     "rlnRandomSubset": [1, 2] * 12}, optics_columns()))
    assert stated.half_set.tolist() == [1, 2] * 12
    assert "12 of them lie in the other half set, so the half sets are not independent" in stated.notes[0]


@pytest.mark.parametrize("spelling", ["./s.mrcs", "sub/../s.mrcs", "link.mrcs", "linked/s.mrcs", "{folder}/s.mrcs"])
def test_another_spelling_of_a_file_names_the_same_images(tmp_path, spelling):
    """Through links, too; a row of one file alone is no copy."""
    write_stack(tmp_path / "s.mrcs", noise_images(40, D))
    write_stack(tmp_path / "t.mrcs", noise_images(40, D, 1))
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.mrcs").symlink_to(tmp_path / "s.mrcs")
    (tmp_path / "linked").symlink_to(tmp_path)
    other = spelling.format(folder=tmp_path)
    names = [f"{i + 1}@{stack}" for stack in ("s.mrcs", other, "t.mrcs") for i in range(40)]
    table = loaded(star_with(tmp_path, names))
    assert table.twin_id.tolist() == [*range(1, 41)] * 2 + [*range(81, 121)]
    assert (table.half_set[:40] == table.half_set[40:80]).all()
    assert any("40 rows name an image that another row names too" in note for note in table.notes)


def test_a_stack_that_no_row_in_use_names_may_be_forbidden(tmp_path, monkeypatch):
    write_stack(tmp_path / "s.mrcs", noise_images(N, D))

    def locate(stacks, star):
        if "secret.mrcs" in stacks:
            raise DataError("secret.mrcs may not be read.", "Ask for it.")
        return [tmp_path / name for name in stacks], []

    monkeypatch.setattr(image_names, "locate_stacks", locate)
    star = star_with(tmp_path, ["1@s.mrcs", "2@s.mrcs", "1@secret.mrcs"])
    assert loaded(star, max_images=2).twin_id.tolist() == [1, 2]
    with pytest.raises(DataError, match="may not be read"):
        loaded(star)


def test_a_file_of_one_image_is_its_first(tmp_path):
    write_stack(tmp_path / "one.mrc", noise_images(1, D))
    assert loaded(star_with(tmp_path, ["one.mrc", "1@./one.mrc"])).twin_id.tolist() == [1, 1]


def test_the_first_of_the_same_image_is_that_of_lowest_id(tmp_path):
    names = ["2@a.mrcs", "1@a.mrcs", "2@b.mrcs", "2@a.mrcs", "b.mrcs", "2@a.mrcs"]
    first = split_names(read_star(star_with(tmp_path, names))).first_of_same(np.array([9, 1, 2, 5, 4, 7]))
    assert first.tolist() == [3, 1, 2, 3, 4, 3]
