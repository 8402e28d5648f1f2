"""Fields of find states and poses that a biologist gives in A and the engine takes as box size / resolution."""
from typing import Any, Dict, List

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract.setting import field_of
from ..engine.vaegan_engine.contract.settings import StatesRun
from .box_field import chosen_box_px
from .form_settings import OptionalNumber, labelled, optional
from .protocol_base import kept_box_ang

RESOLUTIONS = {  # field -> setting, label
    "startResolutionAng": ("start_shells", "Resolution of the start"),
    "searchResolutionAng": ("search_shells", "Resolution of the pose search"),
    "stateResolutionAng": ("state_shells", "Resolution that tells states apart")}


def add_fields(form: Any) -> None:
    """The fields; empty, the engine chooses by the particle's size."""
    for name, (setting, label) in RESOLUTIONS.items():
        chosen = field_of(StatesRun, setting).about.zero
        form.addParam(name, OptionalNumber, default="", expertLevel=params.LEVEL_ADVANCED,
                      label=labelled(label, "A", "by the particle's size"),
                      help=f"{label}; finer from stage to stage. Empty: box size / resolution is chosen {chosen}.")


def shells(protocol: Any, particles: Any) -> Dict[str, float]:
    """Settings of the engine, for the fields that are not empty. Raises ValueError."""
    given = {}
    for name, (setting, _) in RESOLUTIONS.items():
        wanted_ang = optional(protocol, name)
        if wanted_ang:
            given[setting] = round(kept_box_ang(protocol, particles) / wanted_ang, 6)
    return given


def problems(protocol: Any, particles: Any) -> List[str]:
    """What is wrong with the resolutions of the stages for these particles."""
    given = [(f"{label} (Å)", optional(protocol, name)) for name, (_, label) in RESOLUTIONS.items()]
    given = [(label, value) for label, value in given if value is not None]
    kept_ang = kept_box_ang(protocol, particles)
    finest, coarsest = 2 * kept_ang / chosen_box_px(protocol, particles), kept_ang / 2
    for label, value in given:
        if not finest <= value <= coarsest:
            return [f"{label} is {value:g}. Use {finest:.1f} to {coarsest:.1f} Å (two pixels of the box used, to half "
                    "of the kept part of the images), or leave it empty."]
    values = [value for _, value in given]
    if values != sorted(values, reverse=True):
        return [f"The resolutions of the stages are {', '.join(f'{value:g}' for value in values)} Å. Use falling "
                "numbers, or leave them empty."]
    return []
