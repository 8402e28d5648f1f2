"""Variation inside one state whose poses are known: its first principal volume, and a split into two maps.

Model: ``X = C S_A[V + s U] + n`` with one number s per image. U and s are found in turn (s by least
squares with a unit normal prior, U by back-projection of the residuals weighted with s), as in 3D
variability analysis (Punjani and Fleet, J. Struct. Biol. 213, 107702, 2021) with one component. The split
begins at the two sides of s and ends as a mixture of two free maps at fixed poses.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.slices import transform_of
from ..reconstruction.least_squares import back_project, misfits, project, weighted_map
from ..reconstruction.posed_images import InChunks, Posed
from .tuning import TUNING, RefineTuning


@dataclass(frozen=True)
class MapModel:
    """One state's map, and what other maps of its images are made and compared with."""

    map_: Tensor  # (d, d, d)
    precision: Tensor  # (p,) degrees of freedom / noise variance
    mask: Tensor  # (d, d, d)
    spread: float = 0.0  # of the contrasts (``Images``)
    tuning: RefineTuning = TUNING


def principal_volume(images: Posed, model: MapModel, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """First principal volume U ``(d, d, d)`` about the map and the scores s ``(n,)``, of mean 0 and mean square 1.

    The mean is taken out in every round: the map is a little weak (its reconstruction is damped), and without
    noise what all images miss alike would be the first component.
    """
    residual = images.moved - project(images, transform_of(model.map_, images.band))
    scores = torch.randn(len(residual), generator=rng).to(residual.device)
    component = back_project(images, residual, scores, model.precision, model.mask)
    for _ in range(model.tuning.split.em_iterations):
        made = project(images, transform_of(component, images.band))
        power = (model.precision * made.abs().square()).sum(1)
        scores = (model.precision * (made.conj() * residual).real).sum(1) / (power + 1.0)
        scores = scores - scores.mean()
        scores = scores / scores.square().mean().sqrt().clamp_min(1e-12)
        component = back_project(images, residual, scores, model.precision, model.mask)
    return component, scores


class Split(NamedTuple):
    """Two maps of one state."""

    maps: Tensor  # (2, d, d, d)
    preference: Tensor  # (n,) log likelihood of map 1 minus that of map 0


def preference(images: InChunks, maps: Tensor, model: MapModel) -> Tensor:
    """Log likelihood of map 1 minus that of map 0 ``(n,)``, at the best contrast for each (``misfits``)."""
    first, second = (misfits(images, map_, model.precision, model.spread) for map_ in maps)
    return first - second


def split_in_two(images: Posed, model: MapModel, rng: torch.Generator) -> Split:
    """Two maps by expectation maximisation at fixed poses, from the two sides of the first principal volume."""
    component, scores = principal_volume(images, model, rng)
    high, min_share = scores > scores.median(), model.tuning.split.min_share
    maps = torch.stack([model.map_ + scores[side].mean() * component for side in (~high, high)])
    for _ in range(model.tuning.split.em_iterations):
        odds = preference(images, maps, model)
        share = torch.sigmoid(odds).mean().clamp(min_share, 1 - min_share)
        second = torch.sigmoid(odds + torch.log(share / (1 - share)))
        maps = torch.stack([weighted_map(images, side, model.precision, model.mask) for side in (1 - second, second)])
    return Split(maps, preference(images, maps, model))
