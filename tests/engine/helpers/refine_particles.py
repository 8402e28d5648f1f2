"""Small maps and particles at known poses for the tests of the room refine."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from vaegan_engine.contract.settings import ComputeConfig, StatesRun
from vaegan_engine.physics.ctf import ctf_2d
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.projection import extract_slices, map_to_fourier, shift_slices, slices_to_images
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.refine.problem import Problem, Recorder
from vaegan_engine.refine.tuning import TUNING, RefineTuning, SearchTuning, StartTuning
from vaegan_engine.runtime.journal import Journal
from vaegan_engine.runtime.step_store import Checkpoints

PIXEL_SIZE_ANG = 6.0
RUN = StatesRun(start_shells=4.0, search_shells=6.0, state_shells=7.0,
                compute=ComputeConfig(device="cpu", threads=1, seed=0))
FEW_ROTATIONS = RefineTuning(start=StartTuning(n_rotations=150, search_n_rotations=150),
                             search=SearchTuning(n_rotations=300))


def mask_of(box_px: int) -> torch.Tensor:
    """The mask of most tests: a soft sphere ``(d, d, d)`` of 0.4 of the box."""
    return torch.from_numpy(soft_sphere_mask(box_px, 0.4 * box_px, 2.0))


def problem_of(images: Images, min_state: int = 10, run: StatesRun = RUN, tuning: RefineTuning = TUNING, **other
               ) -> Problem:
    """Images and what is asked of them; half sets in turn."""
    run = replace(run, smallest_frac=(min_state + 0.5) / len(images))
    given = {"mask": mask_of(images.box_px), "half_set": 1 + np.arange(len(images)) % 2, "particle_radius_frac": 0.45,
             "max_shift_px": 1.0, **other}
    return Problem(images, run, tuning=tuning, **given)


def recorder_of(folder: Path) -> Recorder:
    """Journal and steps of a new refinement."""
    return Recorder(Journal(folder, False), Checkpoints(folder, {}, torch.device("cpu"), False))


def blobs(seed: int, box_px: int = 24, n: int = 12, width_frac: float = 0.06, reach_frac: float = 0.22) -> torch.Tensor:
    """An asymmetric map ``(d, d, d)`` of Gaussian blobs, their centres in a cube about the middle."""
    rng = np.random.default_rng(seed)
    x = np.arange(box_px) - box_px // 2
    z, y, x = np.meshgrid(x, x, x, indexing="ij")
    density = np.zeros(z.shape)
    for centre in rng.uniform(-reach_frac, reach_frac, (n, 3)) * box_px:
        r2 = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        density += rng.uniform(0.5, 1.5) * np.exp(-r2 / (2 * (width_frac * box_px) ** 2))
    return torch.from_numpy(density.astype(np.float32))


def simulated(maps: list[torch.Tensor], n_each: int, noise: float, seed: int = 0):
    """Images of maps at random poses with CTF: (Images, labels, A, shifts_px)."""
    rng = torch.Generator().manual_seed(seed)
    maps, n = torch.stack(maps), n_each * len(maps)
    label = torch.arange(len(maps)).repeat_interleave(n_each)
    rotations = random_rotations(n, rng)
    shifts = 2 * torch.rand(n, 2, generator=rng) - 1
    ctf = torch.tensor([[0.0, 0, 0, 300, 2.7, 0.1, 0]]).repeat(n, 1)
    ctf[:, 0] = 12000 + 10000 * torch.rand(n, generator=rng)
    ctf[:, 1] = ctf[:, 0] - 300
    d = maps.shape[-1]
    slices = shift_slices(extract_slices(map_to_fourier(maps), label, rotations, d), shifts)
    clean = slices_to_images(slices * ctf_2d(ctf, d, PIXEL_SIZE_ANG))
    images = clean / clean.std() + noise * torch.randn(clean.shape, generator=rng)
    return Images(images.numpy(), ctf.numpy(), PIXEL_SIZE_ANG, torch.device("cpu")), label.numpy(), rotations, shifts
