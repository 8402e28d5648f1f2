"""One in-plane frame for all class averages, and for every image the turn that its own structure asks for.

A class average lies at any angle. Averages of like views are turned alike, along a tree of the likest pairs; a view has
no angle of its own (a frame of all directions must break somewhere), so that this holds between neighbours. Then, with
principal images of all (``principal_maps``), a class is turned to where its images are likeliest, and every image a
little about there: by the evidence of an image with its latent integrated out (``map_family.Seen.log_evidence``).
"""
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.fourier_band import make_band
from ..physics.map_constraint import MapConstraint
from ..physics.rotations import euler_to_matrix
from ..physics.shards import shared_parts
from ..physics.space import PLANES
from ..reconstruction.map_family import FAMILY_CHUNK_IMAGES, Family, family, read_slices, seen
from ..reconstruction.principal_maps import PrincipalMaps, drawn_maps, first_planes, improved
from .posed_images import PosedParticles

FRAME_SHELLS = 8.0  # that averages are compared in
STEP_DEG = 5.0
NEAR = 0.8  # correlation from which two averages are neighbours
SWEEPS = 5
N_LOOKED_AT = 3000  # images that principal images are made of
N_OF_CLASS = 40  # images of a class that its turn is found with
CLASS_STEP_DEG = 10.0
ROUNDS = 3  # of principal images and turns in turn
EM_ROUNDS = 4  # of principal images in each
NEAR_DEG = ((-12.0, -6.0, 0.0, 6.0, 12.0), (-3.0, -1.5, 0.0, 1.5, 3.0))  # about an image's turn, in turn


def in_plane(psi_deg: Tensor) -> Tensor:
    """Rotations ``(n, 3, 3)`` about the view."""
    none = torch.zeros_like(psi_deg)
    return euler_to_matrix(none, none, psi_deg).float()


def turned(particles: PosedParticles, psi_deg: Tensor) -> PosedParticles:
    """The same at other turns (n,)."""
    return replace(particles, rotations=in_plane(psi_deg), psi_rad=torch.deg2rad(psi_deg).float())


def common_turns_deg(averages: Tensor) -> Tensor:
    """Turns ``(c,)`` of averages ``(c, d, d)``: an image at psi to its average is at psi less its class's turn."""
    c, step = len(averages), STEP_DEG
    band = make_band(averages.shape[-1], min(FRAME_SHELLS, averages.shape[-1] / 2 - 1), averages.device)
    turns = torch.arange(0, 360, step, device=averages.device)
    slices = read_slices(family(averages[0], averages[1:], band).table, PLANES.stencil(band, in_plane(turns)))[..., :c]
    slices = (slices * (band.weight * (band.shell > 0)).sqrt()[:, None]).movedim(-1, 1)  # (t, c, p)
    values = torch.view_as_real(slices).flatten(2)
    values = values / values.norm(dim=2, keepdim=True).clamp_min(1e-12)
    alike = torch.einsum("ap,tbp->abt", values[0], values)  # a as it is, b turned by t
    best, at = alike.max(2)
    found = torch.zeros(c, device=averages.device)
    done, left = [0], list(range(1, c))
    while left:
        place = int(best[done][:, left].argmax())
        a, b = done[place // len(left)], left[place % len(left)]
        found[b] = found[a] + turns[at[a, b]]
        done.append(b)
        left.remove(b)
    near = torch.where(best > NEAR, best, 0.0).pow(4).fill_diagonal_(0)
    for _ in range(SWEEPS):
        for b in range(c):
            if float(near[:, b].sum()) > 0:
                steps = (found / step).round().long()
                shifted = torch.stack([alike[a, b].roll(int(steps[a])) for a in range(c)])
                found[b] = step * float((near[:, b, None] * shifted).sum(0).argmax())
    return found % 360


class InClasses(NamedTuple):
    """Which class each image is in, and what the classes look like."""

    label: Tensor  # (n,) int64
    averages: Tensor  # (c, d, d)


class Reader(NamedTuple):
    """Principal images, and the table that turned ones are read from."""

    maps: PrincipalMaps
    read: Family

    def log_evidence(self, particles: PosedParticles, rows: Tensor) -> Tensor:
        """``log p(X | turn)`` of the images ``rows (n,)`` where they are."""
        def of_part(first: int, end: int) -> Tensor:
            part = particles.part(rows[first:end])
            return seen(self.read, part, self.maps.precision, self.maps.spreads).log_evidence()

        return torch.cat(shared_parts(of_part, len(rows), FAMILY_CHUNK_IMAGES))


def aligned(particles: PosedParticles, classes: InClasses, constraint: MapConstraint, seed: int, n_basis: int
            ) -> PosedParticles:
    """Images at turns to their class's average, turned to one frame."""
    label = classes.label
    psi_deg = torch.rad2deg(particles.psi_rad) - common_turns_deg(classes.averages)[label]
    particles, some = turned(particles, psi_deg), particles.spread(N_LOOKED_AT)
    every = torch.arange(len(particles), device=label.device)
    start = first_planes(particles, n_basis, constraint)
    maps = drawn_maps(start, particles.part, some, constraint, seed)
    maps = improved(maps, particles.part, some, constraint, EM_ROUNDS)
    for k in range(ROUNDS):
        reader, rows = Reader(maps, family(maps.mean, maps.basis, maps.band)), every if k == ROUNDS - 1 else some
        if k == 0:
            psi_deg = psi_deg + _class_turns_deg(particles, label, reader)[label]
        for offsets in NEAR_DEG:
            psi_deg = _nearest(particles, psi_deg, rows, offsets, reader)
        particles = turned(particles, psi_deg)
        if k < ROUNDS - 1:
            maps = improved(maps, particles.part, some, constraint, EM_ROUNDS)
    return particles


def _class_turns_deg(particles: PosedParticles, label: Tensor, reader: Reader) -> Tensor:
    """By how much all images of a class are to be turned ``(c,)``."""
    n_classes = int(label.max()) + 1
    rows = torch.cat([torch.nonzero(label == k).flatten()[:N_OF_CLASS] for k in range(n_classes)])
    psi_deg = torch.rad2deg(particles.psi_rad)
    turns = torch.arange(0, 360, CLASS_STEP_DEG, device=label.device)
    evidence = torch.stack([
        torch.zeros(n_classes, device=label.device).index_add_(
            0, label[rows], reader.log_evidence(turned(particles, psi_deg + turn), rows)) for turn in turns])
    return turns[evidence.argmax(0)]


def _nearest(particles: PosedParticles, psi_deg: Tensor, rows: Tensor, offsets: tuple[float, ...], reader: Reader
             ) -> Tensor:
    """Turns ``(n,)`` with those of ``rows`` at the likeliest of some offsets."""
    evidence = torch.stack([reader.log_evidence(turned(particles, psi_deg + offset), rows) for offset in offsets])
    best = torch.tensor(offsets, device=psi_deg.device)[evidence.argmax(0)]
    return psi_deg.index_add(0, rows, best.to(psi_deg))
