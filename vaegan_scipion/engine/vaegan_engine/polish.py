"""All images against all states: classes and poses settled together, then detail from independent halves.

Every image keeps a pose in every class, so that it can change class without a new search. Maps of a half set
come only from that half's images and poses, after the joint maps were cut at the radius where the halves begin
(RELION's convention of a low-passed common start).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .abinitio import Images, image_power, low_passed, search_all
from .band import Band, make_band
from .divide import State
from .fsc import fourier_shell_correlation
from .heterogeneity import misfits, reconstruction, residual_noise
from .mixture import MapMixture
from .posed_images import Coefficients, PosedImages

_POSE_ITERATIONS = 2
_HALF_ITERATIONS = 3


@dataclass
class Assignment:
    """Class of every image, its pose in every class, and the maps."""

    class_: np.ndarray  # (n,) int64
    log_posterior: np.ndarray  # (n, c) float32, natural; probabilities would be 0 where two others must be compared
    A: Tensor  # (n, c, 3, 3)
    shifts_px: Tensor  # (n, c, 2)
    volumes: Tensor  # (c, d, d, d)
    noise: Tensor  # (d//2 + 1,) variance per coefficient
    aside: np.ndarray  # (n,) bool, images of no state (``junk``); their class is the most probable one

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.volumes)

    def poses(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rotations and shifts of images in the frame of their own class."""
        at, own = torch.from_numpy(rows), torch.from_numpy(self.class_[rows])
        return self.A[at, own], self.shifts_px[at, own]

    def members(self, c: int) -> np.ndarray:
        """Row numbers of class c."""
        return np.flatnonzero((self.class_ == c) & ~self.aside)

    def sizes(self) -> np.ndarray:
        """Images of each class ``(c,)``."""
        return np.bincount(self.class_[~self.aside], minlength=self.n_classes)

    def without(self, c: int) -> Assignment:
        """Class c dissolved: its images go to the most probable of the others."""
        kept = [k for k in range(self.n_classes) if k != c]
        log_posterior = self.log_posterior[:, kept]
        class_ = np.where(self.class_ == c, log_posterior.argmax(1), self.class_ - (self.class_ > c))
        return Assignment(class_, log_posterior, self.A[:, kept], self.shifts_px[:, kept], self.volumes[kept],
                          self.noise, self.aside)

    def without_small(self, smallest: int) -> Assignment:
        """Classes below ``smallest`` images dissolved, the least one first; one class always stays."""
        found = self
        while found.n_classes > 1 and found.sizes().min() < smallest:
            found = found.without(int(found.sizes().argmin()))
        return found


def searched(data: Images, states: list[State], radius: float, n_rotations: int, largest_shift_px: float,
             mask: Tensor, progress: Callable[[int], None] | None = None) -> Assignment:
    """A global pose search of all images in all states' maps, so that no image stays where a split left it."""
    band, total = make_band(data.box_px, radius, data.device), 0
    power = image_power(data)
    noise = torch.zeros_like(power)
    for state in states:
        images = PosedImages(Coefficients(data, state.rows, band), state.A, state.shifts_px)
        noise += len(state.rows) * residual_noise(images, state.volume)
        total += len(state.rows)
    shell = torch.arange(len(power), device=data.device)
    noise = torch.where(shell <= radius, noise / total, power)
    maps = low_passed(torch.stack([state.volume for state in states]), radius)
    found = search_all(data, MapMixture(maps, noise, mask), np.arange(len(data)), radius, n_rotations,
                       largest_shift_px, progress=progress)
    evidence = torch.from_numpy(found.log_evidence)
    return Assignment(found.log_evidence.argmax(1), evidence.log_softmax(1).numpy(), found.A, found.shifts_px, maps,
                      noise, np.zeros(len(data), bool))


def class_map(data: Images, found: Assignment, rows: np.ndarray, band: Band, precision: Tensor, mask: Tensor
              ) -> tuple[Tensor, Tensor]:
    """Reconstruction from some images at their poses, and its residual noise per shell."""
    images = PosedImages(Coefficients(data, rows, band), *found.poses(rows))
    volume = reconstruction(images, precision, mask)
    return volume, residual_noise(images, volume)


def class_log_posterior(costs: list[Tensor], sizes: np.ndarray) -> np.ndarray:
    """``(n, c)`` log probabilities of the classes from the misfit ``(n,)`` in each and the images it has."""
    log_share = torch.from_numpy(np.log(np.maximum(sizes, 1) / max(sizes.sum(), 1))).to(costs[0])
    found: np.ndarray = (log_share - torch.stack(costs, 1)).log_softmax(1).cpu().numpy()
    return found


def cost_of(images: PosedImages, volume: Tensor, precision: Tensor, spread: float, plain: Tensor) -> Tensor:
    """Misfit ``(n,)`` of images that states are compared by: the ``plain`` one, or at the best contrast for the map."""
    return misfits(images, volume, precision, spread) if spread else plain


def reassign(data: Images, found: Assignment, radius: float, mask: Tensor, rounds: int, smallest: int) -> Assignment:
    """Maps, then poses and class of every image by the smallest misfit over all classes; repeated.

    A class that falls below ``smallest`` images is dissolved (``Assignment.without_small``).
    """
    band = make_band(data.box_px, radius, data.device)
    source, precision = Coefficients(data, np.arange(len(data)), band), torch.ones_like(band.weight)
    for _ in range(rounds):
        found = found.without_small(smallest)
        sizes = found.sizes()
        made = [class_map(data, found, found.members(c), band, precision, mask) for c in range(found.n_classes)]
        volumes = torch.stack([volume for volume, _ in made])
        noise = sum(noise * (size / sizes.sum()) for (_, noise), size in zip(made, sizes, strict=True))
        assert isinstance(noise, Tensor)
        precision = band.weight / noise[band.shell]
        A, shifts, costs = found.A.clone(), found.shifts_px.clone(), []
        for c in range(found.n_classes):
            better, cost = PosedImages(source, A[:, c], shifts[:, c]).refined(volumes[c], precision, _POSE_ITERATIONS)
            A[:, c], shifts[:, c] = better.A, better.shifts_px
            costs.append(cost_of(better, volumes[c], precision, data.contrast_spread, cost))
        log_posterior = class_log_posterior(costs, sizes)
        found = Assignment(log_posterior.argmax(1), log_posterior, A, shifts, volumes, noise, found.aside)
    return found.without_small(smallest)


def smaller_halves(found: Assignment, half_set: np.ndarray) -> np.ndarray:
    """Part of each class's images that are in its smaller half set ``(c,)``; ``half_set`` (n,) of 1 and 2."""
    second = np.array([np.mean(half_set[found.members(c)] == 2) for c in range(found.n_classes)])
    return np.minimum(second, 1 - second)


@dataclass
class Halves:
    """Maps of one class from two disjoint halves, and their FSC."""

    maps: np.ndarray  # (2, d, d, d) float32
    full: np.ndarray  # (d, d, d) float32, all images
    fsc: np.ndarray  # (d//2 + 1,)


def refine_halves(data: Images, found: Assignment, c: int, half_set: np.ndarray, start_radius: float, mask: Tensor,
                  rounds: int, threshold: float = 0.143) -> Halves:
    """Detail of class c: two halves refined apart, the band growing with their FSC; poses are kept in ``found``.

    The band of the next round reaches two shells past the FSC's fall below ``threshold``, at most Nyquist.
    """
    d, radius = data.box_px, start_radius
    rows = found.members(c)
    members = [rows[half_set[rows] == half] for half in (1, 2)]
    volumes = [low_passed(found.volumes[c][None], start_radius)[0]] * 2
    fsc = np.ones(d // 2 + 1)
    for _ in range(rounds):
        band = make_band(d, radius, data.device)
        made = []
        for rows, volume in zip(members, volumes, strict=True):
            images = PosedImages(Coefficients(data, rows, band), *found.poses(rows))
            precision = band.weight / residual_noise(images, volume)[band.shell]
            better, _ = images.refined(volume, precision, _HALF_ITERATIONS)
            at = torch.from_numpy(rows)
            found.A[at, c], found.shifts_px[at, c] = better.A, better.shifts_px
            wide = make_band(d, min(d / 2, radius + 4), data.device)
            made.append(class_map(data, found, rows, wide, torch.ones_like(wide.weight), mask)[0])
        volumes = made
        fsc = fourier_shell_correlation(*(v.cpu().numpy() for v in volumes))
        below = np.flatnonzero(fsc[1:] < threshold)
        reached = (below[0] + 1) if len(below) else d // 2
        radius = float(min(d / 2, max(radius, reached + 2)))
    return halves_at(data, found, c, half_set, mask)


def halves_at(data: Images, found: Assignment, c: int, half_set: np.ndarray, mask: Tensor) -> Halves:
    """Maps of class c at its poses as they are, to Nyquist."""
    rows = found.members(c)
    wide = make_band(data.box_px, data.box_px / 2, data.device)
    flat = torch.ones_like(wide.weight)
    maps = [class_map(data, found, rows[half_set[rows] == half], wide, flat, mask)[0].cpu().numpy() for half in (1, 2)]
    full, _ = class_map(data, found, rows[half_set[rows] > 0], wide, flat, mask)
    return Halves(np.stack(maps), full.cpu().numpy(), fourier_shell_correlation(*maps))
