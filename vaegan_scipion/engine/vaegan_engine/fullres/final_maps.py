"""The maps of a state after the last round: half maps, the map, its mask, a sharpened copy, local resolution."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..contract.map_records import HalvesProof, MapComparison
from ..physics.fsc import fourier_shell_correlation
from ..physics.local_resolution import LocalResolution, local_resolution
from ..physics.masked_fsc import mask_of_map
from ..physics.sharpening import GUINIER_FROM_ANG, filtered, guinier_fit, reference_weight, sharpened
from ..refine.detail.half_map_fsc import halves_proof
from ..refine.detail.half_maps import Halves


class Envelope(NamedTuple):
    """The mask ``(d, d, d)`` of all maps; one that was given is that of the FSC too, else that is made of each map."""

    mask: np.ndarray
    is_given: bool


@dataclass(frozen=True)
class BFactor:
    """What a map was sharpened by, and where it is from."""

    ang2: float | None
    source: str


@dataclass(frozen=True)
class FinalMaps:
    """Maps ``(d, d, d)`` of one state."""

    halves: np.ndarray  # (2, d, d, d), not masked, not filtered
    map: np.ndarray  # both halves, every shell weighted by what it holds, inside the mask of all
    sharpened: np.ndarray  # equal to the map where there is no B-factor
    mask: np.ndarray  # about the particle, of the FSC
    local: LocalResolution
    b_factor: BFactor
    compared: MapComparison
    proof: HalvesProof


def final_maps(halves: np.ndarray, envelope: Envelope, shared_shell: int, voxel_size_ang: float,
               b_factor_ang2: float) -> FinalMaps:
    """All maps from half maps ``(2, d, d, d)``; ``b_factor_ang2`` 0: by a Guinier fit.

    The map's shells are weighted by ``2 F / (1 + F)`` of the half maps' FSC F, corrected for its mask: the Wiener
    filter of the mean of two halves.
    """
    mean, own = halves.mean(0), envelope.mask
    mask = own if envelope.is_given else mask_of_map(mean * own, fourier_shell_correlation(*halves))
    compared, proof = halves_proof(Halves(halves, mean * own, shared_shell), voxel_size_ang, mask)
    fsc, resolution_ang = np.array(compared.fsc), compared.resolution_0143_ang
    map_ = filtered(mean, reference_weight(fsc) ** 2) * own
    b_factor = choose_b_factor(mean * mask, compared, proof, voxel_size_ang, b_factor_ang2)
    sharp = map_ if b_factor.ang2 is None else own * sharpened(mean, b_factor.ang2, fsc, voxel_size_ang,
                                                               resolution_ang)
    local = local_resolution(halves, mask, voxel_size_ang, resolution_ang)
    return FinalMaps(halves, map_, sharp, mask, local, b_factor, compared, proof)


def choose_b_factor(masked: np.ndarray, compared: MapComparison, proof: HalvesProof, voxel_size_ang: float,
                    given_ang2: float) -> BFactor:
    """The one that is given; else of the Guinier plot of a masked map ``(d, d, d)``; none where that says nothing."""
    if given_ang2:
        return BFactor(given_ang2, "as given")
    if not proof.proven_0143:
        return BFactor(None, "not sharpened: no resolution is proven")
    fit = guinier_fit(masked, np.array(compared.fsc), voxel_size_ang, compared.resolution_0143_ang)
    if fit is None:
        return BFactor(None, f"not sharpened: too few shells between {GUINIER_FROM_ANG:g} A and the resolution for a "
                             "Guinier fit")
    if fit.b_factor_ang2 >= 0:
        return BFactor(None, f"not sharpened: the amplitudes do not fall from {fit.from_ang:.1f} to {fit.to_ang:.1f} A")
    return BFactor(fit.b_factor_ang2, f"Guinier fit from {fit.from_ang:.1f} to {fit.to_ang:.1f} A")
