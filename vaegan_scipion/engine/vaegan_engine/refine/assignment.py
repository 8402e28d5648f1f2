"""All images against all states: states and poses settled together.

Every image keeps a pose in every state, so that it can change its state without a new search.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, make_band
from ..physics.slices import transform_of
from ..reconstruction.images import Images, image_power, low_passed
from ..reconstruction.least_squares import misfits, project, reconstruction, residual_noise
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.near_search import Placed, search_near
from ..reconstruction.pose_search import search_all
from ..reconstruction.posed_images import Coefficients, PosedImages, in_chunks
from .problem import Problem
from .states import Assignment, State


def search_in_all_maps(problem: Problem, states: list[State], shifts_px: Tensor | None = None,
                       progress: Callable[[int], None] | None = None) -> Assignment:
    """A global pose search of all images in all states' maps, so that no image stays where a split left it.

    ``shifts_px`` (n, 2): where all maps are of one frame and the shifts in it are known, only near them.
    """
    images, max_shell = problem.images, problem.settings.search_shells
    noise = joint_noise(problem, states, max_shell)
    maps = low_passed(torch.stack([state.map for state in states]), max_shell)
    model, rows, grid = (MapMixture(maps, noise, problem.constraint), np.arange(len(images)),
                         problem.pose_grid(max_shell))
    if shifts_px is None:
        best = search_all(images, model, rows, grid, progress)
    else:
        placed = Placed(rows, shifts_px[:, None].expand(-1, len(maps), 2))
        best = search_near(images, model, placed, grid, progress)
    log_evidence = torch.from_numpy(best.log_evidence)
    return Assignment(best.log_evidence.argmax(1), log_evidence.log_softmax(1).numpy(), best.rotations, best.shifts_px,
                      maps, noise, np.zeros(len(images), bool))


def joint_noise(problem: Problem, states: list[State], max_shell: float) -> Tensor:
    """Variance per shell ``(d//2 + 1,)`` of what the states leave of their images; above ``max_shell`` the images'."""
    band, total = make_band(problem.box_px, max_shell, problem.device), 0
    power = image_power(problem.images)
    noise = torch.zeros_like(power)
    for state in states:
        posed = PosedImages(Coefficients(problem.images, state.rows, band), state.rotations, state.shifts_px)
        noise += len(state.rows) * residual_noise(posed, state.map)
        total += len(state.rows)
    shell = torch.arange(len(power), device=problem.device)
    return torch.where(shell <= max_shell, noise / total, power)


def at_poses(problem: Problem, assignment: Assignment, rows: np.ndarray, band: Band) -> PosedImages:
    """Some images in a band, each at its pose in its own state."""
    return PosedImages(Coefficients(problem.images, rows, band), *assignment.poses(rows))


def state_map(problem: Problem, assignment: Assignment, rows: np.ndarray, band: Band, precision: Tensor
              ) -> tuple[Tensor, Tensor]:
    """Reconstruction from some images at their poses, and its residual noise per shell."""
    images = at_poses(problem, assignment, rows, band)
    map_ = reconstruction(images, precision, problem.constraint)
    return map_, residual_noise(images, map_)


def state_log_posterior(costs: list[Tensor], sizes: np.ndarray) -> np.ndarray:
    """``(n, c)`` log probabilities of the states from the misfit ``(n,)`` in each and the images it has."""
    log_share = torch.from_numpy(np.log(np.maximum(sizes, 1) / max(sizes.sum(), 1))).to(costs[0])
    log_posterior: np.ndarray = (log_share - torch.stack(costs, 1)).log_softmax(1).cpu().numpy()
    return log_posterior


def cost_of(images: PosedImages, map_: Tensor, precision: Tensor, spread: float, plain: Tensor) -> Tensor:
    """Misfit ``(n,)`` of images that states are compared by: the ``plain`` one, or at the best contrast for the map."""
    return misfits(images, map_, precision, spread) if spread else plain


def reassign(problem: Problem, assignment: Assignment, max_shell: float, rounds: int = 1, all_poses: bool = False
             ) -> Assignment:
    """Maps, then poses and state of every image by the smallest misfit over all states; repeated.

    An image's pose is refined in the states that it may belong to (``RoundTuning.min_posterior``), or with
    ``all_poses`` in all: after a search on a grid the poses of two states are not equally good.
    A state that falls below ``problem.min_state`` images is dissolved (``Assignment.without_small``).
    """
    images, n_iterations = problem.images, problem.tuning.rounds.pose_iterations
    band = make_band(problem.box_px, max_shell, problem.device)
    source, precision = Coefficients(images, np.arange(len(images)), band), torch.ones_like(band.weight)
    for _ in range(rounds):
        assignment = assignment.without_small(problem.min_state)
        sizes, n_states = assignment.sizes(), assignment.n_states
        made = [state_map(problem, assignment, assignment.members(state), band, precision) for state in range(n_states)]
        maps = torch.stack([map_ for map_, _ in made])
        noise = sum(noise * (size / sizes.sum()) for (_, noise), size in zip(made, sizes, strict=True))
        assert isinstance(noise, Tensor)
        precision = band.weight / noise[band.shell]
        rotations, shifts_px, costs = assignment.rotations.clone(), assignment.shifts_px.clone(), []
        chosen = assignment.may_belong(0.0 if all_poses else problem.tuning.rounds.min_posterior)
        for state in range(n_states):
            refined, cost = PosedImages(source, rotations[:, state], shifts_px[:, state]).refined(
                maps[state], precision, n_iterations, torch.from_numpy(chosen[:, state]).to(rotations.device))
            rotations[:, state], shifts_px[:, state] = refined.rotations, refined.shifts_px
            costs.append(cost_of(refined, maps[state], precision, images.contrast_spread, cost))
        log_posterior = state_log_posterior(costs, sizes)
        assignment = Assignment(log_posterior.argmax(1), log_posterior, rotations, shifts_px, maps, noise,
                                assignment.aside)
    return assignment.without_small(problem.min_state)


@dataclass(frozen=True)
class Explained:
    """How well every image, junk too, is explained by its most probable state; all ``(n,)``."""

    misfit: np.ndarray  # mean |X - C S|^2 over the noise (``junk``)
    gain: np.ndarray  # ``gain_over_contrasts``
    contrast: np.ndarray  # the least squares' one
    contrast_variance: np.ndarray
    least_misfit: np.ndarray  # at that contrast


def explained(images: Images, assignment: Assignment, band: Band) -> Explained:
    """Every image at its pose in its state's map, with the common noise.

    With ``B = sum_k w Re(X* C S)`` and ``P = sum_k w |C S|^2`` the least squares' contrast is B / P, of variance 1 / P,
    and the sum of squares falls there by ``(B - P)^2 / P``.
    """
    precision, n = band.weight / assignment.noise[band.shell], len(assignment.state_of)
    products, gain = np.ones((3, n)), np.empty(n)
    for state in range(assignment.n_states):
        rows = np.flatnonzero(assignment.state_of == state)
        if len(rows) == 0:
            continue
        posed = PosedImages(Coefficients(images, rows, band), *assignment.poses(rows))
        products[:, rows] = _misfit_and_products(posed, assignment.maps[state], precision).double().cpu().numpy()
        gain[rows] = gain_over_contrasts(images, rows, *products[1:, rows])
    (misfit, product, power), held = products, np.ones(n) if images.contrast is None else images.contrast
    power = np.maximum(power, np.finfo(np.float64).tiny)
    least = misfit - (product - power) ** 2 / (power * float(band.weight.sum()))
    return Explained(misfit, gain, product / power * held, held ** 2 / power, least)


def misfit_and_gain(images: Images, assignment: Assignment, band: Band) -> tuple[np.ndarray, np.ndarray]:
    """Those two of ``explained`` ``(n,)``."""
    each = explained(images, assignment, band)
    return each.misfit, each.gain


def gain_over_contrasts(images: Images, rows: np.ndarray, product: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Log likelihood ratio ``(n,)`` of maps against an empty one at the best contrast of each image.

    ``product`` is ``B = sum_k w Re(X* C S)``, ``power`` is ``P = sum_k w |C S|^2``, at the contrast that C holds.
    ``B - P / 2`` where contrasts are not modelled; else the highest value over g of
    ``g B - g^2 P / 2 - (g - 1)^2 / (2 spread^2)``, B and P at contrast 1: a faint image is not excused by having been
    found faint.
    """
    if not images.contrast_spread:
        return product - power / 2
    held = np.ones(len(rows)) if images.contrast is None else images.contrast[rows].astype(np.float64)
    prior = images.contrast_spread ** -2
    best: np.ndarray = np.maximum(product / held + prior, 0) ** 2 / (2 * (power / held ** 2 + prior)) - prior / 2
    return best


def _misfit_and_products(images: PosedImages, map_: Tensor, precision: Tensor) -> Tensor:
    """Misfit, product and power of images of one map ``(3, n)``."""
    map_ft, n_weights = transform_of(map_, images.band), images.band.weight.sum()

    def part(rows: slice) -> Tensor:
        own = images.rows(rows)
        made = project(own, map_ft)
        return torch.stack((
            (precision * (own.moved - made).abs().square()).sum(1) / n_weights,
            (precision * (own.moved.conj() * made).real).sum(1), (precision * made.abs().square()).sum(1)))

    return torch.cat(in_chunks(part, len(images.rotations)), 1)
