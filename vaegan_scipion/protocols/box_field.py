"""The field of the training box: left empty, it is the default box, or what smaller images fill."""
from typing import Any, Dict, Iterable, List

from ..engine.vaegan_engine.contract.boxes import STEP_PX, cropped_box_px, fitting_box_px
from ..engine.vaegan_engine.contract.settings import DataConfig
from .form_settings import add_setting, optional, problems_of, values_of

LABELS = {"box_px": "Box of the images used (px)", "max_images": "Particles to use"}  # other words than a training's


def empty_text(default: str) -> str:
    """What an empty field stands for."""
    return f"{default}; less for smaller images"


def add_box(form: Any, note: str) -> None:
    """The field of a form that searches poses; a training's stands in its own form."""
    add_setting(form, DataConfig, "box_px", note, label="Box of the images used",
                empty=empty_text(str(DataConfig().box_px)))


def chosen_box_px(protocol: Any, particles: Any, default_px: int = DataConfig().box_px) -> int:
    """The box of a form; where its field is empty, what fits these particles. Raises ValueError."""
    asked = optional(protocol, "boxPx")
    if asked is not None or particles is None:
        return default_px if asked is None else int(asked)
    return fitting_box_px(particles.getXDim() or 0, protocol.cropFrac.get(), default_px)


def data_values(protocol: Any, particles: Any, names: Iterable[str]) -> Dict[str, Any]:
    """The settings `names` of `DataConfig` on a form, the box as it is chosen. Raises ValueError."""
    return {**values_of(protocol, DataConfig, names), "box_px": chosen_box_px(protocol, particles)}


def data_problems(protocol: Any, particles: Any, names: Iterable[str], n_min: int) -> List[str]:
    """What is wrong with these settings by themselves: limits, a box that is no multiple, too few particles."""
    values = data_values(protocol, particles, names)
    found = problems_of(DataConfig, values, **LABELS)
    if not found and values["box_px"] % STEP_PX:
        found = [f"{LABELS['box_px']} is {values['box_px']}. Use a multiple of {STEP_PX}."]
    most = optional(protocol, "maxImages")
    if most is not None and 0 <= most < n_min:
        found.append(f"{LABELS['max_images']} is {most}. Use at least {n_min}, or leave it empty for all.")
    return found


def too_large(protocol: Any, particles: Any) -> List[str]:
    """Why these particles cannot give the box."""
    kept_px = cropped_box_px(particles.getXDim(), protocol.cropFrac.get())
    box_px = chosen_box_px(protocol, particles)
    if box_px <= kept_px:
        return []
    return [f"{LABELS['box_px']} is {box_px}, more than the {kept_px} px kept of the images "
            f"({particles.getXDim()} px). Use a smaller one, or leave it empty."]
