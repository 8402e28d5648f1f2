"""Variation inside one state whose poses are known: its first principal map.

Model: ``X = C S_A[V + s U] + n`` with one number s per image. U and s are found in turn (s by least
squares with a unit normal prior, U by back-projection of the residuals weighted with s), as in 3D
variability analysis (Punjani and Fleet, J. Struct. Biol. 213, 107702, 2021) with one component.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...physics.map_constraint import MapConstraint
from ...physics.slices import transform_of
from ...reconstruction.least_squares import back_project, project
from ...reconstruction.posed_images import Posed
from ..tuning import TUNING, RefineTuning


@dataclass(frozen=True)
class MapModel:
    """One state's map, and what other maps of its images are made and compared with."""

    map_: Tensor  # (d, d, d)
    precision: Tensor  # (p,) degrees of freedom / noise variance
    constraint: MapConstraint
    tuning: RefineTuning = TUNING


def principal_map(images: Posed, model: MapModel, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """First principal map U ``(d, d, d)`` about the map and the scores s ``(n,)``, of mean 0 and mean square 1.

    The mean is taken out in every round: the map is a little weak (its reconstruction is damped), and without
    noise what all images miss alike would be the first component.
    """
    residual = images.moved - project(images, transform_of(model.map_, images.band))
    scores = torch.randn(len(residual), generator=rng).to(residual.device)
    component = back_project(images, residual, scores, model.precision, model.constraint)
    for _ in range(model.tuning.split.em_iterations):
        made = project(images, transform_of(component, images.band))
        power = (model.precision * made.abs().square()).sum(1)
        scores = (model.precision * (made.conj() * residual).real).sum(1) / (power + 1.0)
        scores = scores - scores.mean()
        scores = scores / scores.square().mean().sqrt().clamp_min(1e-12)
        component = back_project(images, residual, scores, model.precision, model.constraint)
    return component, scores
