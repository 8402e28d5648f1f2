"""Records go to JSON and back unchanged; a file that is not what it should be is refused by file and key."""
from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, replace

import made_records
import pytest
from vaegan_engine.contract import records
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.map_records import PlaneFigures
from vaegan_engine.contract.record import (
    from_json,
    inlined,
    named,
    read_record,
    read_records,
    to_json,
    write_record,
    write_records,
)


@dataclass(frozen=True)
class Inner:
    share: float
    kind: str = named("what.kind")


@dataclass(frozen=True)
class Outer:
    name: str
    counts: list[int]
    agreement: float | None  # may be null
    inner: Inner = inlined()
    note: str | None = None  # may be missing
    beside: Inner | None = None
    by_label: dict[int, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Open:
    kimg: float
    losses: dict[str, float] = inlined()


WHOLE = Outer("a", [1, 2], None, Inner(0.5, "x"), "n", Inner(1.0, "y"), {-1: 0.25})
VALUES = {"name": "a", "counts": [1, 2], "agreement": None, "share": 0.5, "what.kind": "x", "note": "n",
          "beside": {"share": 1.0, "what.kind": "y"}, "by_label": {"-1": 0.25}}


def test_the_object_is_what_the_fields_say():
    assert to_json(WHOLE) == VALUES
    assert from_json(Outer, json.loads(json.dumps(VALUES)), "file") == WHOLE
    bare = replace(WHOLE, note=None, beside=None, by_label={})
    assert "note" not in to_json(bare) and "beside" not in to_json(bare)
    assert from_json(Outer, to_json(bare), "file") == bare


def test_a_dictionary_that_is_inlined_takes_what_is_left():
    values = {"kimg": 1, "critic_loss": 0.5}
    assert from_json(Open, values, "log") == Open(1.0, {"critic_loss": 0.5})
    assert to_json(Open(1.0, {"critic_loss": 0.5})) == values
    with pytest.raises(DataError, match="log: critic_loss is 'high', of type str"):
        from_json(Open, {"kimg": 1, "critic_loss": "high"}, "log")


@pytest.mark.parametrize(("changes", "words"), [
    ({"more": 1}, "f.json: unknown key 'more'"),
    ({"name": ...}, "f.json: the key 'name' is missing"),
    ({"what.kind": ...}, "f.json: the key 'what.kind' is missing"),
    ({"name": 3}, "f.json: name is 3, of type int"),
    ({"share": True}, "f.json: share is True, of type bool"),
    ({"counts": 3}, "f.json: counts is 3, of type int"),
    ({"counts": [1, "b"]}, "f.json: counts is 'b', of type str"),
    ({"beside": {"share": 1.0}}, r"f.json: beside: the key 'what.kind' is missing"),
    ({"by_label": [1]}, "f.json: by_label is")])
def test_what_does_not_fit_is_named_by_file_and_key(changes, words):
    values = {key: value for key, value in {**VALUES, **changes}.items() if value is not ...}
    with pytest.raises(DataError, match=words):
        from_json(Outer, values, "f.json")
    with pytest.raises(ConfigError, match=words):
        from_json(Outer, values, "f.json", ConfigError)


def test_files(tmp_path):
    write_record(tmp_path / "one.json", WHOLE)
    write_records(tmp_path / "many.json", [WHOLE, WHOLE])
    assert read_record(Outer, tmp_path / "one.json", "cluster") == WHOLE
    assert read_records(Outer, tmp_path / "many.json", "cluster") == [WHOLE, WHOLE]
    with pytest.raises(DataError, match=r"many\.json: expected an object, got list"):
        read_record(Outer, tmp_path / "many.json", "cluster")
    with pytest.raises(DataError, match=r"one\.json: expected a list, got dict"):
        read_records(Outer, tmp_path / "one.json", "cluster")
    with pytest.raises(DataError, match=r"none\.json: it cannot be read .* Run vaegan cluster first"):
        read_record(Outer, tmp_path / "none.json", "cluster")


@pytest.mark.parametrize("record", [
    made_records.comparison(), made_records.halves_row(1, made_records.comparison()), made_records.state_row(0, 5, 0.5),
    made_records.cluster_row(2), made_records.clustering(sweep=[records.SweepRow(15, 3, 3, 0.1, 1.0, [1])]),
    made_records.states_summary(junk=made_records.junk_numbers(3, 0.1), landscapes=[made_records.landscape(2)])],
    ids=lambda record: type(record).__name__)
def test_every_record_comes_back(record):
    assert from_json(type(record), json.loads(json.dumps(to_json(record))), "file") == record


def test_every_field_of_the_records_has_a_type_that_is_checked():
    """Keys are found once, so that no inlined record hides another's."""
    plain = {int, float, str, bool}

    def checked(kind):
        arguments = [one for one in typing.get_args(kind) if one is not type(None)]
        if typing.get_origin(kind) is typing.Literal:
            return all(isinstance(one, str) for one in arguments)
        return kind in plain or dataclasses.is_dataclass(kind) or (bool(arguments) and all(map(checked, arguments)))

    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    assert len(kinds) > 20
    for kind in kinds:
        assert all(map(checked, typing.get_type_hints(kind).values())), kind


def test_optional_records_that_share_a_key_are_told_apart():
    """A class in the plane has a ``box_px``, as a state has: it was read as a state that lacks its files."""
    plane = PlaneFigures("", 2, 6.0, [1.0, 0.5], 3.0, 12.0, 14.0, box_px=33)
    row = records.ClusterRow(0, 10, 1.0, [], "averages.mrcs", 0, in_plane=plane)
    read = from_json(records.ClusterRow, to_json(row), "clusters.json")
    assert read == row and read.state is None
