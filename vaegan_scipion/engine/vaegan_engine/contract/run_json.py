"""Reads and writes ``run.json``, strictly."""
from __future__ import annotations

import dataclasses
import json
import os
import typing
from pathlib import Path
from typing import Any, Callable, Dict, Type, TypeVar, Union

from . import result_files, run_json
from .errors import ConfigError, DataError
from .record import from_json
from .setting import described
from .settings import CONTRACT_VERSION, RUN_TYPES, AnyRun, TrainRun


def read_training(run_dir: str | Path) -> TrainRun:
    """Settings of the training in a folder. Raises ConfigError or DataError.

    One that was begun before there was ``penalty_every`` had a penalty in every step.
    """
    path = Path(run_dir) / result_files.RUN_JSON
    run = run_json.read_run(path)
    if not isinstance(run, TrainRun):
        raise DataError(f"{run_dir}: its run.json is a '{run.command}', not a training.",
                        "Give the --out folder of train3d or train2d.")
    if not run.data.posed and "penalty_every" not in json.loads(path.read_text()).get("training", {}):
        run = dataclasses.replace(run, training=dataclasses.replace(run.training, penalty_every=1))
    return run


RESUMED_WITH_OTHERS = ("batch_size", "critic_lr", "generator_lr", "voxel_lr", "encoder_lr", "lr_final_frac", "lr_decay",
                       "lr_decay_kimg", "tick_kimg", "checkpoint_kimg")

T = TypeVar("T")


def from_dict(cls: Type[T], values: Dict[str, Any], where: str = "run.json") -> T:
    """Build a config dataclass from plain JSON values, strictly.

    Raises ConfigError on an unknown key, a wrong type or a value outside its choices.
    """
    return from_json(cls, values, where, ConfigError)


def to_dict(run: Any) -> Dict[str, Any]:
    """Plain JSON values of a config dataclass (inverse of ``from_dict``)."""
    return dataclasses.asdict(run)


def kept_on_resume(run: TrainRun) -> Dict[str, Any]:
    """By name, what a training that goes on from a checkpoint must have in common with the one that made it.

    Left out: paths, lengths, where to compute, and ``RESUMED_WITH_OTHERS``.
    """
    values = to_dict(run)
    kept = {"command": run.command, "seed": run.compute.seed}
    for part, free in (("data", ("particles", "stack", "prepared_dir")), ("model", ()),
                       ("training", ("total_kimg", "encoder_kimg", "continue_from", *RESUMED_WITH_OTHERS))):
        kept.update({f"{part}.{name}": value for name, value in values[part].items() if name not in free})
    return kept


def merged(values: Dict[str, Any], changes: Dict[str, Any]) -> Dict[str, Any]:
    """``values`` with the nested ``changes`` laid over it; neither is changed."""
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = (merged(old, value) if isinstance(old, dict) and isinstance(value, dict)
                       else value)
    return result


def read_run(path: Union[str, Path]) -> AnyRun:
    """Read a ``run.json`` and make its paths absolute. Raises ConfigError."""
    path = Path(path)
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}).",
                          "Give the results folder of a vaegan command, or a run.json.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object.", "See docs/reference/contract.rst.")
    version = values.get("contract_version")
    if version != CONTRACT_VERSION:
        raise ConfigError(f"{path}: contract_version is {version!r}, this engine reads {CONTRACT_VERSION}.",
                          "Use a plugin and an engine of the same release.")
    command = values.get("command")
    if command not in RUN_TYPES:
        raise ConfigError(f"{path}: command is {command!r}.",
                          f"Choose one of {', '.join(sorted(RUN_TYPES))}.")
    return typing.cast(AnyRun, _with_paths(
        from_dict(RUN_TYPES[command], values, str(path)), lambda found: _absolute(found, path.parent)))


def write_run(run: AnyRun, path: Union[str, Path]) -> Path:
    """Write ``run`` as JSON, paths relative to its folder, atomically. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    base = path.parent.resolve()
    relative = _with_paths(run, lambda found: os.path.relpath(os.path.join(str(base), found), str(base)))
    part = path.with_name(path.name + ".tmp")
    part.write_text(json.dumps(to_dict(relative), indent=2) + "\n")
    os.replace(part, path)
    return path


def _with_paths(node: Any, changed: Callable[[str], str]) -> Any:
    """The record with every path that it names changed."""
    changes: Dict[str, Any] = {}
    for item in described(type(node)):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            changes[item.name] = _with_paths(value, changed)
        elif item.about.path:
            changes[item.name] = (tuple(changed(one) if one else one for one in value) if isinstance(value, tuple)
                                  else changed(value) if value else value)
    return dataclasses.replace(node, **changes)


def _absolute(path: str, folder: Path) -> str:
    """A path of a file in `folder`, absolute: from the folder as it is named, else from where links lead.

    A run's folder may have been moved to another disk and linked back since the file was written, or have been a link
    when it was.
    """
    as_named, as_stored = (os.path.normpath(os.path.join(base, path))
                           for base in (os.path.abspath(folder), str(folder.resolve())))
    return as_named if os.path.exists(as_named) else as_stored
