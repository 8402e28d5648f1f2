"""Command-line options made from settings dataclasses, and settings read back from them."""
from __future__ import annotations

import argparse
import dataclasses
import os
import typing
from collections.abc import Iterator
from typing import Any

from ..contract.setting import Described, described, limits_text, number_text

_PATH_ENDS = {"_dir": "DIR", "_csv": "CSV", "_json": "JSON"}  # left out of an option's name; shown for its value


def options_of(cls: type[Any], where: str = "") -> Iterator[tuple[str, Described]]:
    """Each setting that is an option: its place ("seed", "compute.seed") and what is known of it."""
    for item in described(cls):
        about = item.about
        if dataclasses.is_dataclass(item.kind):
            for place, inner in options_of(typing.cast(Any, item.kind), f"{where}{item.name}."):
                if inner.name in about.optional:
                    inner = dataclasses.replace(inner, about=dataclasses.replace(inner.about, required=False))
                if about.shown is None or inner.name in about.shown:
                    yield place, inner
        elif about.option != "":
            yield where + item.name, item


def settings_named(cls: type[Any], name: str, where: str = "") -> list[str]:
    """Places of all settings of a name, options or not: "training.total_kimg" of total_kimg."""
    places = []
    for item in described(cls):
        if dataclasses.is_dataclass(item.kind):
            places += settings_named(typing.cast(Any, item.kind), name, f"{where}{item.name}.")
        elif item.name == name and where:
            places.append(where + name)
    return places


def add_settings(parser: argparse.ArgumentParser, cls: type[Any], by_preset: tuple[str, ...] = ()) -> None:
    """One option per setting of ``cls``; of the sections ``by_preset`` the default is called the preset's.

    An option that is not given leaves nothing behind: its default stands in ``cls`` alone.
    """
    groups: dict[str, Any] = {}
    for place, item in options_of(cls):
        about, target = item.about, typing.cast(Any, parser)
        if about.group:
            if about.group not in groups:
                groups[about.group] = parser.add_mutually_exclusive_group(required=about.required)
            target = groups[about.group]
        words = {"default": argparse.SUPPRESS, "help": help_text(item, place.split(".")[0] in by_preset),
                 **value_words(item)}
        if about.positional:
            target.add_argument(place, **words)
        else:
            target.add_argument(option_name(item), dest=place, required=about.required and not about.group, **words)


def option_name(item: Described) -> str:
    """``--run`` of run_dir, ``--box-px`` of box_px, ``--no-align`` of a setting that is on by itself."""
    name = item.name
    if item.about.path:
        name = next((name[:-len(end)] for end in _PATH_ENDS if name.endswith(end)), name)
    name = item.about.option or name.replace("_", "-")
    return f"--no-{name}" if item.default is True else f"--{name}"


def value_words(item: Described) -> dict[str, Any]:
    """What argparse is told of an option's value."""
    about, kind = item.about, item.kind
    if kind is bool:
        return {"action": "store_false" if item.default else "store_true"}
    words: dict[str, Any] = {}
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        kind = parts[0]
        words = {"action": "append"} if about.repeated else {"nargs": "+" if ... in parts else len(parts)}
    if item.choices:
        return {**words, "choices": item.choices, "type": type(item.choices[0])}
    end = next((shown for end, shown in _PATH_ENDS.items() if about.path and item.name.endswith(end)), "")
    metavar = about.metavar or end or option_name(item).lstrip("-").upper().replace("-", "_")
    words["metavar"] = tuple(metavar.split()) if isinstance(words.get("nargs"), int) else metavar
    return {**words, "type": kind}


def help_text(item: Described, by_preset: bool = False) -> str:
    """Help, limits and default."""
    limits = limits_text(item.about)
    text = ". ".join(filter(None, (item.about.help, limits[:1].upper() + limits[1:])))
    parts = item.default if isinstance(item.default, tuple) else (item.default,)
    default = " ".join(part if isinstance(part, str) else number_text(part) for part in parts)
    if default and not item.about.required and item.kind is not bool:
        text += f" (default: {'as the preset' if by_preset else default})"
    return text.replace("%", "%%")


def given(cls: type[Any], args: argparse.Namespace) -> dict[str, Any]:
    """The settings of ``cls`` that were given, nested as in run.json; paths are absolute."""
    values: dict[str, Any] = {}
    for place, item in options_of(cls):
        if place not in vars(args):
            continue
        value = vars(args)[place]
        if item.about.path:
            value = [os.path.abspath(one) for one in value] if isinstance(value, list) else value and os.path.abspath(
                value)
        section, _, name = place.rpartition(".")
        (values.setdefault(section, {}) if section else values)[name] = value
    return values
