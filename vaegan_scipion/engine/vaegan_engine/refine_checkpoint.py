"""Checkpoints of ``refine``: what every finished step made, so that a stopped refinement goes on from there.

``checkpoints/NAME.npz`` holds the value of one step: its arrays, and how they belong together as JSON in the array
``_value``. Nothing is pickled. ``checkpoints/settings.json`` says what the steps were made with; they are of use to
the same settings and particles alone, wherever these lie. The steps go when the refinement is finished.

A step's value is read back before it is used. So a refinement that was stopped anywhere ends in the same bits as
one that was not (on a CPU, with the same number of threads).
"""
from __future__ import annotations

import dataclasses
import json
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from . import contract, results
from .abinitio import Tried
from .cache import ParticleCache, digest
from .contract import RefineRun, TrainRun
from .divide import State
from .errors import ConfigError, DataError, StoppedError
from .frames import Laid
from .motion import Motion
from .polish import Assignment, Halves

T = TypeVar("T")
SETTINGS_JSON = "settings.json"
UNDER_WAY_SECONDS = 20.0  # between two checkpoints inside a step
_TYPES = {cls.__name__: cls for cls in (Tried, State, Assignment, Halves, Laid, Motion)}
_VALUE = "_value"


def settings_of(run: RefineRun, train: TrainRun, cache: ParticleCache, maps: Tensor | None) -> dict[str, Any]:
    """All that a result depends on: settings, how the images were prepared, particles, maps to start from.

    Paths, device and number of threads are left out: a folder may be moved, and go on elsewhere.
    """
    values = contract.to_dict(run)
    values = {name: value for name, value in values.items() if name not in ("run_dir", "clusters_dir", "compute")}
    data = contract.to_dict(train.data)
    return {**values, "seed": run.compute.seed,
            **{f"data.{name}": value for name, value in data.items() if name not in ("particles", "stack")},
            "max_shift_frac": train.model.max_shift_frac, "n_particles": len(cache), "box_px": cache.box_px,
            "particles": cache.digest(),
            "maps of the clusters": "none" if maps is None else digest(maps.cpu().numpy())}


class Checkpoints:
    """The finished steps of one refinement."""

    def __init__(self, out_dir: Path, settings: dict[str, Any], device: torch.device, resume: bool) -> None:
        """Begin anew, or with ``resume`` go on with the steps that are there.

        Raises ConfigError where they were made with other settings.
        """
        self.folder, self.device, self._saved = out_dir / results.CHECKPOINTS, device, time.monotonic()
        path = self.folder / SETTINGS_JSON
        if resume and path.exists():
            stored = results.read_json(path)
            for name in sorted({*stored, *settings}):
                if stored.get(name) != settings.get(name):
                    raise ConfigError(f"{path}: the refinement was begun with {name} {stored.get(name)}, now it is "
                                      f"{settings.get(name)}.",
                                      "Continue with what it was begun with, or refine into a new folder.")
            return
        (out_dir / results.STATUS_JSON).unlink(missing_ok=True)
        self.clear()
        results.write_json(path, settings)

    def finished(self) -> bool:
        """Whether the whole refinement is."""
        path = self.folder.parent / results.STATUS_JSON
        return path.exists() and results.read_json(path).get("state") == "finished"

    def names(self) -> list[str]:
        """Steps that are there, the oldest first."""
        return [path.stem for path in sorted(self.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)]

    def step(self, name: str, make: Callable[[], T], rng: torch.Generator | None = None) -> T:
        """The value of a step: read where the step was finished before, else made and stored.

        ``rng`` is stored with it: what comes after draws the same numbers.
        """
        if not self._path(name).exists():
            self.write(name, (make(), None if rng is None else rng.get_state()))
        value, state = cast(Any, self.read(name))
        if rng is not None:
            rng.set_state(state.cpu())
        return cast(T, value)

    def under_way(self, name: str, value: Callable[[], Any]) -> None:
        """Store where a step is, if the last checkpoint is ``UNDER_WAY_SECONDS`` old."""
        if time.monotonic() - self._saved >= UNDER_WAY_SECONDS:
            self.write(name, value())

    def write(self, name: str, value: Any) -> None:
        """Store a value of tensors, arrays, plain values, and lists, tuples, dictionaries and states of them."""
        arrays: dict[str, np.ndarray] = {}
        shape = json.dumps(_packed(value, arrays))
        results.write_npz(self._path(name), **arrays, **{_VALUE: np.frombuffer(shape.encode(), np.uint8)})
        self._saved = time.monotonic()

    def read(self, name: str) -> Any:
        """A stored value, its tensors on the device; None where there is none. Raises DataError."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            arrays = results.read_npz(path)
            return _unpacked(json.loads(arrays[_VALUE].tobytes()), arrays, self.device)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: the checkpoint cannot be read ({error}).",
                            "Delete it and continue from the one before, or refine anew.") from error

    def drop(self, name: str) -> None:
        """Forget a step."""
        self._path(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all steps."""
        for path in (*self.folder.glob("*.npz"), *self.folder.glob("*.tmp")):
            path.unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


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


@contextmanager
def stoppable(out_dir: Path) -> Iterator[None]:
    """SIGTERM and SIGINT end what is under way at once, with StoppedError; ``status.json`` says so."""
    caught: list[int] = []

    def stop(number: int, _: Any) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt as interrupt:
        number = caught[0] if caught else signal.SIGINT
        error = StoppedError(f"Stopped by {signal.Signals(number).name}; the checkpoints are kept.",
                             "Continue with --resume.", int(number))
        results.update_status(out_dir, state="stopped", error={
            "code": error.exit_code, "message": error.message, "hint": error.hint})
        raise error from interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
