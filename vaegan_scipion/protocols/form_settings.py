"""Fields of a form made from the engine's settings: label, help, default, choices and limits stand there alone.

A number that may be left out is a field that is left empty, and its label says what the engine then takes. Such a
field keeps what was typed as text, so that a typing error is refused and not taken for an empty field.
"""
import re
from dataclasses import replace
from typing import Any, Dict, Iterable, List, Optional, Type

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract.setting import Described, described, field_of, limit_problem, limits_text
from ..engine.vaegan_engine.contract.wording import with_ring


class OptionalNumber(params.StringParam):
    """A number of type `kind`, or nothing: then the engine chooses."""

    def __init__(self, kind: Type[Any] = float, **words: Any) -> None:
        super().__init__(**words)
        self.kind = kind


_PARAMS = {bool: params.BooleanParam, int: params.IntParam, float: params.FloatParam, str: params.StringParam}


def param_name(name: str) -> str:
    """The name of a setting as Scipion writes it: n_neighbors is nNeighbors."""
    return re.sub(r"_(\w)", lambda match: match.group(1).upper(), name)


def label_text(item: Described, empty: str = "") -> str:
    """Label with unit and what an empty field stands for: "Training box (px; empty: 48)"."""
    return labelled(item.about.label, item.about.unit, empty)


def labelled(label: str, unit: str = "", empty: str = "") -> str:
    """A label with its unit and what an empty field stands for."""
    beside = "; ".join(filter(None, (unit, empty and f"empty: {empty}")))
    return with_ring(f"{label} ({beside})" if beside else label)


def may_be_empty(item: Described) -> bool:
    """Whether a setting is a number whose default, 0, stands for something that the engine chooses."""
    return bool(item.about.zero) and item.default == 0 and item.kind in (int, float)


def help_text(item: Described, note: str = "", empty: str = "") -> str:
    """What a setting is, its limits, what an empty field stands for, and a note of the form's own."""
    about = replace(item.about, zero="") if empty else item.about
    limits = limits_text(about)
    parts = [item.about.help, limits[:1].upper() + limits[1:], empty and f"Empty: {empty}", note]
    return with_ring(" ".join(f"{part.rstrip('.')}." for part in parts if part))


def add_setting(form: Any, cls: Type[Any], name: str, note: str = "", empty: str = "", **changes: Any) -> None:
    """Add the field of one setting; `changes` are other words of `addParam`, `param` another name of the field.

    empty: what is taken where the field is left empty, for a number that need not be given; else the setting's own.
    """
    item = field_of(cls, name)
    if not empty and may_be_empty(item):
        empty = item.about.zero
    default = "" if empty else item.choices.index(item.default) if item.choices else item.default
    label, unit = changes.pop("label", item.about.label), changes.pop("unit", item.about.unit)
    words = {"default": default, "label": labelled(label, unit, empty), "help": help_text(item, note, empty)}
    if item.choices:
        words["choices"] = list(item.choices)
    if empty:
        words["kind"] = item.kind
    kind = OptionalNumber if empty else params.EnumParam if item.choices else _PARAMS[item.kind]
    param = changes.pop("param", param_name(name))
    form.addParam(param, kind, **{**words, **changes})


def number_of(text: Any, kind: Type[Any]) -> Any:
    """The number in a field that may be empty; None when it is. Raises ValueError."""
    text = str("" if text is None else text).strip()
    return kind(text) if text else None


def optional(protocol: Any, param: str) -> Any:
    """The number in a field that may be empty; None when it is. Raises ValueError."""
    return number_of(getattr(protocol, param).get(), protocol.getParam(param).kind)


def value_of(protocol: Any, cls: Type[Any], name: str) -> Any:
    """The setting `name` of a form; None where its field is empty, or hidden by another one: nobody sees its value.

    Raises ValueError for a text that is no number.
    """
    item, param = field_of(cls, name), param_name(name)
    if not protocol.evalParamCondition(param):
        return None
    if isinstance(protocol.getParam(param), OptionalNumber):
        return optional(protocol, param)
    value = getattr(protocol, param).get()
    return item.choices[value] if item.choices else value


def values_of(protocol: Any, cls: Type[Any], names: Iterable[str]) -> Dict[str, Any]:
    """The settings `names` of a form, by name; the default of those whose field is empty. Raises ValueError."""
    given = given_values(protocol, cls, names)
    return {name: given.get(name, field_of(cls, name).default) for name in names}


def given_values(protocol: Any, cls: Type[Any], names: Iterable[str]) -> Dict[str, Any]:
    """The settings `names` of a form whose field is not empty, by name. Raises ValueError."""
    values = {name: value_of(protocol, cls, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def problems_of(cls: Type[Any], values: Dict[str, Any], **labels: str) -> List[str]:
    """What is wrong with the values of settings, by their labels (or the form's own), one sentence of limits each."""
    problems = []
    for name, value in values.items():
        item = field_of(cls, name)
        problem = limit_problem(labels.get(name, label_text(item)), value, item.about)
        if problem:
            said = with_ring(" ".join(problem))
            problems.append(said.replace("0 = ", "empty = ") if may_be_empty(item) else said)
    return problems


def field_problems(protocol: Any) -> List[str]:
    """Fields of a form that hold no value, or a text that is no number: label, value, remedy."""
    problems = []
    for name, param in protocol.getDefinition().iterParams():
        if not protocol.evalParamCondition(name):
            continue
        problem = field_problem(param, getattr(protocol, name).get() if hasattr(protocol, name) else "")
        if problem:
            problems.append(problem)
    return problems


def field_problem(param: Any, value: Any) -> Optional[str]:
    """What is wrong with the value of one field, if it cannot be read at all."""
    label = label_of(param)
    if isinstance(param, OptionalNumber):
        try:
            number_of(value, param.kind)
        except (ValueError, OverflowError):
            what = "a whole number" if param.kind is int else "a number"
            return f"{label} is '{value}', which is not {what}. Give {what}, or leave it empty."
    elif isinstance(param, (params.IntParam, params.FloatParam)) and value is None:
        whole = "a whole number" if isinstance(param, params.IntParam) else "a number"
        return f"{label} is empty, or not {whole}. Give {whole}."
    return None


def in_words_of_the_form(text: str, protocol: Any, sections: Dict[str, Type[Any]]) -> str:
    """A sentence of the engine with the labels of a form in place of its names; sections: "data" -> DataConfig.

    What is said of a setting that was typed as SECTION.KEY=VALUE keeps its names.
    """
    if text.startswith("--set") or "unknown key" in text:
        return f"'Other settings': {text.replace('--set ', '')}"
    for section, cls in sections.items():
        for item in described(cls):
            param = protocol.getParam(param_name(item.name))
            label = label_of(param) if param is not None else label_text(item) if item.about.label else ""
            if label:
                text = re.sub(rf"\b{section}\.{item.name}\b", f"'{label}'", text)
    return with_ring(re.sub(r" kimg\b", " thousand images", text))


def label_of(param: Any) -> str:
    """The label of a field, without what an empty one stands for, or that it may be empty."""
    label = str(param.label.get()).replace(" (optional)", "")
    return re.sub(r"[;(] ?empty: .*\)$", lambda match: ")" if match.group(0)[0] == ";" else "", label).strip()
