"""Command-line options made from the contract's dataclasses, so that defaults have one place."""
from __future__ import annotations

import argparse
import dataclasses
import os
import typing
from pathlib import Path
from typing import Any, TypeVar

from ..contract.settings import PATH_FIELDS, ComputeConfig

T = TypeVar("T")
COMPUTE_HELP = {"device": "auto, cpu, cuda or cuda:N", "threads": "CPU threads; 0 = as many as cores are free",
                "seed": "seed of everything random"}


def add_fields(parser: argparse.ArgumentParser, cls: type[Any], helps: dict[str, str]) -> None:
    """One option per key of ``helps`` that is a field of ``cls``; type, choices and default from there."""
    hints, default = typing.get_type_hints(cls), cls()
    for name, text in helps.items():
        kind: dict[str, Any] = {"type": hints[name]}
        if typing.get_origin(hints[name]) is typing.Literal:
            kind = {"choices": typing.get_args(hints[name])}
        value = getattr(default, name)
        shown = "" if value == "" else f" (default: {value})"
        parser.add_argument(_option(name), dest=name, default=value, help=text.replace("%", "%%") + shown, **kind)


def add_compute(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--threads`` and ``--seed``."""
    add_fields(parser, ComputeConfig, COMPUTE_HELP)


def add_folder(parser: argparse.ArgumentParser, option: str, dest: str, text: str, required: bool = True) -> None:
    """An option that names a folder or file of an earlier step."""
    parser.add_argument(option, dest=dest, required=required, default="", help=text)


def add_out(parser: argparse.ArgumentParser) -> None:
    """``--out``, the results folder."""
    parser.add_argument("--out", type=Path, required=True, help="results folder")


def compute_of(args: argparse.Namespace) -> ComputeConfig:
    """The ``ComputeConfig`` of parsed options."""
    return ComputeConfig(device=args.device, threads=args.threads, seed=args.seed)


def run_of(cls: type[T], args: argparse.Namespace) -> T:
    """A run of type ``cls`` from parsed options of the same names; paths become absolute."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, cls)):
        if field.name == "compute":
            values["compute"] = compute_of(args)
        elif field.name not in ("command", "contract_version") and hasattr(args, field.name):
            value = getattr(args, field.name)
            values[field.name] = os.path.abspath(value) if field.name in PATH_FIELDS and value else value
    return cls(**values)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
