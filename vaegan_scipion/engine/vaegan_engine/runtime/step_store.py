"""Values of finished steps: what every step made, so that a stopped run goes on from there.

``checkpoints/NAME.npz`` holds the value of one step: its arrays, and how they belong together as JSON in the array
``_value``. Nothing is pickled. ``checkpoints/settings.json`` says what the steps were made with; they are of use to
the same settings and particles alone, wherever these lie. The steps go when the refinement is finished.

A step's value is read back before it is used. So a refinement that was stopped anywhere ends in the same bits as
one that was not (on a CPU). Of several processes the first one reads and writes, and tells the others.
"""
from __future__ import annotations

import dataclasses
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ..contract import records, result_files
from ..contract.errors import ConfigError, DataError
from ..contract.status import mend_status, read_status
from . import processes
from .place import is_first

T = TypeVar("T")
SETTINGS_JSON = "settings.json"
UNDER_WAY_SECONDS = 20.0  # between two checkpoints inside a step
# dataclasses that a step's value may hold, by name: the records of results, and those marked ``stored``
_TYPES: dict[str, type] = {name: kind for name, kind in vars(records).items()
                           if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
_VALUE = "_value"


def stored(cls: type[T]) -> type[T]:
    """Decorator of a dataclass that a step's value may hold; it is stored under its name."""
    _TYPES[cls.__name__] = cls
    return cls


class Checkpoints:
    """The finished steps of one refinement."""

    def __init__(self, out_dir: Path, settings: dict[str, Any], device: torch.device, resume: bool) -> None:
        """Begin anew, or with ``resume`` go on with the steps that are there.

        Raises ConfigError where they were made with other settings.
        """
        self.folder, self.device, self._saved = out_dir / result_files.CHECKPOINTS, device, time.monotonic()
        path = self.folder / SETTINGS_JSON
        if not is_first():
            return
        if resume and path.exists():
            mend_status(out_dir)
            stored = _stored_settings(path)
            for name in sorted({*stored, *settings}):
                if stored.get(name) != settings.get(name):
                    raise ConfigError(f"{path}: the refinement was begun with {name} {stored.get(name)}, now it is "
                                      f"{settings.get(name)}.",
                                      "Continue with what it was begun with, or start in a new folder.")
            return
        (out_dir / result_files.STATUS_JSON).unlink(missing_ok=True)
        self.clear()
        result_files.write_json(path, settings)

    def finished(self) -> bool:
        """Whether the whole refinement is."""
        return processes.agreed(read_status(self.folder.parent).finished)

    def names(self) -> list[str]:
        """Steps that are there, the oldest first."""
        return [path.stem for path in sorted(self.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)]

    def step(self, name: str, make: Callable[[], T], rng: torch.Generator | None = None) -> T:
        """The value of a step: read where the step was finished before, else made and stored.

        ``rng`` is stored with it: what comes after draws the same numbers.
        """
        if not processes.agreed(self._path(name).exists()):
            self.write(name, (make(), None if rng is None else rng.get_state()))
        value, state = cast(Any, self.read(name))
        if rng is not None:
            rng.set_state(state.cpu())
        return cast(T, value)

    def under_way(self, name: str, value: Callable[[], Any], after_seconds: float = UNDER_WAY_SECONDS) -> None:
        """Store where a step is, if the last checkpoint is ``after_seconds`` old."""
        if is_first() and time.monotonic() - self._saved >= after_seconds:
            self.write(name, value())

    def write(self, name: str, value: Any) -> None:
        """Store a value of tensors, arrays, plain values, and lists, tuples, dictionaries and states of them."""
        if not is_first():
            return
        arrays: dict[str, np.ndarray] = {}
        shape = json.dumps(_packed(value, arrays))
        result_files.write_npz(self._path(name), **arrays, **{_VALUE: np.frombuffer(shape.encode(), np.uint8)})
        self._saved = time.monotonic()

    def read(self, name: str) -> Any:
        """A stored value, its tensors on the device; None where there is none. Raises DataError."""
        path = self._path(name)
        try:
            # a mark before what is there: a file that a power cut left empty is not one that was never written
            values = processes.told(b"." + path.read_bytes() if is_first() and path.exists() else b"")
            if not values:
                return None
            with np.load(io.BytesIO(values[1:]), allow_pickle=False) as found:
                arrays = {array: found[array] for array in found.files}
            return _unpacked(json.loads(arrays[_VALUE].tobytes()), arrays, self.device)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: the checkpoint cannot be read ({error}).",
                            "Delete it and continue from the one before, or start anew.") from error

    def drop(self, name: str) -> None:
        """Forget a step."""
        if is_first():
            self._path(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all steps."""
        if not is_first():
            return
        for path in (*self.folder.glob("*.npz"), *self.folder.glob("*.tmp")):
            path.unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def _stored_settings(path: Path) -> dict[str, Any]:
    """What the steps were made with. Raises DataError."""
    try:
        return dict(result_files.read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: the settings of the checkpoints cannot be read ({error}).",
                        "Start anew, without --resume.") from error


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON; its arrays go to ``arrays`` under numbers."""
    if isinstance(value, (Tensor, np.ndarray)):
        name, kind = f"array_{len(arrays)}", "tensor" if isinstance(value, Tensor) else "array"
        arrays[name] = value.cpu().numpy() if isinstance(value, Tensor) else value
        return {"kind": kind, "of": name}
    if dataclasses.is_dataclass(value):
        fields = {field.name: _packed(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "of": fields}
    if isinstance(value, dict):
        return {"kind": "dict", "of": {name: _packed(item, arrays) for name, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"kind": type(value).__name__, "of": [_packed(item, arrays) for item in value]}
    return {"kind": "plain", "of": value}


def _unpacked(node: dict[str, Any], arrays: dict[str, np.ndarray], device: torch.device) -> Any:
    kind, of = node["kind"], node["of"]
    if kind == "plain":
        return of
    if kind == "array":
        return arrays[of]
    if kind == "tensor":
        return torch.from_numpy(arrays[of]).to(device)
    if kind in ("list", "tuple"):
        items = [_unpacked(item, arrays, device) for item in of]
        return tuple(items) if kind == "tuple" else items
    named = {name: _unpacked(item, arrays, device) for name, item in of.items()}
    return named if kind == "dict" else _TYPES[kind](**named)
