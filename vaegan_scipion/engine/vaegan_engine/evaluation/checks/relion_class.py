"""Classes of a set of images by RELION, in 2D or 3D: write them, run ``relion_refine``, read what it made.

RELION 3.1 or newer, ``relion_refine`` on PATH (Debian: ``relion``). Scheres, J. Struct. Biol. 180 (2012).
"""
from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import starfile

from ...contract import result_files
from ...contract.errors import ConfigError, DataError
from ...data.mrc_files import write_stack
from ...data.optics import CTF_RELION, PHASE_FLIPPED
from ...data.particles import PARTICLE_ID, particle_ids
from ...data.star_files import read_star
from ...physics.ctf import CTF_COLUMNS

PROGRAM = "relion_refine"
# an MPI build may refuse to start as root, as in a container
_MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
_SHARED = ("voltage_kv", "cs_mm", "amplitude_contrast", "phase_flipped")
_ROOT = "class"
_OF_2D = ("--tau2_fudge", "2", "--psi_step", "6", "--dont_combine_weights_via_disc")
_OF_3D = ("--tau2_fudge", "4", "--healpix_order", "2", "--sym", "C1", "--firstiter_cc")


def find_program() -> str:
    """Path of ``relion_refine``. Raises ConfigError where it is not there."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise ConfigError(f"The program {PROGRAM} is not on PATH.",
                          "Install RELION (Debian: apt-get install relion) or use --no-align.")
    return program


def write_images(folder: Path, images: np.ndarray, ctf: np.ndarray | None, particle_id: np.ndarray,
                 pixel_size_ang: float) -> Path:
    """``images.mrcs`` and a RELION 3.1 ``images.star`` of normalised images ``(n, d, d)``.

    ``ctf (n, 8)`` as ``ctf.CTF_COLUMNS``; None for images without a CTF.
    """
    n = len(images)
    write_stack(folder / "images.mrcs", images, pixel_size_ang)
    rows = pd.DataFrame({"rlnImageName": [f"{i:06d}@images.mrcs" for i in range(1, n + 1)],
                         PARTICLE_ID: particle_id})
    group = np.zeros(n, np.int64)
    settings = np.array([[300.0, 2.7, 0.1, 0.0]])
    names = dict(zip(CTF_COLUMNS, CTF_RELION, strict=True))
    if ctf is not None:
        columns = dict(zip(CTF_COLUMNS, np.asarray(ctf, np.float64).T, strict=True))
        settings, group = np.unique(np.stack([columns[name] for name in _SHARED], 1), axis=0, return_inverse=True)
        for name in CTF_COLUMNS:
            if name not in _SHARED:
                rows[names[name]] = columns[name]
    rows["rlnOpticsGroup"] = group.ravel() + 1
    optics = pd.DataFrame({"rlnOpticsGroup": np.arange(len(settings)) + 1,
                           "rlnOpticsGroupName": [f"opticsGroup{i + 1}" for i in range(len(settings))],
                           **{names[name]: values for name, values in zip(_SHARED, settings.T, strict=True)},
                           "rlnImagePixelSize": pixel_size_ang, "rlnImageSize": images.shape[-1],
                           "rlnImageDimensionality": 2})
    path = folder / "images.star"
    starfile.write({"optics": optics, "particles": rows}, path)
    return path


@dataclass(frozen=True)
class Classification:
    """How RELION is asked to classify."""

    particle_diameter_ang: float
    iterations: int
    threads: int
    seed: int
    ctf_flags: tuple[str, ...] = ()  # nothing, or ``--ctf`` and what goes with it
    n_classes: int = 1
    reference: Path | None = None  # a map in whose poses to classify in 3D; None = 2D
    reference_ang: float = 60.0  # resolution that is left of it at the start


def one_class_average(folder: Path, asked: Classification) -> np.ndarray:
    """Average ``(d, d)`` of the images in ``folder`` (``write_images``) aligned by RELION as one 2D class.

    Raises ConfigError and DataError as ``classify``.
    """
    classify(folder, asked)
    with mrcfile.open(folder / f"{_ROOT}_it{asked.iterations:03d}_classes.mrcs", permissive=True) as stored:
        return np.array(stored.data, np.float32).reshape(stored.data.shape[-2:])


def tables(folder: Path) -> list[Path]:
    """The star files of ``classify``, one for each iteration from the first that are kept."""
    return sorted(path for path in folder.glob(f"{_ROOT}_it*_data.star") if not path.name.startswith(f"{_ROOT}_it000"))


def class_numbers(table_star: Path) -> dict[int, int]:
    """Class, from 0, of every particle id in one of ``tables``."""
    table = read_star(table_star)
    classes = table.integers("rlnClassNumber") - 1
    return dict(zip(particle_ids(table).tolist(), classes.tolist(), strict=True))


def write_classes(folder: Path, iterations: int, pixel_size_ang: float) -> None:
    """Averages and alignment after ``classify`` as ``classes2d`` leaves them: its stack, and a row for each particle.

    RELION moves an image by ``rlnOrigin`` to centre it: the particle's shift is its opposite. It calls nothing junk.
    """
    table = read_star(folder / f"{_ROOT}_it{iterations:03d}_data.star")
    label, psi = table.integers("rlnClassNumber") - 1, table.numbers("rlnAnglePsi")
    shifts = -np.stack([table.numbers(f"rlnOrigin{axis}Angst") for axis in "XY"], 1)
    result_files.write_csv(folder / result_files.PARTICLES_CSV,
                           ["particle_id", "label", "junk", "psi_deg", "shift_x_ang", "shift_y_ang"],
                           [[int(i), int(k), 0, f"{angle:.4f}", f"{x:.4f}", f"{y:.4f}"] for i, k, angle, (x, y)
                            in zip(particle_ids(table), label, psi, shifts, strict=True)])
    with mrcfile.open(folder / f"{_ROOT}_it{iterations:03d}_classes.mrcs", permissive=True) as stored:
        averages = np.array(stored.data, np.float32).reshape(-1, *stored.data.shape[-2:])
    write_stack(folder / result_files.MAPS / result_files.CLASSES_MRCS, averages, pixel_size_ang)


def ctf_flags(ctf: np.ndarray | None) -> tuple[str, ...]:
    """RELION's options for images with this CTF table ``(n, 8)``. Raises DataError where only some are flipped."""
    if ctf is None:
        return ()
    flipped = np.asarray(ctf)[:, CTF_COLUMNS.index("phase_flipped")] != 0
    if flipped.any() and not flipped.all():
        raise DataError(f"{int(flipped.sum())} of {len(flipped)} particles are phase-flipped ({PHASE_FLIPPED}); "
                        f"{PROGRAM} takes all or none.", "Give the sets one by one.")
    return ("--ctf", "--ctf_phase_flipped") if flipped.any() else ("--ctf",)


def classify(folder: Path, asked: Classification) -> None:
    """Classification of the images in ``folder`` (``write_images``), with RELION's defaults, as in the thesis.

    In 3D from one reference, whose images RELION divides by chance; then the star files of all iterations are kept.

    Raises ConfigError without RELION, DataError where it fails (its own message is quoted).
    """
    program, iterations = find_program(), asked.iterations
    for older in folder.glob(f"{_ROOT}_it*"):
        older.unlink()
    made = folder / f"{_ROOT}_it{iterations:03d}_data.star"
    kind = _OF_2D if asked.reference is None else (*_OF_3D, "--ref", str(asked.reference), "--ini_high",
                                                   f"{asked.reference_ang:g}")
    command = [program, "--i", "images.star", "--o", f"./{_ROOT}", "--K", str(asked.n_classes),
               "--iter", str(iterations), *kind,
               "--particle_diameter", f"{asked.particle_diameter_ang:g}", "--zero_mask",
               "--flatten_solvent", "--oversampling", "1", "--offset_range", "5",
               "--offset_step", "2", "--norm", "--scale", "--pool", "30", "--pad", "2", "--dont_check_norm",
               "--j", str(max(1, asked.threads)), "--random_seed", str(asked.seed), *asked.ctf_flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **_MPI})
    (folder / f"{_ROOT}.log").write_text(done.stdout + done.stderr)
    if done.returncode != 0 or not made.exists():
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line and line.strip() != "ERROR:"]
        raise DataError(f"{folder}: {PROGRAM} failed: {lines[-1] if lines else f'exit code {done.returncode}'}",
                        f"See {folder / f'{_ROOT}.log'}.")
    kept = [] if asked.reference is None else tables(folder)
    for older in folder.glob(f"{_ROOT}_it*"):
        if not older.name.startswith(f"{_ROOT}_it{iterations:03d}") and older not in kept:
            older.unlink()
