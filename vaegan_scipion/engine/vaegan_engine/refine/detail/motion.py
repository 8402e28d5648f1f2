"""Continuous variation inside one state: a coordinate t in [0, 1] per image and maps along it.

Model: ``X = C S_A[V(t)] + n``, V(t) piecewise linear through some maps, the nodes, at even t. In turn: each node's map
from the images around it (weights of a hat function of t), the coordinate of every image as its posterior mean on a
fine grid, its pose against the nearest node. An image's coordinate comes from maps that it is not in: its noise does
not keep it where it was. Two halves of the images make their curves without each other; how far the two agree on the
place of each image says whether there is a motion at all. What the viewing direction tells of the place does not count:
a rigid map that is a little worse along some directions orders its images by their view, in both halves alike.

The order to begin with is one of several: the leading principal maps' scores, and the longest way
through them (Fiedler vector of their neighbour graph), since a motion larger than the resolution is no straight
line in them and the leading one may fold it. The order whose maps explain unseen images best is kept.

Principal curves: Hastie and Stuetzle, J. Am. Stat. Assoc. 84, 502, 1989; maps by weights along a coordinate as in
RECOVAR (Gilles and Singer, PNAS 2025).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...physics.fourier_band import Band, make_band
from ...physics.shards import shared_parts
from ...physics.slices import as_numpy, floats, grid_points, take_slices, transform_of, transforms_of
from ...reconstruction import line_kernels
from ...reconstruction.images import spread_rows
from ...reconstruction.least_squares import project, residual_noise, weighted_map
from ...reconstruction.pose_refinement import AtPoses, refine_poses
from ...reconstruction.posed_images import Coefficients, InChunks, Posed, PosedImages, in_chunks, posed
from ...runtime.step_store import stored
from ...stats.view_dependence import apart_from_view
from ..problem import Problem
from ..states import Assignment
from .first_principal_map import MapModel, principal_map
from .half_maps import HALF_SETS


@stored
@dataclass(frozen=True)
class Motion:
    """Continuous variation of one state."""

    t: np.ndarray  # (n,) in [0, 1], even quantiles
    t_std: np.ndarray  # (n,) standard deviation of the posterior of t: by the noise of the image alone
    agreement: float  # of t by the maps of the one half and of the other, over all images (``agreement``)
    maps: np.ndarray  # (n_nodes, d, d, d) float32


class Unposed(NamedTuple):
    """Images of one state in a band, before their shifts are taken back."""

    transforms: Tensor  # (n, p) complex
    ctf: Tensor  # (n, p)
    band: Band

    def part(self, rows: Tensor) -> Unposed:
        """Some of the images (index)."""
        return Unposed(self.transforms[rows], self.ctf[rows], self.band)

    def at(self, poses: Poses) -> Posed:
        """The images at poses."""
        return posed(self.transforms, self.ctf, *poses, self.band)


class Poses(NamedTuple):
    """Rotations ``(n, 3, 3)`` and shifts ``(n, 2)``."""

    rotations: Tensor
    shifts_px: Tensor

    def part(self, rows: Tensor) -> Poses:
        """Those of some images (index)."""
        return Poses(self.rotations[rows], self.shifts_px[rows])


def quantiles(values: Tensor) -> Tensor:
    """Ranks of ``values`` (n,) spread evenly over [0, 1]."""
    order = torch.argsort(torch.argsort(values))
    return order.to(torch.float32) / max(1, len(values) - 1)


def hat_weights(t: Tensor, n_nodes: int) -> Tensor:
    """``(n, n_nodes)`` weights of the piecewise linear basis at ``t`` (n,)."""
    node = torch.arange(n_nodes, device=t.device)
    return (1 - (t[:, None] * (n_nodes - 1) - node).abs()).clamp_min(0)


def node_maps(images: Posed, t: Tensor, model: MapModel) -> Tensor:
    """Maps at the nodes ``(n_nodes, d, d, d)``."""
    n_nodes = model.tuning.motion.n_nodes
    weights = hat_weights(t, n_nodes)

    def at_node(node: int, _: int) -> Tensor:
        own = weights[:, node] > 0
        return weighted_map(images.part(own), weights[own, node], model.precision, model.constraint)

    return torch.stack(shared_parts(at_node, n_nodes, 1, threads=t.device.type == "cpu"))


def log_likelihoods(images: InChunks, maps: Tensor, model: MapModel) -> Tensor:
    """Log likelihood of every image at ``n_places`` even values of t ``(n, n_places)``, up to a constant of the image.

    Between two nodes it is a parabola: with r the residual at the first and D the step to the second,
    ``-1/2 (|r|^2 - 2 f <r, D> + f^2 |D|^2)``.
    """
    precision, n_nodes = model.precision, len(maps)
    grid = torch.linspace(0, 1, model.tuning.motion.n_places, device=images.rotations.device) * (n_nodes - 1)
    segment = grid.long().clamp(max=n_nodes - 2)
    f = grid - segment
    transforms = transforms_of(maps, images.band)

    def part(rows: slice) -> Tensor:
        power, cross, square = segment_sums(images.rows(rows), transforms, precision)
        misfit = power[segment] - 2 * f[:, None] * cross[segment] + f[:, None].square() * square[segment]
        return -0.5 * misfit.T

    return torch.cat(in_chunks(part, len(images.rotations)))


def segment_sums(images: Posed, transforms: Tensor, precision: Tensor) -> Tensor:
    """``|r|^2``, ``<r, D>`` and ``|D|^2`` of images from each of m maps to the next ``(3, m - 1, n)``.

    ``transforms`` (m, s, s, s//2 + 1) of the maps, ``precision`` (p,). On a CPU in compiled loops (``line_kernels``).
    """
    if images.rotations.device.type == "cpu":
        sums = torch.empty(3, len(images.rotations), len(transforms) - 1)
        line_kernels.segment_sums(
            floats(transforms).reshape(len(transforms), -1), transforms.shape[1], grid_points(images.band),
            as_numpy(images.rotations), floats(images.moved), as_numpy(images.ctf), as_numpy(precision), sums.numpy())
        return sums.transpose(1, 2)
    return segment_sums_together(images, transforms, precision)


def segment_sums_together(images: Posed, transforms: Tensor, precision: Tensor) -> Tensor:
    """``segment_sums`` on any device."""
    made = images.ctf * torch.stack([take_slices(map_ft, images.band, images.rotations) for map_ft in transforms])
    residual, step = images.moved - made[:-1], made[1:] - made[:-1]  # (m - 1, n, p)
    each = residual.abs().square(), (residual.conj() * step).real, step.abs().square()
    return torch.stack([(precision * values).sum(2) for values in each])


def starting_orders(images: Posed, model: MapModel, rng: torch.Generator) -> list[Tensor]:
    """Orders of the images ``(n,)`` in [0, 1] to begin with."""
    from sklearn.manifold import SpectralEmbedding

    moved, scores = images.moved, []
    for _ in range(model.tuning.motion.n_components):
        component, score = principal_map(images._replace(moved=moved), model, rng)
        scores.append(score)
        moved = moved - score[:, None] * project(images, transform_of(component, images.band))
    table = torch.stack(scores, 1).double().cpu().numpy()
    neighbours = min(model.tuning.motion.n_neighbours, len(table) - 1)
    along = SpectralEmbedding(1, n_neighbors=neighbours, random_state=0).fit_transform(table)[:, 0]
    return [quantiles(order) for order in (*scores, torch.from_numpy(along).to(scores[0]))]


def settle_places(images: Posed, t: Tensor, half: Tensor, model: MapModel, rounds: int
                  ) -> tuple[Tensor, list[Tensor], float]:
    """Coordinates settled at fixed poses; their halves' maps, and the mean log evidence of unseen images.

    The coordinates of each half (``half`` (n,) of 1 and 2) are even quantiles: two curves need not have one scale, and
    no node may be empty.
    """
    maps: list[Tensor] = []
    log_evidence = torch.zeros(len(t), device=t.device)
    for _ in range(rounds):
        maps, new = [], torch.empty_like(t)
        for h in HALF_SETS:
            own, other = half == h, half != h
            maps.append(node_maps(images.part(own), t[own], model))
            values = log_likelihoods(images.part(other), maps[-1], model)
            new[other], log_evidence[other] = quantiles(coordinate(values)), values.logsumexp(1)
        t = new
    return t, maps, float(log_evidence.mean())


def agreement(both: Tensor, rotations: Tensor) -> float:
    """Correlation of two orders ``(2, n)`` of the same images, less what views at rotations A explain of it.

    The covariance of what ``apart_from_view`` leaves of them, over the product of the whole standard deviations.
    """
    left = np.stack([apart_from_view(t, rotations) for t in both])
    return float(left.prod(0).mean() / both.double().cpu().numpy().std(1).prod())


def coordinate(log_likelihood: Tensor) -> Tensor:
    """Posterior mean of t ``(n,)`` under an even prior, from values ``(n, n_places)``."""
    return moments(log_likelihood)[0]


def moments(log_likelihood: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of t ``(n,)`` under an even prior, from values ``(n, n_places)``."""
    grid = torch.linspace(0, 1, log_likelihood.shape[1], device=log_likelihood.device)
    posterior = log_likelihood.softmax(1)
    mean = posterior @ grid
    return mean, (posterior * (grid - mean[:, None]).square()).sum(1).sqrt()


def spread_in_quantiles(mean: Tensor, std: Tensor) -> Tensor:
    """Standard deviations ``(n,)`` about means as they are on the scale of ``quantiles`` of the means.

    ``(F(m + s) - F(m - s)) / 2`` with F the share of the means up to a value.
    """
    order = mean.sort().values
    upper, lower = torch.searchsorted(order, mean + std, right=True), torch.searchsorted(order, mean - std)
    return (upper - lower).to(mean.dtype) / (2 * len(mean))


def refine_at_nodes(source: Unposed, poses: Poses, t: Tensor, maps: Tensor, model: MapModel) -> Poses:
    """Poses of images refined against the map of the node nearest to their t."""
    rotations, shifts_px = poses.rotations.clone(), poses.shifts_px.clone()
    nearest = (t * (len(maps) - 1)).round().long()
    for node, map_ft in enumerate(transforms_of(maps, source.band)):
        own = torch.nonzero(nearest == node).squeeze(1)
        if len(own) == 0:
            continue
        images = AtPoses(source.transforms[own], source.ctf[own], rotations[own], shifts_px[own], source.band)
        rotations[own], shifts_px[own], _ = refine_poses(map_ft, images, model.precision,
                                                         model.tuning.motion.node_pose_iterations)
    return Poses(rotations, shifts_px)


def curve(images: Posed, t: Tensor | None, model: MapModel, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coordinates ``(n,)`` and maps at the nodes of some images, made by cross-fitting in two parts of them.

    Without ``t`` the best of several starting orders, tried on some of the images.
    """
    n, device, tuning = len(images.rotations), images.rotations.device, model.tuning.motion
    part = 1 + torch.arange(n, device=device) % 2
    if t is None:
        chosen = torch.randperm(n, generator=rng)[:tuning.trial_images].to(device)
        some, part_of_some = images.part(chosen), part[chosen]
        trials = [settle_places(some, order, part_of_some, model, tuning.trial_rounds)
                  for order in starting_orders(some, model, rng)]
        _, maps, _ = max(trials, key=lambda trial: trial[2])
        t = quantiles(coordinate(log_likelihoods(images, 0.5 * (maps[0] + maps[1]), model)))
    t, _, _ = settle_places(images, t, part, model, tuning.curve_rounds)
    return t, node_maps(images, t, model)


class Places(NamedTuple):
    """Place of every image on the curves of both halves ``(2, n)``, even quantiles of each, and their spread."""

    t: Tensor
    std: Tensor


def places(images: InChunks, maps: list[Tensor], model: MapModel) -> Places:
    """Places of the images on the curves through the ``maps`` of both halves."""
    found = [moments(log_likelihoods(images, of_half, model)) for of_half in maps]
    return Places(torch.stack([quantiles(mean) for mean, _ in found]),
                  torch.stack([spread_in_quantiles(mean, std) for mean, std in found]))


def unseen_places(both: Places, half: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Place of every image ``(n,)`` on the curve of the half that it is not in, even quantiles, and its spread."""
    t, std = (torch.where(half == 1, of_curve[1], of_curve[0]) for of_curve in both)
    return quantiles(t).cpu().numpy(), std.cpu().numpy()


def principal_curve(source: Unposed, poses: Poses, half: Tensor, model: MapModel, rng: torch.Generator
                    ) -> tuple[Motion, list[Tensor], MapModel]:
    """Coordinates and maps of the images of one state at its poses; ``model`` holds its map.

    Returns also the maps of each half and the model with the precision that was measured. ``half`` (n,) holds 1 or 2;
    each half makes its curve alone, and the coordinate of an image comes from the other half's. Poses are refined on
    the way, by maps of their own half, and not returned.
    """
    poses, turns = Poses(poses.rotations.clone(), poses.shifts_px.clone()), model.tuning.motion.pose_turns
    rows = [torch.nonzero(half == h).squeeze(1) for h in HALF_SETS]
    images = source.at(poses)
    model = replace(model, precision=source.band.weight / residual_noise(images, model.map_)[source.band.shell])
    t: list[Tensor | None] = [None, None]
    maps: list[Tensor] = []
    for turn in range(turns):
        maps = []
        for k, own in enumerate(rows):
            of_half, maps_of_half = curve(images.part(own), t[k], model, rng)
            t[k] = of_half
            maps.append(maps_of_half)
            if turn + 1 < turns:
                poses.rotations[own], poses.shifts_px[own] = refine_at_nodes(source.part(own), poses.part(own), of_half,
                                                                             maps_of_half, model)
        images = source.at(poses)
    both = places(images, maps, model)
    agreed = agreement(both.t, poses.rotations)
    if agreed < 0:  # the second half runs the other way
        both.t[1], maps[1] = 1 - both.t[1], maps[1].flip(0)
    motion = Motion(*unseen_places(both, half), abs(agreed), (0.5 * (maps[0] + maps[1])).cpu().numpy())
    return motion, maps, model


def motion_of(problem: Problem, assignment: Assignment, state: int, max_shell: float, rows: np.ndarray | None = None
              ) -> Motion:
    """Variation of one state, at its poses; of some of its images where ``rows`` are given.

    The curve is made from ``MotionTuning.max_curve_images`` of them at most, which are held in memory.
    """
    rows = assignment.members(state) if rows is None else rows
    band = make_band(problem.box_px, max_shell, problem.device)
    poses = Poses(*assignment.poses(rows))
    half = torch.from_numpy(problem.half_set[rows].astype(np.int64)).to(problem.device)
    some = torch.from_numpy(spread_rows(len(rows), problem.tuning.motion.max_curve_images))
    model = MapModel(assignment.maps[state], torch.ones_like(band.weight), problem.constraint, tuning=problem.tuning)
    source = Unposed(*problem.images.coefficients(rows[some.numpy()], band), band)
    motion, maps, model = principal_curve(source, poses.part(some), half[some], model,
                                          torch.Generator().manual_seed(problem.seed))
    if len(some) == len(rows):
        return motion
    images = PosedImages(Coefficients(problem.images, rows, band), *poses)
    t, t_std = unseen_places(places(images, maps, model), half)
    return replace(motion, t=t, t_std=t_std)
