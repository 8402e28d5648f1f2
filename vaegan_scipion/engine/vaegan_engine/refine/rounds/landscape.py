"""States as groups in the landscape of principal maps: what the images say together at poses that are known.

At known poses every image says something about the coefficients z of a few principal maps
(``principal_maps``, ``map_family``): ``l(z) = b.z - z.Gz/2``, with contrast and small errors of its pose integrated
out. One image says little. A mixture of Gaussians over such uncertain points (``uncertain_mixture``) adds up what all
say: groups appear where no single image could be told apart. Two groups are two states where the density of z has a
valley between them (``group_evidence``); without one they are joined, and what they share varies continuously. What
depends on the viewing direction alone is taken out of z first. Images that lie outside the groups and are badly
explained are junk (``outliers``).
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...contract.records import LandscapeNumbers, Valley
from ...physics.fourier_band import Band, make_band
from ...physics.map_constraint import MapConstraint
from ...physics.map_resize import resized_maps, working_box_px
from ...physics.rotations import order_by_view
from ...physics.shards import shared_parts
from ...reconstruction.map_family import FAMILY_CHUNK_IMAGES, family, nuisance_moments, seen
from ...reconstruction.posed_images import Coefficients, Posed, posed
from ...reconstruction.principal_maps import PrincipalMaps, drawn_maps, first_maps, improved, linear_posterior
from ...runtime.step_store import stored
from ...stats.group_evidence import PairEvidence, joined
from ...stats.outliers import Outliers, outliers
from ...stats.uncertain_mixture import Fit, UncertainPoints, best_by_bic, grown, one_group
from ..problem import Problem
from ..states import State
from ..tuning import LandscapeTuning


@stored
@dataclass(frozen=True)
class Leaf:
    """A state that was found in the landscape of another."""

    parent: int
    state: State


@dataclass(frozen=True)
class Seen:
    """What the images say of the coefficients, and how well each is explained."""

    points: UncertainPoints
    misfit: np.ndarray  # (n,) of the best coefficients, contrast and pose; 1 on average where all is right
    contrast: np.ndarray  # (n,)


@dataclass(frozen=True)
class Landscape:
    """Groups of the images of one frame."""

    maps: PrincipalMaps
    seen: Seen
    by_view: float  # log likelihood that a quadratic function of the view gains, less half its parameters' log n
    fit: Fit  # of least BIC
    bic: list[float]  # of 1, 2, ... groups
    outliers: Outliers
    states: list[list[int]]  # groups of the fit that make each state
    pairs: list[PairEvidence]  # of the states
    label: np.ndarray  # (n,) state of each image; -1: junk

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.states)

    def state_map(self, state: int, box_px: int) -> Tensor:
        """Map ``(d, d, d)`` at the mean of a state."""
        groups = self.fit.groups.chosen(self.states[state])
        mean = torch.from_numpy(groups.share @ groups.mean).to(self.maps.mean)
        return resized_maps(self.maps.mean + torch.einsum("k,kxyz->xyz", mean, self.maps.basis), box_px)

    def summary(self) -> LandscapeNumbers:
        """The numbers, for log and results."""
        return LandscapeNumbers(
            n_images=len(self.label), n_states=self.n_states, n_groups=len(self.fit.groups),
            bic=[round(float(x), 1) for x in self.bic], by_view=round(float(self.by_view), 1),
            n_outliers=int((self.label < 0).sum()), outliers_apart=round(float(self.outliers.apart), 2),
            sizes=np.bincount(self.label[self.label >= 0], minlength=self.n_states).tolist(),
            pairs=[Valley([int(p.a), int(p.b)], round(float(p.two), 1), round(float(p.valley), 1),
                          round(float(p.depth), 3)) for p in self.pairs])


class WorkingImages:
    """Images at poses with the coefficients of a band, beside maps of a box that is no larger than the band asks."""

    def __init__(self, problem: Problem, state: State, max_shell: float) -> None:
        self._source = Coefficients(problem.images, state.rows, make_band(problem.box_px, max_shell, problem.device))
        self.rotations, self._shifts_px, self._seed = state.rotations, state.shifts_px, problem.seed
        small = working_box_px(max_shell, problem.box_px)
        self.band: Band = make_band(small, max_shell, problem.device)
        scale = (small / problem.box_px) ** 3  # of the values of a resized map
        self.constraint = MapConstraint((resized_maps(problem.mask, small) * scale).clamp(0, 1),
                                        problem.constraint.group)

    def __len__(self) -> int:
        return len(self.rotations)

    def part(self, rows: Tensor) -> Posed:
        """Some of the images, by row numbers."""
        transforms, ctf = self._source[rows.cpu().numpy()]
        images = posed(transforms, ctf, self.rotations[rows], self._shifts_px[rows], self._source.band)
        return images._replace(band=self.band)

    def principal_maps(self, tuning: LandscapeTuning) -> PrincipalMaps:
        """The principal maps of these images, after rounds from random coefficients.

        The first rounds find where the maps lie. Of many images each of these takes another part, and leaves out no
        image: what parts differ by does not add up, what they share does. The last rounds are of all images.
        """
        rows, first = order_by_view(self.rotations), first_maps(self, tuning.n_components, self.constraint)
        maps = drawn_maps(first, self.part, rows, self.constraint, self._seed)
        parts = rows_in_parts(rows, tuning)
        in_parts = max(0, tuning.map_rounds - tuning.whole_rounds)
        for number in range(in_parts):
            maps = improved(maps, self.part, parts[number % len(parts)], self.constraint, 1)
        return improved(maps, self.part, rows, self.constraint, tuning.map_rounds - in_parts)

    def rows(self, at: slice) -> Posed:
        """Images in a row."""
        return self.part(torch.arange(len(self), device=self.rotations.device)[at])


def rows_in_parts(rows: Tensor, tuning: LandscapeTuning) -> list[Tensor]:
    """Some row numbers ``(n,)`` in parts of every second, third.. one: as many as leave each images enough."""
    n_parts = max(1, min(tuning.most_parts, len(rows) // tuning.part_images))
    return [rows[first::n_parts] for first in range(n_parts)]


def see(images: WorkingImages, maps: PrincipalMaps, contrast: np.ndarray) -> Seen:
    """What every image says of the maps; ``contrast`` (n,) that was given."""
    read = family(maps.mean, maps.basis, maps.band)
    degrees = float(maps.band.weight.sum())

    def part(first: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        seen_here = seen(read, images.rows(slice(first, end)), maps.precision, maps.spreads)
        mean, covariance = linear_posterior(seen_here.gram, seen_here.pull)
        u, _, _ = nuisance_moments(seen_here, mean, covariance + mean[:, :, None] * mean[:, None])
        told = (torch.cat((u, mean), 1) * seen_here.products[:, :-1, -1]).sum(1)
        rest = torch.stack(((seen_here.products[:, -1, -1] - told) / degrees, u[:, 0] * maps.spreads.contrast), 1)
        return rest, seen_here.gram, seen_here.pull

    rest, gram, pull = map(torch.cat, zip(*shared_parts(part, len(images), FAMILY_CHUNK_IMAGES), strict=True))
    misfit, stronger = rest.double().cpu().numpy().T
    points = UncertainPoints(gram.double().cpu().numpy(), pull.double().cpu().numpy())
    return Seen(points, misfit, contrast * (1 + stronger))


def apart_from_views(points: UncertainPoints, rotations: Tensor, rounds: int) -> tuple[UncertainPoints, float]:
    """Points less what a quadratic function of the view tells of them, and the gain of log likelihood by it.

    One Gaussian about ``B q(view)`` by expectation maximisation. The gain is less half the parameters' number times
    log n; where it is not above 0 the points stay as they are.
    """
    view = rotations[:, 2].double().cpu().numpy()
    i, j = np.triu_indices(3)
    terms = np.concatenate((view, view[:, i] * view[:, j]), 1)
    terms = terms - terms.mean(0)
    before, _ = one_group(points)
    offset = np.zeros((len(points), points.dimension))
    fit = before
    for _ in range(rounds):
        z = points.moved(offset).means(fit.groups) + offset
        offset = terms @ np.linalg.lstsq(terms, z, rcond=None)[0]
        fit, _ = one_group(points.moved(offset), fit.groups)
    at_zero = np.einsum("nk,nk->n", points.linear, offset) - 0.5 * np.einsum(
        "nk,nkl,nl->n", offset, points.information, offset)
    n_free = np.linalg.matrix_rank(terms) * points.dimension
    gain = float(fit.total + at_zero.sum() - before.total - 0.5 * n_free * np.log(max(len(points), 2)))
    return (points.moved(offset), gain) if gain > 0 else (points, gain)


def find_landscape(problem: Problem, state: State, max_shell: float) -> Landscape:
    """Principal maps of a state's images at its poses, groups in them, and which of these are states.

    Rows of one image count once, by the first of them; the others have its label.
    """
    distinct, place = problem.distinct(state.rows)
    if len(distinct) < len(place):
        one_each = np.zeros(len(place), bool)
        one_each[distinct] = True
        found = find_landscape(problem, state.part(one_each), max_shell)
        return replace(found, label=found.label[place])
    tuning = problem.tuning.landscape
    images = WorkingImages(problem, state, max_shell)
    maps = images.principal_maps(tuning)
    given = problem.images.contrast
    told = see(images, maps, np.ones(len(images)) if given is None else given[state.rows])
    points, by_view = apart_from_views(told.points, state.rotations, tuning.view_rounds)
    fits = grown(points, tuning.max_groups)
    fit = best_by_bic(fits)
    outside = outliers(points, fit, np.stack((np.log(told.misfit), told.contrast), 1))
    states, pairs = joined(points, fit, outside.groups, tuning.min_valley)
    share = np.stack([fit.responsibility[:, own].sum(1) for own in states], 1)
    label = np.where(outside.aside, -1, share.argmax(1))
    return Landscape(maps, told, by_view, fit, [x.bic() for x in fits], outside, states, pairs, label)


def leaves(landscape: Landscape, parent: int, state: State, problem: Problem) -> list[Leaf]:
    """The landscape's states with their own images, the largest first; those below the smallest state are left out.

    Their maps are in the box of the state's map, as that of a state without a landscape is.
    """
    sizes = [int((landscape.label == k).sum()) for k in range(landscape.n_states)]
    large = [k for k in np.argsort(-np.array(sizes), kind="stable").tolist() if sizes[k] >= problem.min_state]
    return [Leaf(parent, replace(state.part(landscape.label == k), map=landscape.state_map(k, state.map.shape[-1])))
            for k in large]
