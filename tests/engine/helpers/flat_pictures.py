"""Made images of flat pictures at known turns and shifts, for the tests of class averages."""
import math
from dataclasses import dataclass

import numpy as np
import torch
from vaegan_engine.classes2d.problem import PlaneProblem
from vaegan_engine.classes2d.tuning import TUNING
from vaegan_engine.physics.ctf import ctf_2d
from vaegan_engine.physics.projection import images_to_slices, shift_slices, slices_to_images
from vaegan_engine.reconstruction.images import Images

# x, y, width (fractions of the box) and height of Gaussian blobs; no picture has a symmetry
PICTURES = (((-0.15, 0.0, 0.06, 1.0), (0.12, 0.1, 0.05, 1.3), (0.05, -0.16, 0.045, 0.9), (-0.05, 0.12, 0.05, 0.6)),
            ((0.0, 0.0, 0.1, 0.8), (0.18, 0.0, 0.04, 1.5), (-0.1, -0.14, 0.05, 1.1), (-0.16, 0.1, 0.04, 0.7)))


@dataclass(frozen=True)
class Made:
    """Images and how they were made."""

    images: np.ndarray  # (n, d, d)
    ctf: np.ndarray  # (n, 8)
    psi_deg: np.ndarray  # (n,)
    shift_px: np.ndarray  # (n, 2)
    picture: np.ndarray  # (n,) which


def blobs(picture, d, psi_deg=0.0):
    """A picture ``(d, d)``: point r of the image is at ``R(psi) r`` of the picture."""
    axis = np.arange(d) - d // 2
    x, y = axis[None, :] / d, axis[:, None] / d
    c, s = math.cos(math.radians(psi_deg)), math.sin(math.radians(psi_deg))
    u, v = x * c - y * s, x * s + y * c
    return sum(height * np.exp(-0.5 * ((u - a) ** 2 + (v - b) ** 2) / width ** 2) for a, b, width, height in picture)


def make(n, d=32, pictures=PICTURES, snr=1.0, max_shift_px=2.0, seed=0, flipped=False):
    """``n`` images of pictures in turn, with CTF, shifts and white noise; the signal's variance is 1."""
    rng = np.random.default_rng(seed)
    psi, shift = rng.uniform(-180, 180, n), rng.uniform(-max_shift_px, max_shift_px, (n, 2))
    which = np.arange(n) % max(len(pictures), 1)
    ctf = np.zeros((n, 8), np.float32)
    ctf[:, 0] = rng.uniform(10000, 25000, n)
    ctf[:, 1], ctf[:, 3:6], ctf[:, 7] = ctf[:, 0], (300, 2.7, 0.1), flipped
    clean = np.zeros((n, d, d))
    if pictures:
        clean = np.stack([blobs(pictures[k], d, angle) for k, angle in zip(which, psi, strict=True)])
    planes = images_to_slices(torch.from_numpy(clean).float()) * ctf_2d(torch.from_numpy(ctf), d, 6.0)
    made = slices_to_images(shift_slices(planes, torch.from_numpy(shift).float())).numpy()
    made = made / made.std() if pictures else made
    images = made + rng.standard_normal(made.shape) / math.sqrt(snr)
    return Made(images.astype(np.float32), ctf, psi, shift, which)


def problem_of(made, n_classes=4, n_steps=20, tuning=TUNING, **changes):
    """The problem of made images."""
    images = Images(made.images, made.ctf, 6.0, torch.device("cpu"))
    return PlaneProblem(images, np.arange(len(made.images)) // 2 % 2 + 1, 0.38, 2.5, n_classes, n_steps, tuning=tuning,
                        **changes)


class Quiet:
    """A journal that keeps its notes to itself, and steps that are not kept."""

    def __init__(self):
        self.notes = []

    def stage(self, name, text):
        """Nothing."""

    def note(self, **values):
        """Kept."""
        self.notes.append(values)

    def step(self, name, make):
        """Made each time."""
        return make()

    def read(self, name):
        """Nothing is there."""

    drop = read

    def under_way(self, name, value):
        """Not kept."""
