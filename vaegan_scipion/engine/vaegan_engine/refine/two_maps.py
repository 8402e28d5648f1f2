"""Variation inside one class whose poses are known: its first principal volume, and a split into two maps.

Model: ``X = C S_A[V + s U] + n`` with one number s per image. U and s are found in turn (s by least
squares with a unit normal prior, U by back-projection of the residuals weighted with s), as in 3D
variability analysis (Punjani and Fleet, J. Struct. Biol. 213, 107702, 2021) with one component. The split
begins at the two sides of s and ends as a mixture of two free maps at fixed poses.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..reconstruction.least_squares import back_project, misfits, project, weighted_map
from ..reconstruction.posed_images import InChunks, Posed


def principal_volume(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
                     iterations: int = 12) -> tuple[Tensor, Tensor]:
    """First principal volume U ``(d, d, d)`` about ``volume`` and the scores s ``(n,)``, of mean 0 and mean square 1.

    The mean is taken out in every round: ``volume`` is a little weak (its reconstruction is damped), and without
    noise what all images miss alike would be the first component.
    """
    residual = images.moved - project(images, volume)
    scores = torch.randn(len(residual), generator=rng).to(residual.device)
    component = back_project(images, residual, scores, precision, mask)
    for _ in range(iterations):
        made = project(images, component)
        power = (precision * made.abs().square()).sum(1)
        scores = (precision * (made.conj() * residual).real).sum(1) / (power + 1.0)
        scores = scores - scores.mean()
        scores = scores / scores.square().mean().sqrt().clamp_min(1e-12)
        component = back_project(images, residual, scores, precision, mask)
    return component, scores


class Split(NamedTuple):
    """Two maps of one class."""

    maps: Tensor  # (2, d, d, d)
    preference: Tensor  # (n,) log likelihood of map 1 minus that of map 0


def preference(images: InChunks, maps: Tensor, precision: Tensor, spread: float = 0.0) -> Tensor:
    """Log likelihood of map 1 minus that of map 0 ``(n,)``, at the best contrast for each (``misfits``)."""
    return misfits(images, maps[0], precision, spread) - misfits(images, maps[1], precision, spread)


def split_in_two(images: Posed, volume: Tensor, precision: Tensor, mask: Tensor, rng: torch.Generator,
                 spread: float = 0.0, iterations: int = 12) -> Split:
    """Two maps by expectation maximisation at fixed poses, from the two sides of the first principal volume."""
    component, scores = principal_volume(images, volume, precision, mask, rng)
    high = scores > scores.median()
    maps = torch.stack([volume + scores[side].mean() * component for side in (~high, high)])
    for _ in range(iterations):
        odds = preference(images, maps, precision, spread)
        share = torch.sigmoid(odds).mean().clamp(0.02, 0.98)
        second = torch.sigmoid(odds + torch.log(share / (1 - share)))
        maps = torch.stack([weighted_map(images, side, precision, mask) for side in (1 - second, second)])
    return Split(maps, preference(images, maps, precision, spread))
