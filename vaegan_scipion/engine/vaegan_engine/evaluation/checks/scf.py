"""Sampling compensation factor (SCF): how completely a set of views fills Fourier space.

``vaegan scf --particles refined.star`` takes the views from RELION's angles, ``vaegan scf --run FOLDER``
from the trained camera of a run (30,000 samples, as in the thesis, where it is called the SQ factor).
"""
from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ...contract import result_files
from ...contract.errors import ConfigError, DataError
from ...contract.setting import check_settings, setting
from ...data.pose_table import star_symmetry
from ...data.star_files import missing_columns, read_star
from ...physics.rotations import euler_to_matrix
from ...physics.symmetry import group_of
from ...physics.view_coverage import SHELL_PX, completeness, views_of
from ...training.pose_watch import camera_completeness

N_REPORTED = 30000  # poses of the camera, by the command (thesis)
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


@dataclass(frozen=True)
class ScfOptions:
    """Poses of what, seen at which frequency."""

    particles: str = setting("", f"RELION star file with {', '.join(ANGLES)}", path=True, metavar="STAR")
    run_dir: str = setting("", "Results folder of a training with model.pose_prior camera", path=True)
    shell_px: float = setting(SHELL_PX, "Radius of the Fourier shell that is looked at", unit="voxels", low=1,
                              high=1000)


def views_of_star(star: str | Path) -> np.ndarray:
    """Directions of view ``(n, 3)`` of a star file with RELION's angles. Raises DataError.

    Where it names a symmetry (``rlnSymmetryGroup``), those of all poses that show the same.
    """
    table = read_star(Path(star))
    missing = [name for name in ANGLES if not table.has(name)]
    if missing:
        raise DataError(missing_columns(table.star, missing).message,
                        "Give particles with an alignment, as the particles.star of states.")
    angles = [torch.tensor(table.numbers(name)) for name in ANGLES]
    return views_of(euler_to_matrix(*angles), group_of(star_symmetry(table, Path(star))))


def run_scf(options: ScfOptions, out_dir: Path | None) -> None:
    """Print the SCF, and write it into ``out_dir`` where one is given. Raises ConfigError or DataError."""
    check_settings(options)
    if bool(options.particles) == bool(options.run_dir):
        raise ConfigError("scf takes its poses from one place.", "Give --particles STAR or --run FOLDER.")
    if options.particles:
        coverage = completeness(views_of_star(options.particles), options.shell_px)
    else:
        from ...training.trained_run import TrainedRun

        camera = TrainedRun.load(options.run_dir).vae_gan.camera
        if camera is None:
            raise ConfigError(f"{options.run_dir}: the training has no camera; uniform poses are complete by "
                              "construction.",
                              "Give a run with model.pose_prior camera, or a star file with --particles.")
        coverage = camera_completeness(camera, N_REPORTED, options.shell_px)
    print(f"SCF {coverage.scf:.3f} of {coverage.n_views} views; {coverage.unsampled_frac:.1%} of the Fourier shell of "
          f"{options.shell_px:g} voxels is not sampled", flush=True)
    if out_dir:
        result_files.write_json(Path(out_dir) / result_files.SCF_JSON, asdict(coverage))
