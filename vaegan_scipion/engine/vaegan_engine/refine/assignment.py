"""All images against all states: classes and poses settled together, then detail from independent halves.

Every image keeps a pose in every class, so that it can change class without a new search. Maps of a half set
come only from that half's images and poses, after the joint maps were cut at the radius where the halves begin
(RELION's convention of a low-passed common start).
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, make_band
from ..reconstruction.images import Images, image_power, low_passed
from ..reconstruction.least_squares import misfits, project, reconstruction, residual_noise
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import search_all
from ..reconstruction.posed_images import Coefficients, PosedImages
from .states import Assignment, State

_POSE_ITERATIONS = 2


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


def explained(data: Images, found: Assignment, band: Band) -> tuple[np.ndarray, np.ndarray]:
    """Misfit and gain ``(n,)`` of every image, junk too, in its most probable state."""
    precision = band.weight / found.noise[band.shell]
    misfit, gain = np.empty(len(found.class_)), np.empty(len(found.class_))
    for c in range(found.n_classes):
        rows = np.flatnonzero(found.class_ == c)
        if len(rows) == 0:
            continue
        parts = []
        for part in PosedImages(Coefficients(data, rows, band), *found.poses(rows)).chunks():
            made = project(part, found.volumes[c])
            parts.append(torch.stack((
                (precision * (part.moved - made).abs().square()).sum(1) / band.weight.sum(),
                (precision * (part.moved.conj() * made).real).sum(1) - 0.5 * (precision * made.abs().square()).sum(1))))
        misfit[rows], gain[rows] = torch.cat(parts, 1).double().cpu().numpy()
    return misfit, gain
