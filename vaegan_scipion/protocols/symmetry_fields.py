"""The fields of a form that hold a point group: what is typed, what is wrong with it, and what a run did with it."""
import re
from typing import Any, List

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract.errors import ConfigError
from ..engine.vaegan_engine.contract.records import StatesSummary
from ..engine.vaegan_engine.contract.setting import field_of
from ..engine.vaegan_engine.contract.settings import StatesRun
from ..engine.vaegan_engine.contract.symmetry import check_symmetries, is_symmetric
from .form_settings import add_setting, label_of, label_text, param_name


def add_fields(form: Any) -> None:
    """The symmetry of all maps, and with given poses the one to relax."""
    add_setting(form, StatesRun, "symmetry")
    add_setting(form, StatesRun, "relax_symmetry", condition="useAlignment", expertLevel=params.LEVEL_ADVANCED)


def symmetry(protocol: Any) -> str:
    """Point group that the maps are held to, as it was typed."""
    return str(protocol.symmetry.get() or "").strip()


def relaxed(protocol: Any) -> str:
    """Group to relax; empty where no poses are given."""
    return str(protocol.relaxSymmetry.get() or "").strip() if protocol.useAlignment else ""


def problems(protocol: Any) -> List[str]:
    """What is wrong with the groups, in the words of the form."""
    try:
        check_symmetries(symmetry(protocol), relaxed(protocol), protocol.useAlignment.get(),
                         protocol.getClustering() is not None)
    except ConfigError as error:
        text = str(error)
        for name in ("relax_symmetry", "symmetry"):
            text = re.sub(rf"\b{name}\b", f"'{label_of(protocol.getParam(param_name(name)))}'", text)
        return [text]
    return []


def not_for_training(states: Any) -> List[str]:
    """Why a training cannot take the poses of states: of symmetric maps, each is one of several that show the same."""
    group = states.readSummary().symmetry
    if not is_symmetric(group):
        return []
    relax = label_text(field_of(StatesRun, "relax_symmetry"))
    return [f"The maps of '{states.getRunName()}' are held to symmetry {group}: a training has none, and would smear "
            "what breaks it over all its places. Run find states and poses again on its outputParticles, with 'Start "
            f"from their alignment?' and '{relax}' {group}, and give that run."]


def summary_lines(summary: StatesSummary) -> List[str]:
    """What the summary of a run says of it."""
    if is_symmetric(summary.symmetry):
        return [f"Symmetry of all maps: {summary.symmetry}; give it to RELION's refinements too (--sym)"]
    if summary.relaxed_symmetry:
        return [f"Poses were right up to {summary.relaxed_symmetry}; what breaks it was brought to one place"]
    return []
