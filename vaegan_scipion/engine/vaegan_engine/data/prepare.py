"""``prepare``: the prepared images that ``states``, ``train3d``, ``train2d`` and ``classes2d`` share."""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..contract.errors import ConfigError
from ..contract.result_files import CACHE
from ..contract.setting import check_settings, section, setting
from ..contract.settings import DataConfig
from .particle_circle import radius_frac
from .prepared_images import open_cache


@dataclass(frozen=True)
class PrepareOptions:
    """Which particles, and how they become images; as the commands that take them are to be asked."""

    data: DataConfig = section(DataConfig, shown=("particles", "stack", "max_images", "box_px", "crop_frac",
                                                  "invert_contrast", "phase_flipped", "ignore_ctf",
                                                  "micrograph_pixel_size_ang"))
    particle_diameter_ang: float = setting(
        0.0, "Of the circle that holds the particle. Outside of it is background", label="Particle diameter", unit="A",
        low=1, high=1e5, zero="0.9 of the kept part of the box")


def run_prepare(options: PrepareOptions, out_dir: Path) -> None:
    """Prepare the images in ``out_dir``, where they are not there yet. Raises ConfigError or DataError."""
    check_settings(options)
    data, out_dir = options.data, Path(out_dir)
    if data.prepared_dir:
        raise ConfigError(f"prepared_dir is {data.prepared_dir}: prepare makes images and takes none.", "Leave it out.")
    if options.particle_diameter_ang:
        data = replace(data, particle_radius_frac=radius_frac(data, options.particle_diameter_ang))
    cache = open_cache(data, out_dir / CACHE)
    print(f"{len(cache)} particles of {cache.box_px} px, {cache.pixel_size_ang:.3f} A/px\n"
          f"take them with --prepared {out_dir} and the same settings of the images", flush=True)
