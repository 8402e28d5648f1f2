"""A body whose arm turns, and images of it at random poses."""
from __future__ import annotations

import numpy as np
import torch
from refine_particles import PIXEL_SIZE_ANG
from vaegan_engine.physics.ctf import ctf_2d
from vaegan_engine.physics.projection import extract_slices, map_to_fourier, shift_slices, slices_to_images
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.reconstruction.images import Images

BOX_PX = 24


def arm(angle_rad: float) -> torch.Tensor:
    """An arm turned by an angle about the y axis."""
    x = torch.arange(BOX_PX, dtype=torch.float32) - BOX_PX // 2
    z, y, x = torch.meshgrid(x, x, x, indexing="ij")
    made = torch.zeros_like(x)
    for reach in (4.0, 6.0, 8.0):
        cx, cz = reach * np.cos(angle_rad), reach * np.sin(angle_rad)
        made += torch.exp(-((x - cx) ** 2 + (y - 1) ** 2 + (z - cz) ** 2) / (2 * 1.5 ** 2))
    return made


def images_of(maps: torch.Tensor, label: torch.Tensor, noise: float) -> tuple[Images, torch.Tensor, torch.Tensor]:
    """One image of each labelled map, with CTF, shift and noise: (images, rotations, shifts)."""
    rng = torch.Generator().manual_seed(4)
    n = len(label)
    rotations, shifts = random_rotations(n, rng), 2 * torch.rand(n, 2, generator=rng) - 1
    ctf = torch.tensor([[0.0, 0, 0, 300, 2.7, 0.1, 0]]).repeat(n, 1)
    ctf[:, 0] = ctf[:, 1] = 12000 + 10000 * torch.rand(n, generator=rng)
    slices = shift_slices(extract_slices(map_to_fourier(maps), label, rotations, BOX_PX), shifts)
    clean = slices_to_images(slices * ctf_2d(ctf, BOX_PX, PIXEL_SIZE_ANG))
    images = clean / clean.std() + noise * torch.randn(clean.shape, generator=rng)
    return Images(images.numpy(), ctf.numpy(), PIXEL_SIZE_ANG, torch.device("cpu")), rotations, shifts
