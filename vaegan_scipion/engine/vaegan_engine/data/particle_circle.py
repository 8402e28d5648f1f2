"""The circle that holds the particle, from its diameter."""
from __future__ import annotations

import math

from ..contract.boxes import cropped_box_px
from ..contract.errors import ConfigError
from ..contract.setting import field_of, number_text
from ..contract.settings import DataConfig
from .particles import load_particles


def radius_frac(data: DataConfig, diameter_ang: float) -> float:
    """``particle_radius_frac`` of a diameter in A: half of it over the kept part of the box. Raises ConfigError."""
    table, about = load_particles(data), field_of(DataConfig, "particle_radius_frac").about
    kept_ang = cropped_box_px(table.box_px, data.crop_frac) * table.pixel_size_ang
    frac = diameter_ang / (2 * kept_ang)
    assert about.low is not None and about.high is not None
    if not about.low <= frac <= about.high:
        low = number_text(math.ceil(20 * about.low * kept_ang) / 10)  # rounded inwards, so that they are taken
        high = number_text(math.floor(20 * about.high * kept_ang) / 10)
        part = "less" if frac < about.low else "more"
        raise ConfigError(f"particle_diameter_ang is {diameter_ang:g}; the kept part of the box is "
                          f"{kept_ang:.1f} A wide.", f"Use {low} to {high} A, or keep {part} of the box (crop_frac).")
    return frac
