"""Sampling compensation factor (SCF): how completely a set of views fills Fourier space.

``vaegan scf --particles refined.star`` takes the views from RELION's angles, ``vaegan scf --run FOLDER``
from the trained camera of a run (30,000 samples, as in the thesis, where it is called the SQ factor).
"""
from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..contract import result_files
from ..contract.errors import ConfigError
from ..data.star_files import read_star
from ..physics.rotations import euler_to_matrix
from ..physics.view_coverage import SHELL_PX, completeness, views_of
from ..training.pose_watch import camera_completeness

N_REPORTED = 30000  # poses of the camera, by the command (thesis)
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


def views_of_star(star: str | Path) -> np.ndarray:
    """Directions of view ``(n, 3)`` of a star file with RELION's angles. Raises DataError."""
    table = read_star(Path(star))
    angles = [torch.tensor(table.numbers(name)) for name in ANGLES]
    return views_of(euler_to_matrix(*angles))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan scf``."""
    parser.add_argument("--particles", help=f"RELION star file with {', '.join(ANGLES)}")
    parser.add_argument("--run", help="--out folder of a training with model.pose_prior camera")
    parser.add_argument("--shell-px", type=float, default=SHELL_PX,
                        help=f"radius in voxels of the Fourier shell that is looked at (default {SHELL_PX:g})")
    parser.add_argument("--out", type=Path, help="write scf.json into this folder")


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan scf``. Raises ConfigError or DataError."""
    if bool(args.particles) == bool(args.run):
        raise ConfigError("scf takes its poses from one place.", "Give --particles STAR or --run FOLDER.")
    if not 1 <= args.shell_px <= 1000:
        raise ConfigError(f"shell_px is {args.shell_px:g}.", "Use a radius from 1 to 1000 voxels.")
    if args.particles:
        found = completeness(views_of_star(args.particles), args.shell_px)
    else:
        from ..training.trained_run import TrainedRun

        camera = TrainedRun.load(args.run).vae_gan.camera
        if camera is None:
            raise ConfigError(f"{args.run}: the training has no camera; uniform poses are complete by construction.",
                              "Give a run with model.pose_prior camera, or a star file with --particles.")
        found = camera_completeness(camera, N_REPORTED, args.shell_px)
    print(f"SCF {found.scf:.3f} of {found.n_views} views; {found.unsampled_frac:.1%} of the Fourier shell of "
          f"{args.shell_px:g} voxels is not sampled", flush=True)
    if args.out:
        result_files.write_json(args.out / result_files.SCF_JSON, asdict(found))
