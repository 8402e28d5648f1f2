"""Maps from particles without poses: mini-batch expectation maximisation, coarse to fine.

Starts from maps (the VAE-GAN's, one per cluster) or from soft random blobs. Every step searches all
rotations of an even grid, turned at random so that no grid direction is preferred, and all shifts.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .band import Band, image_coefficients, make_band, shell_sums, shift_grid, shift_phases
from .fsc import soft_sphere_mask
from .mixture import MapMixture, Posterior, accumulate, search
from .projection import volume_to_fourier
from .rotations import random_rotations, super_fibonacci_rotations
from .slices import PAD, gather, half_radius, stencil

SHIFTS_PER_PERIOD = 5.0  # of the shift grid, in the finest period of the band
_KEEP_SUMS = 0.9  # of the sums of maps and noise, per step
_SCALE_ROTATIONS = 256
_READ_IMAGES = 1024  # at a time
_SAMPLE_IMAGES = 1000  # for the starting noise and scale
_RANDOM_START = 0.5  # amplitude of a random start, relative to the signal's
_BLOB_FRAC, _BLOB_EDGE_FRAC = 0.25, 0.12  # of the box: radius and edge of a random start


@dataclass(frozen=True)
class Stage:
    """Steps at one resolution."""

    radius: float  # shells (cycles per box)
    n_rotations: int
    steps: int
    batch: int


@dataclass(frozen=True)
class Images:
    """Prepared particles: float16 images ``(n, d, d)`` and CTF rows ``(n, 7)``, often memory-mapped.

    ``contrast`` (n,), where it is known, is a factor of the CTF; ``contrast_spread`` its standard deviation, 0 where
    all are alike.
    """

    images: np.ndarray
    ctf: np.ndarray
    pixel_size_ang: float
    device: torch.device
    contrast: np.ndarray | None = None
    contrast_spread: float = 0.0

    @property
    def box_px(self) -> int:
        """Side of the images."""
        return int(self.images.shape[-1])

    def __len__(self) -> int:
        return len(self.images)

    def strength(self, rows: np.ndarray) -> Tensor | None:
        """What log likelihood ratios of images are proportional to: contrast squared; None where it is unknown."""
        return None if self.contrast is None else torch.from_numpy(self.contrast[rows]).to(self.device).square()

    def coefficients(self, rows: np.ndarray, band: Band) -> tuple[Tensor, Tensor]:
        """Transforms and CTF ``(len(rows), p)`` of some images."""
        transforms = torch.empty(len(rows), len(band.index), dtype=torch.complex64, device=self.device)
        ctf = torch.empty(transforms.shape, device=self.device)
        for first in range(0, len(rows), _READ_IMAGES):  # whole transforms are much larger than what is kept
            at = slice(first, first + _READ_IMAGES)
            images = torch.from_numpy(np.asarray(self.images[rows[at]], np.float32)).to(self.device)
            table = torch.from_numpy(np.asarray(self.ctf[rows[at]], np.float32)).to(self.device)
            transforms[at], ctf[at] = image_coefficients(images, table, self.pixel_size_ang, band)
            if self.contrast is not None:
                ctf[at] *= torch.from_numpy(self.contrast[rows[at]]).to(self.device)[:, None]
        return transforms, ctf


@dataclass(frozen=True)
class Tried:
    """Where the starts of one kind ended; log likelihood ratios are means over unseen images, against an empty map."""

    kind: str
    maps: Tensor  # of the best start, refined further
    noise: Tensor
    each: Tensor  # (n,) of every unseen image
    coarse: list[float]  # of every start, at the resolution of the start

    @property
    def unseen(self) -> float:
        """Mean over the unseen images."""
        return float(self.each.mean())


def spread_rows(n: int, wanted: int) -> np.ndarray:
    """At most ``wanted`` row numbers spread evenly over n."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(np.int64))


def image_power(data: Images) -> Tensor:
    """Mean squared coefficient per shell ``(d//2 + 1,)`` of the images: the starting noise."""
    band = make_band(data.box_px, data.box_px / 2, data.device)
    transforms, _ = data.coefficients(spread_rows(len(data), _SAMPLE_IMAGES), band)
    counts = shell_sums(torch.ones_like(band.weight), band).clamp_min(1)
    power = shell_sums(transforms.abs().square().mean(0), band) / counts
    # the corner shell has too few points inside the Nyquist circle
    power[-1] = power[-2]
    return power.clamp_min(1e-6 * float(power.max()))


def low_passed(maps: Tensor, radius: float) -> Tensor:
    """Maps ``(c, d, d, d)`` with a soft cut at ``radius`` shells."""
    d = maps.shape[-1]
    keep = torch.sigmoid((radius - half_radius(d, maps.device)) / 0.4)
    return torch.fft.irfftn(torch.fft.rfftn(maps, dim=(1, 2, 3)) * keep, s=(d, d, d), dim=(1, 2, 3))


def scaled_to_images(maps: Tensor, data: Images, power: Tensor, radius: float) -> Tensor:
    """Maps times one factor, so that their slices have the power the images have above the noise.

    The noise is taken from the shells near Nyquist.
    """
    band = make_band(data.box_px, radius, data.device)
    A = super_fibonacci_rotations(_SCALE_ROTATIONS, data.device)
    at = stencil(band, A)
    made = torch.stack([gather(v, at).abs().square().mean(0) for v in volume_to_fourier(maps, PAD)]).mean(0)
    transforms, ctf = data.coefficients(spread_rows(len(data), _SAMPLE_IMAGES), band)
    signal = (transforms.abs().square().mean(0) - power[-3]).clamp_min(0)
    inner = band.shell > 0
    expected = (ctf.square().mean(0) * made)[inner].sum()
    return maps * (signal[inner].sum() / expected.clamp_min(1e-30)).sqrt()


def random_maps(n: int, box_px: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """``(n, d, d, d)`` white noise in a soft sphere."""
    blob = torch.from_numpy(soft_sphere_mask(box_px, _BLOB_FRAC * box_px, _BLOB_EDGE_FRAC * box_px)).to(device)
    return torch.randn(n, box_px, box_px, box_px, generator=rng).to(device) * blob


def start(data: Images, maps: Tensor | None, n_maps: int, radius: float, mask: Tensor,
          rng: torch.Generator) -> MapMixture:
    """Mixture at the first step: low-passed, scaled maps, the images' power as noise.

    ``maps`` are filled up with random ones to ``n_maps``: from one map alone a mixture often ends in wrong poses.
    """
    power, groups = image_power(data), []
    if maps is not None:
        groups.append(scaled_to_images(low_passed(maps, radius), data, power, radius))
    n_random = n_maps - (0 if maps is None else len(maps))
    if n_random > 0:
        blobs = random_maps(n_random, data.box_px, rng, data.device)
        groups.append(_RANDOM_START * scaled_to_images(low_passed(blobs, radius), data, power, radius))
    return MapMixture(torch.cat(groups), power, mask)


class Batches:
    """Row numbers in shuffled order, every image once per epoch."""

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self._rows, self._rng = rows, np.random.default_rng(seed)
        self._order, self._next = self._rng.permutation(rows), 0

    def take(self, n: int) -> np.ndarray:
        """The next ``n`` rows (fewer only where there are fewer in all), sorted for the memory map."""
        n = min(n, len(self._rows))
        if self._next + n > len(self._order):
            self._order, self._next = self._rng.permutation(self._rows), 0
        taken = self._order[self._next:self._next + n]
        self._next += n
        return np.sort(taken)

    def state(self) -> dict[str, Any]:
        """Where in which order they are, for ``restore``."""
        return {"order": self._order, "next": self._next, "rng": self._rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as from ``state``."""
        self._order, self._next = state["order"], state["next"]
        self._rng.bit_generator.state = state["rng"]


def run_stage(data: Images, model: MapMixture, stage: Stage, batches: Batches, largest_shift_px: float,
              rng: torch.Generator, after_step: Callable[[dict[str, Any]], None] | None = None,
              done: int = 0) -> None:
    """EM steps of one stage, after ``done`` of them; changes ``model`` in place.

    ``after_step`` gets step, shares of the classes and mean log evidence.
    """
    band = make_band(data.box_px, stage.radius, data.device)
    grid = super_fibonacci_rotations(stage.n_rotations, data.device)
    phases = shift_phases(band, shift_grid(largest_shift_px, shift_step_px(data.box_px, stage.radius), data.device))
    for step in range(done, stage.steps):
        rows = batches.take(stage.batch)
        transforms, ctf = data.coefficients(rows, band)
        turn = random_rotations(1, rng).to(data.device)[0]
        templates = model.templates(band, grid @ turn)
        found = search(transforms, ctf, model, templates, band, phases, spread=data.contrast_spread)
        ctf = ctf * found.contrast[:, None]
        model.forget(_KEEP_SUMS)
        accumulate(model, found, transforms, ctf, templates, band, phases)
        model.solve(stage.radius)
        if after_step:
            shares = found.class_posterior().mean(0)
            after_step({"step": step + 1, "shares": [round(float(x), 4) for x in shares],
                        "log_evidence": float(found.log_evidence.logsumexp(1).mean())})


def shift_step_px(box_px: int, radius: float, per_period: float = SHIFTS_PER_PERIOD) -> float:
    """Step of the shift grid: a part of the finest period in the band, at least half a pixel."""
    return max(0.5, box_px / (per_period * radius))


@dataclass(frozen=True)
class Search:
    """Best poses of all images per class, and the evidence of each class."""

    log_evidence: np.ndarray  # (n, c)
    A: Tensor  # (n, c, 3, 3)
    shifts_px: Tensor  # (n, c, 2)


def search_all(data: Images, model: MapMixture, rows: np.ndarray, radius: float, n_rotations: int,
               largest_shift_px: float, batch: int = 256, progress: Callable[[int], None] | None = None,
               shifts_per_period: float = SHIFTS_PER_PERIOD) -> Search:
    """E step over ``rows`` with the maps held fixed."""
    band = make_band(data.box_px, radius, data.device)
    grid = super_fibonacci_rotations(n_rotations, data.device)
    shifts = shift_grid(largest_shift_px, shift_step_px(data.box_px, radius, shifts_per_period), data.device)
    phases, templates = shift_phases(band, shifts), model.templates(band, grid)
    parts: list[Posterior] = []
    for first in range(0, len(rows), batch):
        mine = rows[first:first + batch]
        parts.append(search(*data.coefficients(mine, band), model, templates, band, phases, entries=False,
                            spread=data.contrast_spread))
        if progress:
            progress(len(mine))
    rotation = torch.cat([part.best_rotation for part in parts])
    shift = torch.cat([part.best_shift for part in parts])
    evidence = torch.cat([part.log_evidence for part in parts])
    return Search(evidence.cpu().numpy(), grid[rotation], shifts[shift])
