"""Fields of a form made from the engine's settings: label, help, default, choices and limits stand there alone."""
import re
from typing import Any, Dict, Iterable, List, Type

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract.setting import Described, field_of, limit_problem, limits_text

_PARAMS = {bool: params.BooleanParam, int: params.IntParam, float: params.FloatParam, str: params.StringParam}


def param_name(name: str) -> str:
    """The name of a setting as Scipion writes it: n_neighbors is nNeighbors."""
    return re.sub(r"_(\w)", lambda match: match.group(1).upper(), name)


def label_text(item: Described) -> str:
    """Label with unit: "Training box (px)"."""
    return item.about.label + (f" ({item.about.unit})" if item.about.unit else "")


def help_text(item: Described, note: str = "") -> str:
    """What a setting is, its limits, and a note of the form's own."""
    limits = limits_text(item.about)
    parts = [item.about.help, limits[:1].upper() + limits[1:], note]
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def add_setting(form: Any, cls: Type[Any], name: str, note: str = "", **changes: Any) -> None:
    """Add the field of one setting; `changes` are other words of `addParam`, `param` another name of the field."""
    item = field_of(cls, name)
    words = {"default": item.choices.index(item.default) if item.choices else item.default,
             "label": label_text(item), "help": help_text(item, note)}
    if item.choices:
        words["choices"] = list(item.choices)
    param = changes.pop("param", param_name(name))
    form.addParam(param, params.EnumParam if item.choices else _PARAMS[item.kind], **{**words, **changes})


def values_of(protocol: Any, cls: Type[Any], names: Iterable[str]) -> Dict[str, Any]:
    """The settings `names` of a form, by name."""
    values = {}
    for name in names:
        item, value = field_of(cls, name), getattr(protocol, param_name(name)).get()
        values[name] = item.choices[value] if item.choices else value
    return values


def problems_of(cls: Type[Any], values: Dict[str, Any], **labels: str) -> List[str]:
    """What is wrong with the values of settings, by their labels (or the form's own), one sentence of limits each."""
    found = []
    for name, value in values.items():
        item = field_of(cls, name)
        problem = limit_problem(labels.get(name, label_text(item)), value, item.about)
        if problem:
            found.append(" ".join(problem))
    return found
