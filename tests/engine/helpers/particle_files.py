"""Write small stacks and star files for the tests, byte by byte, without the code under test; read them with it."""
from pathlib import Path

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data.particles import load_particles

MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def write_stack(path, images, mode=2, order="<", extended_bytes=0):
    """Write (n, y, x) images as an MRC stack of that mode and byte order."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    header["nz"], header["ny"], header["nx"] = images.shape
    header["mode"], header["nsymbt"], header["map"] = mode, extended_bytes, b"MAP "
    pixels = np.asarray(images).astype(np.dtype(MODES[mode]).newbyteorder(order))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.tobytes() + bytes(extended_bytes) + pixels.tobytes())
    return path


def star_block(name, columns):
    """One loop of a star file from a dict of equally long columns."""
    lines = [f"data_{name}", "", "loop_"]
    lines += [f"_{column} #{i}" for i, column in enumerate(columns, 1)]
    lines += [" ".join(str(value) for value in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n\n"


def ctf_columns(n):
    """Defocus columns that differ from row to row."""
    return {"rlnDefocusU": [10000.0 + 10 * i for i in range(n)],
            "rlnDefocusV": [9000.0 + 10 * i for i in range(n)],
            "rlnDefocusAngle": [float(i) for i in range(n)]}


def optics_columns(pixel_size_ang=2.0):
    return {"rlnOpticsGroup": [1], "rlnVoltage": [300.0], "rlnSphericalAberration": [2.7],
            "rlnAmplitudeContrast": [0.1], "rlnImagePixelSize": [pixel_size_ang]}


def particle_columns(n, stack="particles.mrcs"):
    return {"rlnImageName": [f"{i + 1:06d}@{stack}" for i in range(n)], **ctf_columns(n),
            "rlnOpticsGroup": [1] * n}


def write_star(path, particles, optics=None):
    """Write a RELION 3.1 star file, or 3.0 (one block) without optics."""
    path = Path(path)
    if optics is None:
        path.write_text("\n" + star_block("", particles))
    else:
        path.write_text("\n# version 30001\n\n" + star_block("optics", optics)
                        + "\n# version 30001\n\n" + star_block("particles", particles))
    return path


def noise_images(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d, d)).astype(np.float32)


def write_particles(folder, n=6, d=24, images=None):
    """A whole small data set; returns its star file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_stack(folder / "particles.mrcs", noise_images(n, d) if images is None else images)
    return write_star(folder / "particles.star", particle_columns(n), optics_columns())


def loaded(star, stack="", **settings):
    """The particles of a star file with some of the settings of a run."""
    return load_particles(DataConfig(particles=str(star), stack=str(stack), **settings))
