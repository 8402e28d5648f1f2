"""Records to JSON and back, strictly: one dataclass per kind of object in a results file, read by both processes.

The fields of a frozen dataclass are the keys of its object. A key that is unknown or missing, or a value of another
type, is an error that names the file and the key. Standard library only, Python 3.8 syntax.

* An ``Optional`` field whose default is None is left out of the file where it is None.
* ``named`` gives a field another key, where that is no Python name.
* ``inlined`` writes the keys of a record (or of a dictionary, then all that are left) into the object around it.
"""
from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Dict, List, Literal, Mapping, Sequence, Tuple, Type, TypeVar, Union

from . import result_files
from .errors import DataError, EngineError
from .setting import not_a_choice

T = TypeVar("T")
_UNIONS = (Union, getattr(types, "UnionType", Union))  # Optional[T], and T | None from Python 3.10 on
_NAMED, _INLINED = "named", "inlined"
_AGAIN = "Run the command that makes it again; use a plugin and an engine of the same release."


def named(key: str, **more: Any) -> Any:
    """Field of a record under the key ``key``; ``more`` as of ``dataclasses.field``."""
    return dataclasses.field(metadata={_NAMED: key}, **more)


def inlined(**more: Any) -> Any:
    """Field of a record whose keys stand in the object around it; ``more`` as of ``dataclasses.field``."""
    return dataclasses.field(metadata={_INLINED: True}, **more)


def to_json(record: Any) -> Dict[str, Any]:
    """Plain JSON values of a record (inverse of ``from_json``)."""
    values: Dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if value is None and item.default is None:
            continue
        if item.metadata.get(_INLINED):
            values.update(_plain(value))
        else:
            values[_key(item)] = _plain(value)
    return values


def from_json(cls: Type[T], values: Any, where: str, error: Type[EngineError] = DataError) -> T:
    """A record from plain JSON values, strictly; ``where``: the file, for the message.

    Raises ``error`` on an unknown or missing key, a wrong type or a value outside its choices.
    """
    if not isinstance(values, dict):
        raise error(f"{where}: expected an object, got {type(values).__name__}.",
                    "Write the section as a JSON object { ... }.")
    left = dict(values)
    record = _taken(cls, left, where, error)
    if left:
        raise error(f"{where}: unknown key '{min(left)}'.", f"Known keys: {', '.join(sorted(_keys(cls)))}.")
    return record


def read_record(cls: Type[T], path: result_files.PathLike, command: str) -> T:
    """The record in a file; ``command``: what makes it. Raises DataError."""
    return from_json(cls, _read(path, command), str(path))


def read_records(cls: Type[T], path: result_files.PathLike, command: str) -> List[T]:
    """The list of records in a file; ``command``: what makes it. Raises DataError."""
    values = _read(path, command)
    if not isinstance(values, list):
        raise DataError(f"{path}: expected a list, got {type(values).__name__}.", _AGAIN)
    return [from_json(cls, value, f"{path}, entry {place}") for place, value in enumerate(values)]


def write_record(path: result_files.PathLike, record: Any) -> None:
    """Write a record atomically."""
    result_files.write_json(path, to_json(record))


def write_records(path: result_files.PathLike, records: Sequence[Any]) -> None:
    """Write a list of records atomically."""
    result_files.write_json(path, [to_json(record) for record in records])


def _read(path: result_files.PathLike, command: str) -> Any:
    try:
        return result_files.read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: it cannot be read ({error}).", f"Run vaegan {command} first.") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _key(item: Any) -> str:
    return str(item.metadata.get(_NAMED, item.name))


@functools.lru_cache(maxsize=None)
def _hints(cls: Any) -> Dict[str, Any]:
    return typing.get_type_hints(cls)


def _without_none(kind: Any) -> Tuple[Any, bool]:
    """The type behind an Optional, and whether it was one."""
    if typing.get_origin(kind) in _UNIONS and type(None) in typing.get_args(kind):
        return next(one for one in typing.get_args(kind) if one is not type(None)), True
    return kind, False


def _own_keys(cls: Type[Any]) -> List[str]:
    """Keys that tell whether an inlined record is there: those it must have, which others do not share; else all."""
    must = [_key(item) for item in dataclasses.fields(cls) if not item.metadata.get(_INLINED) and _is_needed(item)]
    return must or _keys(cls)


def _is_needed(item: "dataclasses.Field[Any]") -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _keys(cls: Type[Any]) -> List[str]:
    """Keys of a record; those of a dictionary that is inlined are not known."""
    keys: List[str] = []
    for item in dataclasses.fields(cls):
        kind, _ = _without_none(_hints(typing.cast(Any, cls))[item.name])
        if not item.metadata.get(_INLINED):
            keys.append(_key(item))
        elif dataclasses.is_dataclass(kind):
            keys += _keys(typing.cast(Any, kind))
    return keys


def _taken(cls: Type[T], values: Dict[str, Any], where: str, error: Type[EngineError]) -> T:
    """A record from those of ``values`` that are its own, which are taken out."""
    given: Dict[str, Any] = {}
    for item in dataclasses.fields(typing.cast(Any, cls)):
        kind, optional = _without_none(_hints(typing.cast(Any, cls))[item.name])
        if item.metadata.get(_INLINED):
            if not dataclasses.is_dataclass(kind):
                given[item.name] = _checked(kind, dict(values), where, error)
                values.clear()
            elif not optional or not set(_own_keys(typing.cast(Any, kind))).isdisjoint(values):
                given[item.name] = _taken(typing.cast(Any, kind), values, where, error)
        elif _key(item) in values:
            whole = _hints(typing.cast(Any, cls))[item.name]
            given[item.name] = _checked(whole, values.pop(_key(item)), f"{where}: {_key(item)}", error)
        elif _is_needed(item):
            raise error(f"{where}: the key '{_key(item)}' is missing.", _AGAIN)
    return cls(**given)


def _checked(kind: Any, value: Any, where: str, error: Type[EngineError]) -> Any:
    """A value as a field of type ``kind`` holds it."""
    kind, optional = _without_none(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or (optional and value is None):
        return value
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast(Any, kind), value, where, error)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != isinstance(args[0], bool):
            raise error(*not_a_choice(where, value, args))
        return value
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise error(f"{where} is {value!r}, of type {type(value).__name__}.", "Give a list [ ... ].")
        return origin(_checked(args[0], one, where, error) for one in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise error(f"{where} is {value!r}, of type {type(value).__name__}.", "Give an object { ... }.")
        return {args[0](key): _checked(args[1], one, f"{where}: {key}", error) for key, one in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise error(f"{where} is {value!r}, of type {type(value).__name__}.",
                    f"Give a value of type {kind.__name__}.")
    return value
