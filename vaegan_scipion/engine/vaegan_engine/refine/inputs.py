"""The particles that ``states`` is given: those of a star file, or the prepared images of a training."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..contract.errors import ConfigError
from ..contract.result_files import CACHE
from ..contract.run_json import read_training
from ..contract.setting import check_settings, described
from ..contract.settings import DataConfig, StatesRun
from ..contract.symmetry import check_symmetries
from ..data.particle_circle import radius_frac
from ..data.prepared_images import ParticleCache, open_cache
from ..data.run_images import open_run_cache


def with_data(run: StatesRun) -> StatesRun:
    """The request with the data settings that count: its own, or those of the training ``run_dir``.

    Raises ConfigError where there are none or both, and DataError as ``read_training`` and ``load_particles``.
    """
    check_settings(run)
    check_symmetries(run.symmetry, run.relax_symmetry, run.data.input_poses, bool(run.clusters_dir))
    if run.data.poses_dir:
        raise ConfigError(f"data.poses_dir is {run.data.poses_dir}.",
                          "Leave it empty; states takes poses from the star file alone (input_poses).")
    if run.mask and not run.data.input_poses:
        raise ConfigError(f"mask is {run.mask}, but poses are searched from nothing: the frame that they are found in "
                          "is not the mask's.", "Give particle_diameter_ang in its place, or particles with poses "
                          "(input_poses).")
    if run.clusters_dir and run.data.input_poses:
        raise ConfigError(f"clusters_dir is {run.clusters_dir}, and the particles' own poses are to be used: there is "
                          "no start from maps.", "Leave clusters_dir or input_poses out.")
    if run.run_dir:
        refuse_own_data(run)
        data = read_training(run.run_dir).data
        return replace(run, data=replace(data, poses_dir="", input_poses=run.data.input_poses))
    if not run.data.particles:
        raise ConfigError("Neither particles nor run_dir is given.",
                          "Name a RELION star file (--particles), or the results folder of a training (--run).")
    if not run.particle_diameter_ang:
        return run
    return replace(run, data=replace(run.data, particle_radius_frac=radius_frac(run.data, run.particle_diameter_ang)))


def refuse_own_data(run: StatesRun) -> None:
    """Refuse settings of the images beside a training, whose images are prepared. Raises ConfigError."""
    plain = DataConfig(input_poses=run.data.input_poses)
    given = [item.name for item in described(DataConfig) if getattr(run.data, item.name) != getattr(plain, item.name)]
    if run.particle_diameter_ang:
        given.append("particle_diameter_ang")
    if given:
        raise ConfigError(f"{given[0]} is given beside run_dir {run.run_dir}, whose images are prepared.",
                          "Leave it out, or give particles and no run_dir.")


def open_images(run: StatesRun, out_dir: Path, resume: bool) -> ParticleCache:
    """The prepared images of the training, or those in ``out_dir``, which are made where they are missing.

    Raises DataError as ``open_run_cache`` and ``open_cache``.
    """
    if run.run_dir or resume:
        return open_run_cache(run.data, run.run_dir or out_dir)
    return open_cache(run.data, out_dir / CACHE)
