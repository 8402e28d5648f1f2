"""truth.csv as people write it: the same states, or a sentence that names row and value."""
import codecs
import re

import numpy as np
import pytest
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data.particle_tables import read_truth

PLAIN = "id,map\n" + "".join(f"{i + 1},{i // 3}\n" for i in range(6))


@pytest.mark.parametrize("text", [
    PLAIN, PLAIN.replace("\n", "\r\n"), PLAIN.replace(",", ", "), PLAIN.replace(",", " , "), PLAIN + "\n\n",
    codecs.BOM_UTF8.decode() + PLAIN, PLAIN.replace("id,map", "particle_id, state"),
    "map,id\n" + "".join(f"{i // 3},{i + 1:06d}\n" for i in range(6))])
def test_the_same_states(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    truth = read_truth(tmp_path / "t.csv")
    assert truth.particle_id.tolist() == [1, 2, 3, 4, 5, 6]
    assert truth.label.tolist() == [0, 0, 0, 1, 1, 1] and truth.names == ["0", "1"]


def test_names_of_states_may_hold_commas_and_other_letters(tmp_path):
    (tmp_path / "t.csv").write_bytes('id,state\n1,"closed, bent"\n2,β-sheet\n3,"closed, bent"\n'.encode())
    truth = read_truth(tmp_path / "t.csv")
    assert [truth.names[k] for k in truth.label] == ["closed, bent", "β-sheet", "closed, bent"]


@pytest.mark.parametrize(("change", "words"), [
    (("6,1", "6,"), "map is empty in row 6 (particle 6)"), (("6,1", "6, "), "map is empty in row 6"),
    (("6,1", "6"), "row 6 has another number of values"), (("6,1", "6,1,2"), "row 6 has another number of values"),
    (("6,1", "6.0,1"), "id is '6.0' in row 6, it must be a whole number"), (("6,1", ",1"), "id is '' in row 6"),
    (("6,1", f"{2 ** 63},1"), "it must be a whole number"), (("6,1", "6,01"), "map is 1 and 01, which are one number"),
    (("6,1", "5,1"), "particle 5 is there 2 times"), ((",", ";"), "separated by commas"),
    ((PLAIN, "id,map\n"), "at least one row"), ((PLAIN, ""), "at least one row"), (("id,", "nr,"), "columns nr, map")])
def test_what_is_refused(tmp_path, change, words):
    (tmp_path / "t.csv").write_text(PLAIN.replace(*change))
    with pytest.raises(DataError, match=re.escape(words)):
        read_truth(tmp_path / "t.csv")


def test_bytes_that_are_no_utf_8_are_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("id,map\n1,grün\n".encode("latin-1"))
    with pytest.raises(DataError, match="the truth cannot be read"):
        read_truth(tmp_path / "t.csv")


def test_ids_keep_all_their_digits(tmp_path):
    ids = [2 ** 63 - 1, 2 ** 62 + 1, -3]
    result_files.write_csv(tmp_path / "t.csv", ["id", "map"], [[i, 0] for i in ids])
    np.testing.assert_array_equal(read_truth(tmp_path / "t.csv").particle_id, ids)


def test_junk_is_the_last_state(tmp_path):
    """The order of the others is that of their maps."""
    (tmp_path / "t.csv").write_text("id,state\n1,tilted\n2,junk\n3,closed\n4,open\n")
    truth = read_truth(tmp_path / "t.csv")
    assert truth.names == ["closed", "open", "tilted", "junk"] and truth.label.tolist() == [2, 3, 0, 1]
