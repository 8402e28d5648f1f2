"""Expectation maximisation for several maps at unknown poses, shares and noise level.

Model of image i in the band (``band``), with pose (A, s) and map c::

    X_i(k) = C_i(k) exp(-2 pi i k.s / d) S_A[V_c](k) + n,   n ~ complex normal of variance sigma2(|k|)

``S_A`` is the central slice along A, C the CTF. The E step sums over every rotation of a grid, every
shift of a grid and every class; the M step solves for the maps by weighted back-projection and for
sigma2 by the expected residual. sigma2 begins at the images' own power, so that the posterior is broad
while the maps say little and sharpens as they explain more: that is all the annealing there is.

After Scheres (J. Mol. Biol. 415, 406, 2012: marginalisation, learned noise spectrum) and Punjani et al.
(Nat. Methods 14, 290, 2017: mini-batches, starts without a reference).
"""
from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, shell_sums
from ..physics.map_constraint import MapConstraint
from ..physics.map_resize import resized_maps, resized_transforms
from ..physics.shards import in_parts, shared_parts
from ..physics.slices import PAD, add_slices, as_numpy, map_box_px, take_slices, transforms_of
from . import posterior_kernels as kernels
from .least_squares import solved

KEPT_POSTERIOR = 1e-3  # entries below this part of an image's largest are dropped
MOST_ENTRIES = 256  # per image, on average
_LEAST_LOG_WEIGHT = -30.0  # of a pose relative to the best one
_CACHE_FLOATS, _GPU_FLOATS = 2 ** 20, 2 ** 26  # log likelihoods held at a time: a cache's worth, a GPU's worth
_ROWS_TOGETHER = 64  # templates that one thread sums images at
_STATE = "maps", "noise", "numerator", "denominator", "_residual", "_count"  # of a mixture


class Templates(NamedTuple):
    """Slices of all maps at all rotations of a grid."""

    rotations: Tensor  # (m, 3, 3)
    slices: Tensor  # (c, m, p) complex

    def slices_of(self, rows: Tensor) -> Tensor:
        """Slices ``(len(rows), p)`` at places ``map m + rotation``."""
        return self.slices.flatten(0, 1)[rows]


class UsedTemplates(Protocol):
    """Templates that slices are wanted of at some of their rotations."""

    @property
    def rotations(self) -> Tensor:
        """Rotations (m, 3, 3)."""
        ...

    def slices_of(self, rows: Tensor) -> Tensor:
        """Slices ``(len(rows), p)`` at places ``map m + rotation``, in rising order."""
        ...


class Posterior(NamedTuple):
    """Poses and maps of n images; the entries are sparse."""

    log_evidence: Tensor  # (n, c) log of the likelihood summed over poses, up to a constant of the image
    best_rotation: Tensor  # (n, c) int64, most probable pose per class
    best_shift: Tensor  # (n, c) int64
    image: Tensor  # (e,) int64
    map_index: Tensor  # (e,)
    rotation: Tensor  # (e,)
    shift: Tensor  # (e,)
    weight: Tensor  # (e,) sums to 1 per image
    contrast: Tensor  # (n,) at the most probable pose and class; 1 where the spread is 0

    def moved(self, first: int) -> Posterior:
        """The same of images whose numbers begin at ``first``."""
        return self._replace(image=self.image + first)

    def map_posterior(self) -> Tensor:
        """``(n, c)`` probabilities of the maps."""
        return self.log_evidence.softmax(1)


def joined(parts: list[Posterior]) -> Posterior:
    """The posterior of images in a row from those of some of them."""
    return Posterior(*(torch.cat(column) for column in zip(*parts, strict=True)))


class MapMixture:
    """The maps, their running sums and the noise spectrum."""

    def __init__(self, maps: Tensor, noise: Tensor, constraint: MapConstraint) -> None:
        """``maps`` (c, d', d', d'), ``noise`` (d//2 + 1,) variance per coefficient.

        The noise and the mask of the constraint are in the box of the images, the maps in that or a smaller one.
        """
        self.maps, self.noise, self.constraint = maps, noise.clone(), constraint
        size = PAD * self.box_px
        shape = (len(maps), size, size, size // 2 + 1)
        self.numerator = torch.zeros(shape, dtype=torch.complex64, device=maps.device)
        self.denominator = torch.zeros(shape, device=maps.device)
        self._residual = torch.zeros_like(self.noise)
        self._count = torch.zeros_like(self.noise)

    @property
    def n_maps(self) -> int:
        """Number of maps."""
        return len(self.maps)

    @property
    def box_px(self) -> int:
        """Side of the maps."""
        return self.maps.shape[-1]

    def fit_box(self, radius: float) -> None:
        """Bring maps and sums into the working box of ``radius`` shells."""
        box_px = map_box_px(radius, self.constraint.mask.shape[-1])
        self.maps = resized_maps(self.maps, box_px)
        self.numerator, self.denominator = (resized_transforms(sums, PAD * box_px)
                                            for sums in (self.numerator, self.denominator))

    def precision(self, band: Band) -> Tensor:
        """Weight of each coefficient in the log likelihood ``(p,)``: degrees of freedom / (variance)."""
        return band.weight / self.noise[band.shell]

    def templates(self, band: Band, rotations: Tensor) -> Templates:
        """Slices of all maps along rotations ``(m, 3, 3)``."""
        transforms = transforms_of(self.maps, band)
        return Templates(rotations, torch.stack([take_slices(map_ft, band, rotations) for map_ft in transforms]))

    def keep(self, chosen: list[int]) -> None:
        """Drop all other maps."""
        self.maps = self.maps[chosen]
        self.numerator, self.denominator = self.numerator[chosen], self.denominator[chosen]

    def state(self) -> dict[str, Tensor]:
        """Maps, noise and running sums, for ``restore``."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on as from ``state``."""
        for name in _STATE:
            setattr(self, name, state[name])

    def forget(self, fraction_kept: float) -> None:
        """Shrink all sums: older images count less."""
        for sums in (self.numerator, self.denominator, self._residual, self._count):
            sums *= fraction_kept

    def add_noise(self, residual: Tensor, n_images: int, band: Band) -> None:
        """Add squared residuals ``(p,)`` of n images and set the noise of the band's shells."""
        self._residual += shell_sums(residual, band)
        self._count += shell_sums(torch.full_like(residual, float(n_images)), band)
        known = self._count > 0
        self.noise = torch.where(known, self._residual / self._count.clamp_min(1e-9), self.noise)

    def solve(self, radius: float) -> None:
        """Maps from the sums (``solved``), inside the mask; the sums are of the symmetry already (``accumulate``)."""
        sums = zip(self.numerator, self.denominator, strict=True)
        mask = self.constraint.mask_in(self.box_px)
        self.maps = torch.stack([solved(n, d, self.box_px, radius) * mask for n, d in sums])


class Shifted(NamedTuple):
    """Images in a band and the shifts that each is tried at."""

    transforms: Tensor  # (n, p) complex
    ctf: Tensor  # (n, p)
    band: Band
    phases: Tensor  # (s, p) of ``shift_phases``


def search(images: Shifted, model: MapMixture, templates: Templates, entries: bool = True, spread: float = 0.0
           ) -> Posterior:
    """E step: posterior over maps, rotations and shifts of images.

    ``log L = Re sum_k w (X e^{2 pi i k.s/d} C)* S - 1/2 sum_k w C^2 |S|^2`` with w = ``precision``, for all
    templates by one matrix product. Without ``entries`` only evidence and best poses are kept.

    With a ``spread`` of the images' contrast g each template has its best one: the largest value over g of
    ``g B - 1/2 g^2 P - 1/2 (g - 1)^2 / spread^2`` is ``1/2 (B + l)^2 / (P + l) - l / 2``, l = spread^-2, where B and
    1/2 P are the two sums above.
    """
    transforms, ctf, band, phases = images
    n_shifts, (n_maps, m, p) = len(phases), templates.slices.shape
    flat = templates.slices.reshape(n_maps * m, p)
    real = torch.cat((flat.real, flat.imag), -1)
    norms = (flat.real.square() + flat.imag.square()).T
    precision = model.precision(band)
    chunk = max(1, (_CACHE_FLOATS if flat.device.type == "cpu" else _GPU_FLOATS) // (n_shifts * max(n_maps * m, 2 * p)))

    def part(start: int, end: int) -> Posterior:
        rows = slice(start, end)
        shifted = (transforms[rows] * ctf[rows] * precision)[:, None] * phases
        left = torch.cat((shifted.real, shifted.imag), -1).reshape(-1, 2 * p)
        scores = (left @ real.T).reshape(-1, n_shifts, n_maps * m)
        power = (precision * ctf[rows].square()) @ norms
        made = posterior_compiled if scores.device.type == "cpu" else posterior
        return made(scores, power, n_maps, entries, spread).moved(start)

    return joined(shared_parts(part, len(transforms), chunk))


def posterior(scores: Tensor, power: Tensor, n_maps: int, entries: bool, spread: float) -> Posterior:
    """Posterior of images from products B ``(n, s, c m)`` with templates of power P ``(n, c m)``; B is overwritten."""
    n, n_shifts, rows = scores.shape
    m = rows // n_maps
    if spread:
        prior = spread ** -2
        scores.add_(prior).clamp_min_(0).square_().mul_(0.5 / (power[:, None] + prior)).sub_(0.5 * prior)
    else:
        scores -= 0.5 * power[:, None]
    by_map = scores.view(n, n_shifts, n_maps, m)
    best_m, at_m = by_map.max(-1)
    best, best_shift = best_m.max(1)  # (n, c)
    best_rotation = at_m.gather(1, best_shift[:, None]).squeeze(1)
    contrast = _contrast(best, best_rotation, power, spread)
    # exp is five times slower below its least normal number
    weights = by_map.sub_(best[:, None, :, None]).clamp_min_(_LEAST_LOG_WEIGHT).exp_()
    sums = weights.sum(3).sum(1)
    evidence = best + torch.log(sums) - math.log(n_shifts * m)
    if not entries:
        return Posterior(evidence, best_rotation, best_shift, *_no_entries(scores), contrast)
    weights *= (evidence.softmax(1) / sums)[:, None, :, None]
    kept = weights > KEPT_POSTERIOR * weights.amax((1, 2, 3), keepdim=True)
    if int(kept.count_nonzero()) > MOST_ENTRIES * n:  # a flat posterior: the most probable entries stand for all
        least = weights.flatten(1).topk(min(MOST_ENTRIES, n_shifts * rows), dim=1).values[:, -1]
        kept &= weights >= least[:, None, None, None]  # of a sharp one the rest are ties at the floor
    image, shift, map_index, rotation = torch.nonzero(kept, as_tuple=True)
    weight = weights[image, shift, map_index, rotation]
    whole = torch.zeros(n, device=weight.device).index_add_(0, image, weight)
    return Posterior(evidence, best_rotation, best_shift, image, map_index, rotation, shift, weight / whole[image],
                     contrast)


def posterior_compiled(scores: Tensor, power: Tensor, n_maps: int, entries: bool, spread: float) -> Posterior:
    """``posterior`` on a CPU, image by image."""
    n, n_shifts, rows = scores.shape
    values, highest = scores.numpy(), np.empty((n, n_shifts, n_maps), np.float32)
    kernels.finish_scores(values, as_numpy(power), spread ** -2 if spread else 0.0, highest)
    best, sums = torch.empty(2, n, n_maps)
    best_shift, best_rotation = torch.empty(2, n, n_maps, dtype=torch.long)
    kernels.sum_poses(values, highest, _LEAST_LOG_WEIGHT, best.numpy(), best_shift.numpy(), best_rotation.numpy(),
                      sums.numpy())
    contrast = _contrast(best, best_rotation, power, spread)
    evidence = best + torch.log(sums) - math.log(n_shifts * rows // n_maps)
    if not entries:
        return Posterior(evidence, best_rotation, best_shift, *_no_entries(scores), contrast)
    factor = evidence.softmax(1) / sums
    limit = (best + torch.log(KEPT_POSTERIOR * factor.amax(1, keepdim=True) / factor)).numpy()
    counts = np.empty(n, np.int64)
    kernels.count_entries(values, highest, limit, counts)
    if counts.sum() > MOST_ENTRIES * n:  # a flat posterior: the most probable entries stand for all
        kernels.raise_limits(values, highest, limit, best.numpy(), MOST_ENTRIES, counts)
    image, shift, map_index, rotation = torch.empty(4, int(counts.sum()), dtype=torch.long)
    weight = torch.empty(len(image))
    kernels.list_entries(values, highest, limit, best.numpy(), factor.numpy(), image.numpy(), shift.numpy(),
                         map_index.numpy(), rotation.numpy(), weight.numpy())
    return Posterior(evidence, best_rotation, best_shift, image, map_index, rotation, shift, weight, contrast)


def _no_entries(scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    none = torch.zeros(0, dtype=torch.long, device=scores.device)
    return none, none, none, none, none.to(scores)


def _contrast(best: Tensor, rotation: Tensor, power: Tensor, spread: float) -> Tensor:
    """Contrast ``(n,)`` at the best template, from log likelihoods and rotations ``(n, c)`` of the best in each class.

    ``power`` (n, c m): P of all templates. ``g = (B + l) / (P + l)``, B from the likelihood.
    """
    if not spread:
        return torch.ones_like(best[:, 0])
    prior, map_index = spread ** -2, best.argmax(1, keepdim=True)
    row = map_index * (power.shape[1] // best.shape[1]) + rotation.gather(1, map_index)
    return ((2 * best.gather(1, map_index) + prior) / (power.gather(1, row) + prior)).clamp_min(0).sqrt().squeeze(1)


def _by_row(posterior: Posterior, images: Shifted, row: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Weighted images, their shift taken back, and squared CTFs, summed over the entries of each of some templates.

    ``row`` (e,): the template of each entry. ``(n_rows, p)`` complex, and real.
    """
    transforms, ctf, _, phases = images
    values = (transforms[posterior.image] * ctf[posterior.image]) * phases[posterior.shift] * posterior.weight[:, None]
    back = torch.zeros(n_rows, values.shape[1], 2, device=values.device).index_add_(0, row, torch.view_as_real(values))
    power = torch.zeros(back.shape[:2], device=values.device).index_add_(
        0, row, ctf[posterior.image].square() * posterior.weight[:, None])
    return torch.view_as_complex(back), power


def _by_row_compiled(posterior: Posterior, images: Shifted, row: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """``_by_row`` on a CPU, without an array of all entries; templates side by side."""
    transforms, ctf, _, phases = images
    order = torch.argsort(row, stable=True)
    image, shift, weight = (as_numpy(column[order]) for column in (posterior.image, posterior.shift, posterior.weight))
    ends = torch.zeros(n_rows + 1, dtype=torch.long)
    ends[1:] = torch.bincount(row, minlength=n_rows).cumsum(0)
    parts, turns = (as_numpy(torch.view_as_real(values).transpose(1, 2)) for values in (transforms * ctf, phases))
    squares = as_numpy(ctf.square())

    def work(first: int, end: int) -> tuple[Tensor, Tensor]:
        back, power = torch.zeros(end - first, 2, ctf.shape[1]), torch.zeros(end - first, ctf.shape[1])
        kernels.add_by_row(parts, squares, turns, image, shift, weight, ends.numpy(), first, back.numpy(),
                           power.numpy())
        return torch.complex(back[:, 0], back[:, 1]), power

    return tuple(map(torch.cat, zip(*in_parts(work, n_rows, _ROWS_TOGETHER), strict=True)))  # type: ignore[return-value]


def accumulate(model: MapMixture, posterior: Posterior, images: Shifted, templates: UsedTemplates) -> None:
    """M step, first half: add the images to the sums of maps and noise, weighted by their posterior."""
    transforms, band = images.transforms, images.band
    precision = model.precision(band)
    m = len(templates.rotations)
    used, row = torch.unique(posterior.map_index * m + posterior.rotation, return_inverse=True)
    by_row = _by_row_compiled if transforms.device.type == "cpu" else _by_row
    back_complex, power = by_row(posterior, images, row, len(used))
    slices = templates.slices_of(used)
    residual = (transforms.abs().square().sum(0) - 2 * (back_complex.conj() * slices).real.sum(0)
                + (power * slices.abs().square()).sum(0)).clamp_min(0)
    for c in range(model.n_maps):
        mine = torch.nonzero(used // m == c).squeeze(1)
        if len(mine) == 0:
            continue

        def part(rows: slice, mine: Tensor = mine) -> tuple[Tensor, Tensor]:
            return precision * back_complex[mine[rows]], precision * power[mine[rows]]

        numerator, denominator = add_slices(part, band, templates.rotations[used[mine] % m], model.box_px,
                                            model.constraint.group)
        model.numerator[c] += numerator
        model.denominator[c] += denominator
    model.add_noise(residual, len(transforms), band)
