"""Sampling compensation factor (SCF): how completely a set of views fills Fourier space.

``vaegan scf --particles refined.star`` takes the views from RELION's angles, ``vaegan scf --run FOLDER``
from the trained camera of a run (30,000 samples, as in the thesis, where it is called the SQ factor).
"""
from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import results
from .camera import CameraNetwork
from .errors import ConfigError
from .relion_star import read_star
from .rotations import euler_to_matrix

SHELL_PX = 20.0  # radius in voxels of the Fourier shell on which sampling is counted
N_POINTS = 4000  # directions on that shell
N_TRACKED = 4000  # poses of the camera, at each tick
N_REPORTED = 30000  # poses of the camera, by the command (thesis)
BLOCK = 2 ** 22  # products of direction and view at a time
COLLAPSED_SCF = 0.5  # below: reported as a collapse of the camera; side views alone have 8 / pi^2 = 0.81
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


@dataclass(frozen=True)
class Completeness:
    """Fourier completeness of a set of views."""

    scf: float
    unsampled_frac: float  # part of the shell that no view reaches
    n_views: int


def shell_directions(n: int) -> np.ndarray:
    """``(n, 3)`` unit vectors, even on the sphere (Fibonacci spiral, golden angle)."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.arange(n) * (np.pi * (3 - np.sqrt(5)))
    return np.stack((np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z), axis=1)


def sampling(views: np.ndarray, shell_px: float = SHELL_PX, n_points: int = N_POINTS) -> np.ndarray:
    """Sampling S ``(n_points,)`` of a Fourier shell by central slices; 1 everywhere for uniform views.

    ``S(k) = (2 r / N) #{i: |k . n_i| < 1 / (2 r)}`` for unit directions k of the shell of radius r voxels: slice i,
    perpendicular to the direction of view n_i, passes through the voxel at ``r k`` (half a voxel
    to either side). Uniform views have |k . n| uniform in [0, 1], so that S = 1 is expected.
    ``views (N, 3)`` are unit vectors; n and -n are the same slice.
    """
    k = shell_directions(n_points)
    counts = np.zeros(n_points)
    step = max(1, BLOCK // n_points)
    for start in range(0, len(views), step):
        counts += (np.abs(k @ views[start:start + step].T) < 0.5 / shell_px).sum(1)
    return counts * (2 * shell_px / len(views))


def completeness(views: np.ndarray, shell_px: float = SHELL_PX, n_points: int = N_POINTS) -> Completeness:
    """SCF of directions of view ``(N, 3)``: ``1 / SCF = <1 / S>`` over a Fourier shell.

    1 for uniform views, ``8 / pi^2`` for views from the side alone, 0 where part of the shell is not sampled
    at all (one direction, a missing cone, fewer views than fill the shell). Counting noise lowers
    it by about ``2 r / N``. Symmetry is not applied.
    Source: Baldwin and Lyumkis, Prog. Biophys. Mol. Biol. 150 (2020) 160-183.
    """
    found = sampling(np.asarray(views, np.float64), shell_px, n_points)
    empty = float((found == 0).mean())
    scf = 0.0 if empty else 1 / float((1 / found).mean())
    return Completeness(scf, empty, len(views))


def views_of_star(star: str | Path) -> np.ndarray:
    """Directions of view ``(n, 3)`` of a star file with RELION's angles. Raises DataError."""
    table = read_star(Path(star))
    angles = [torch.tensor(table.numbers(name)) for name in ANGLES]
    return views_of(euler_to_matrix(*angles))


def views_of(rotations: Tensor) -> np.ndarray:
    """Directions of view ``(n, 3)``, the third rows of ``A (n, 3, 3)``."""
    return rotations[:, 2].detach().double().cpu().numpy()


@torch.no_grad()
def camera_completeness(camera: CameraNetwork, n: int, shell_px: float = SHELL_PX) -> Completeness:
    """SCF of ``n`` poses of a camera, of the same latents at every call."""
    rng = torch.Generator(camera.last.weight.device).manual_seed(0)
    return completeness(views_of(camera.sample(n, rng)), shell_px)


def collapse_warning(scf: float) -> str | None:
    """One sentence where the camera looks from too few directions, else None."""
    if scf >= COLLAPSED_SCF:
        return None
    return (f"The camera has collapsed: its poses have a sampling compensation factor of {scf:.3f}, below "
            f"{COLLAPSED_SCF:g} (1 is complete). The map is not determined; train with model.pose_prior uniform.")


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
        from .trained import TrainedRun

        camera = TrainedRun.load(args.run).trainer.camera
        if camera is None:
            raise ConfigError(f"{args.run}: the training has no camera; uniform poses are complete by construction.",
                              "Give a run with model.pose_prior camera, or a star file with --particles.")
        found = camera_completeness(camera, N_REPORTED, args.shell_px)
    print(f"SCF {found.scf:.3f} of {found.n_views} views; {found.unsampled_frac:.1%} of the Fourier shell of "
          f"{args.shell_px:g} voxels is not sampled", flush=True)
    if args.out:
        results.write_json(args.out / results.SCF_JSON, asdict(found))
