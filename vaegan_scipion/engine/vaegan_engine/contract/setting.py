"""A setting in one place: default, help, unit and limits, as metadata of its dataclass field.

The command line, the forms, the check of limits and the reference page are made from it.
Standard library only, Python 3.8 syntax: Scipion imports this file without torch.
"""
from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from typing import Any, List, Literal, Optional, Tuple, Type

from .errors import ConfigError

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its name, its type and its default."""

    help: str = ""  # what it is, without a full stop at its end; limits and default are added where it is shown
    label: str = ""  # on a form, without the unit
    unit: str = ""
    low: Optional[float] = None  # smallest value
    high: Optional[float] = None  # largest value
    zero: str = ""  # what 0 stands for where it is no value; then it is allowed outside of the limits
    choices: Tuple[str, ...] = ()  # of a text; those of a Literal stand in its type
    path: bool = False  # file or folder: relative to the folder of run.json in it, absolute elsewhere
    # on the command line:
    option: Optional[str] = None  # name without dashes; None = made from the field's; "" = no option
    required: bool = False
    positional: bool = False
    repeated: bool = False  # a tuple given by repeating the option, one value each
    metavar: str = ""
    group: str = ""  # at most one option of a group is given, exactly one where they are required
    shown: Optional[Tuple[str, ...]] = None  # of a section: the settings that are options; None = all
    optional: Tuple[str, ...] = ()  # of a section: those that need not be given, though they are required elsewhere


@dataclass(frozen=True)
class Described:
    """One field of a settings dataclass."""

    name: str
    kind: Any  # its type
    default: Any
    about: Setting

    @property
    def choices(self) -> Tuple[Any, ...]:
        """Values to choose from; empty where any will do."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else self.about.choices


def setting(default: Any, help: str = "", **about: Any) -> Any:  # help: as in argparse and in forms
    """Field of a settings dataclass; ``about`` are the other fields of ``Setting``."""
    return field(default=default, metadata={_KEY: Setting(help, **about)})


def section(cls: Type[Any], help: str = "", shown: Optional[Tuple[str, ...]] = None, optional: Tuple[str, ...] = ()
            ) -> Any:
    """Field that holds the settings dataclass ``cls``; ``shown``: those of its settings that are options.

    ``optional``: those that need not be given here, though they are required elsewhere.
    """
    return field(default_factory=cls, metadata={_KEY: Setting(help, shown=shown, optional=optional)})


def fixed(value: Any, help: str = "") -> Any:
    """Field of a settings dataclass that nobody sets, on the command line or on a form."""
    return setting(value, help, option="")


def described(cls: Type[Any]) -> List[Described]:
    """The fields of a settings dataclass, in their order."""
    hints, instance = typing.get_type_hints(cls), cls()
    return [Described(item.name, hints[item.name], getattr(instance, item.name), item.metadata.get(_KEY, Setting()))
            for item in dataclasses.fields(cls)]


def field_of(cls: Type[Any], name: str) -> Described:
    """One field of a settings dataclass."""
    return next(item for item in described(cls) if item.name == name)


def number_text(value: float) -> str:
    """A number as short as it can be read: "0.05", "30", "1,000,000"."""
    return f"{value:,.10g}"


def limits_text(about: Setting) -> str:
    """The limits in words: "2 to 100", "at least 1; 0 = as the run"; empty where there are none."""
    unit = f" {about.unit}" if about.unit else ""
    if about.low is not None and about.high is not None:
        text = f"{number_text(about.low)} to {number_text(about.high)}{unit}"
    elif about.low is not None:
        text = f"at least {number_text(about.low)}{unit}"
    else:
        text = "" if about.high is None else f"at most {number_text(about.high)}{unit}"
    return "; ".join(filter(None, (text, about.zero and f"0 = {about.zero}")))


def limit_problem(name: str, value: Any, about: Setting) -> Optional[Tuple[str, str]]:
    """What is wrong with a number and what to do, one sentence each; None where it is within its limits.

    Of a tuple, every entry is looked at. ``name``: what the user calls the setting.
    """
    low = -math.inf if about.low is None else about.low
    high = math.inf if about.high is None else about.high
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, (bool, str)) or (about.zero and one == 0):
            continue
        if not (math.isfinite(one) and low <= one <= high):
            return f"{name} is {one}.", f"Use {limits_text(about) or 'a finite number'}."
    return None


def not_a_choice(name: str, value: Any, choices: Tuple[Any, ...]) -> Tuple[str, str]:
    """What is wrong with a value that is none of ``choices`` and what to do, one sentence each."""
    return f"{name} is {value!r}.", f"Choose one of {', '.join(map(repr, choices))}."


def check_settings(settings: Any, where: str = "") -> None:
    """Refuse values outside of their limits or choices, in sections too. Raises ConfigError: name, value, limit."""
    for item in described(type(settings)):
        name, value = where + item.name, getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            check_settings(value, f"{name}.")
            continue
        problem = limit_problem(name, value, item.about)
        if problem:
            raise ConfigError(*problem)
        for one in value if isinstance(value, tuple) else (value,):
            if item.choices and one not in item.choices:
                raise ConfigError(*not_a_choice(name, one, item.choices))
