"""Continuous variation inside one state: a coordinate t in [0, 1] per image and maps along it.

Model: ``X = C S_A[V(t)] + n``, V(t) piecewise linear through ``NODES`` maps at even t. In turn: each node's map from
the images around it (weights of a hat function of t), the coordinate of every image as its posterior mean on a
fine grid, its pose against the nearest node. An image's coordinate comes from maps that it is not in: its noise does
not keep it where it was. Two halves of the images make their curves without each other; how far the two agree on the
place of each image says whether there is a motion at all. What the viewing direction tells of the place does not count:
a rigid map that is a little worse along some directions orders its images by their view, in both halves alike.

The order to begin with is one of several: the leading principal volumes' scores, and the longest way
through them (Fiedler vector of their neighbour graph), since a motion larger than the resolution is no straight
line in them and the leading one may fold it. The order whose maps explain unseen images best is kept.

Principal curves: Hastie and Stuetzle, J. Am. Stat. Assoc. 84, 502, 1989; maps by weights along a coordinate as in
RECOVAR (Gilles and Singer, PNAS 2025).
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, make_band
from ..physics.projection import volume_to_fourier
from ..physics.slices import PAD, gather, stencil
from ..reconstruction.images import Images, spread_rows
from ..reconstruction.least_squares import project, residual_noise, weighted_map
from ..reconstruction.pose_refinement import refine_poses
from ..reconstruction.posed_images import Coefficients, InChunks, Posed, PosedImages, posed
from ..runtime.step_store import stored
from ..stats.view_dependence import apart_from_view
from .states import Assignment
from .two_maps import principal_volume

NODES = 6
_TURNS, _ROUNDS = 2, 2  # of poses, and of coordinates and maps in each
LEAST_IMAGES = 100  # of a state, in each half
LEAST_AGREEMENT = 0.5  # of the two halves, for a motion
MOST_CURVE_IMAGES = 20_000  # of a state that its curve is made from; the others get their place on it
_TRIAL_ROUNDS, _TRIAL_IMAGES = 2, 2000  # of each starting order
_COMPONENTS, _NEIGHBOURS = 3, 20
_GRID = 51  # values of t that are tried
_POSE_ITERATIONS = 1


@stored
@dataclass(frozen=True)
class Motion:
    """What was found in one state."""

    t: np.ndarray  # (n,) in [0, 1], even quantiles
    agreement: float  # of t by the maps of the one half and of the other, over all images (``agreement``)
    maps: np.ndarray  # (NODES, d, d, d) float32


def quantiles(values: Tensor) -> Tensor:
    """Ranks of ``values`` (n,) spread evenly over [0, 1]."""
    order = torch.argsort(torch.argsort(values))
    return order.to(torch.float32) / max(1, len(values) - 1)


def hat_weights(t: Tensor) -> Tensor:
    """``(n, NODES)`` weights of the piecewise linear basis at ``t`` (n,)."""
    at = torch.arange(NODES, device=t.device)
    return (1 - (t[:, None] * (NODES - 1) - at).abs()).clamp_min(0)


def node_maps(images: Posed, t: Tensor, precision: Tensor, mask: Tensor) -> Tensor:
    """Maps at the nodes ``(NODES, d, d, d)``."""
    weights = hat_weights(t)
    return torch.stack([weighted_map(images.part(own), weights[own, k], precision, mask)
                        for k, own in enumerate((weights > 0).T)])


def log_likelihoods(images: InChunks, maps: Tensor, precision: Tensor) -> Tensor:
    """Log likelihood of every image at ``_GRID`` even values of t ``(n, _GRID)``, up to a constant of the image.

    Between two nodes it is a parabola: with r the residual at the first and D the step to the second,
    ``-1/2 (|r|^2 - 2 f <r, D> + f^2 |D|^2)``.
    """
    grid = torch.linspace(0, 1, _GRID, device=images.A.device) * (NODES - 1)
    segment = grid.long().clamp(max=NODES - 2)
    f = grid - segment
    transforms = volume_to_fourier(maps, PAD)
    parts = []
    for part in images.chunks():
        at = stencil(part.band, part.A)
        made = part.ctf * torch.stack([gather(volume_ft, at) for volume_ft in transforms])  # (NODES, m, p)
        residual, step = part.moved - made[:-1], made[1:] - made[:-1]
        power, square = ((precision * x.abs().square()).sum(2) for x in (residual, step))
        cross = (precision * (residual.conj() * step).real).sum(2)
        misfit = power[segment] - 2 * f[:, None] * cross[segment] + f[:, None].square() * square[segment]
        parts.append(-0.5 * misfit.T)
    return torch.cat(parts)


def starting_orders(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator
                    ) -> list[Tensor]:
    """Orders of the images ``(n,)`` in [0, 1] to begin with."""
    from sklearn.manifold import SpectralEmbedding

    moved, scores = images.moved, []
    for _ in range(_COMPONENTS):
        component, score = principal_volume(images._replace(moved=moved), volume, precision, mask, rng)
        scores.append(score)
        moved = moved - score[:, None] * project(images, component)
    table = torch.stack(scores, 1).double().cpu().numpy()
    neighbours = min(_NEIGHBOURS, len(table) - 1)
    along = SpectralEmbedding(1, n_neighbors=neighbours, random_state=0).fit_transform(table)[:, 0]
    return [quantiles(order) for order in (*scores, torch.from_numpy(along).to(scores[0]))]


def unseen_rounds(images: Posed, t: Tensor, half: Tensor, precision: Tensor, mask: Tensor, rounds: int
                  ) -> tuple[Tensor, list[Tensor], float]:
    """Coordinates settled at fixed poses; their halves' maps, and the mean log evidence of unseen images.

    The coordinates of each half are even quantiles: two curves need not have one scale, and no node may be empty.
    """
    maps: list[Tensor] = []
    evidence = torch.zeros(len(t), device=t.device)
    for _ in range(rounds):
        maps, new = [], torch.empty_like(t)
        for h in (0, 1):
            own, other = half == h, half != h
            maps.append(node_maps(images.part(own), t[own], precision, mask))
            values = log_likelihoods(images.part(other), maps[h], precision)
            new[other], evidence[other] = quantiles(coordinate(values)), values.logsumexp(1)
        t = new
    return t, maps, float(evidence.mean())


def agreement(both: Tensor, A: Tensor) -> float:
    """Correlation of two orders ``(2, n)`` of the same images, less what views at rotations A explain of it.

    The covariance of what ``apart_from_view`` leaves of them, over the product of the whole standard deviations.
    """
    left = np.stack([apart_from_view(t, A) for t in both])
    return float(left.prod(0).mean() / both.double().cpu().numpy().std(1).prod())


def coordinate(log_likelihood: Tensor) -> Tensor:
    """Posterior mean of t ``(n,)`` under an even prior."""
    grid = torch.linspace(0, 1, _GRID, device=log_likelihood.device)
    return log_likelihood.softmax(1) @ grid


def poses_at_nodes(transforms: Tensor, ctf: Tensor, A: Tensor, shifts_px: Tensor, t: Tensor, maps: Tensor,
                   precision: Tensor, band: Band) -> tuple[Tensor, Tensor]:
    """Poses of images refined against the map of the node nearest to their t."""
    A, shifts_px = A.clone(), shifts_px.clone()
    nearest = (t * (NODES - 1)).round().long()
    for k, volume_ft in enumerate(volume_to_fourier(maps, PAD)):
        own = torch.nonzero(nearest == k).squeeze(1)
        if len(own) == 0:
            continue
        A[own], shifts_px[own], _ = refine_poses(volume_ft, transforms[own], ctf[own], A[own], shifts_px[own],
                                                 precision, band, _POSE_ITERATIONS)
    return A, shifts_px


def curve(images: Posed, t: Tensor | None, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator
          ) -> tuple[Tensor, Tensor]:
    """Coordinates ``(n,)`` and maps at the nodes of some images, made by cross-fitting in two parts of them.

    Without ``t`` the best of several starting orders, tried on some of the images.
    """
    n, device = len(images.A), images.A.device
    part = torch.arange(n, device=device) % 2
    if t is None:
        chosen = torch.randperm(n, generator=rng)[:_TRIAL_IMAGES].to(device)
        some, half = images.part(chosen), part[chosen]
        trials = [unseen_rounds(some, order, half, precision, mask, _TRIAL_ROUNDS)
                  for order in starting_orders(some, volume, precision, mask, rng)]
        _, maps, _ = max(trials, key=lambda trial: trial[2])
        t = quantiles(coordinate(log_likelihoods(images, 0.5 * (maps[0] + maps[1]), precision)))
    t, _, _ = unseen_rounds(images, t, part, precision, mask, _ROUNDS)
    return t, node_maps(images, t, precision, mask)


def places(images: InChunks, maps: list[Tensor], precision: Tensor) -> Tensor:
    """Place of every image on the curves of both halves ``(2, n)``, even quantiles of each."""
    return torch.stack([quantiles(coordinate(log_likelihoods(images, made, precision))) for made in maps])


def unseen_places(both: Tensor, half: Tensor) -> np.ndarray:
    """Place of every image ``(n,)`` on the curve of the half that it is not in, even quantiles."""
    return quantiles(torch.where(half == 0, both[1], both[0])).cpu().numpy()


def principal_curve(transforms: Tensor, ctf: Tensor, A: Tensor, shifts_px: Tensor, half: Tensor, volume: Tensor,
                    band: Band, mask: Tensor, rng: torch.Generator) -> tuple[Motion, list[Tensor], Tensor]:
    """Coordinates and maps of the images of one state ``(n, p)`` at poses (A, s); ``volume`` is its map.

    Returns also the maps of each half and the precision ``(p,)``. ``half`` (n,) holds 0 or 1; each half makes its
    curve alone, and the coordinate of an image comes from the other half's. Poses are refined on the way, by maps of
    their own half, and not returned.
    """
    A, shifts_px = A.clone(), shifts_px.clone()
    rows = [torch.nonzero(half == h).squeeze(1) for h in (0, 1)]
    images = posed(transforms, ctf, A, shifts_px, band)
    precision = band.weight / residual_noise(images, volume)[band.shell]
    t: list[Tensor | None] = [None, None]
    maps: list[Tensor] = []
    for turn in range(_TURNS):
        maps = []
        for h, own in enumerate(rows):
            at, made = curve(images.part(own), t[h], volume, precision, mask, rng)
            maps.append(made)
            t[h] = at
            if turn + 1 < _TURNS:
                A[own], shifts_px[own] = poses_at_nodes(transforms[own], ctf[own], A[own], shifts_px[own], at, made,
                                                        precision, band)
        images = posed(transforms, ctf, A, shifts_px, band)
    both = places(images, maps, precision)
    agreed = agreement(both, A)
    if agreed < 0:  # the second half runs the other way
        both[1], maps[1] = 1 - both[1], maps[1].flip(0)
    found = Motion(unseen_places(both, half), abs(agreed), (0.5 * (maps[0] + maps[1])).cpu().numpy())
    return found, maps, precision


def motion_of(data: Images, found: Assignment, c: int, half_set: np.ndarray, radius: float, mask: Tensor, seed: int,
              rows: np.ndarray | None = None) -> Motion:
    """Variation of class c, at its poses; of some of its images where ``rows`` are given.

    The curve is made from ``MOST_CURVE_IMAGES`` of them at most, which are held in memory.
    """
    rows = found.members(c) if rows is None else rows
    band = make_band(data.box_px, radius, data.device)
    A, shifts_px = found.poses(rows)
    half = torch.from_numpy((half_set[rows] == 2).astype(np.int64)).to(data.device)
    some = torch.from_numpy(spread_rows(len(rows), MOST_CURVE_IMAGES))
    made, maps, precision = principal_curve(*data.coefficients(rows[some.numpy()], band), A[some], shifts_px[some],
                                            half[some], found.volumes[c], band, mask,
                                            torch.Generator().manual_seed(seed))
    if len(some) == len(rows):
        return made
    images = PosedImages(Coefficients(data, rows, band), A, shifts_px)
    return replace(made, t=unseen_places(places(images, maps, precision), half))
