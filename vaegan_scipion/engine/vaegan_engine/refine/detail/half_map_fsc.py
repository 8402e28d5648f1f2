"""What a state's half maps say of its resolution: FSC curves, resolutions, directions."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...contract.drawings import FSC_THRESHOLDS
from ...contract.map_records import HalvesProof, MapComparison
from ...physics.fsc import fourier_shell_correlation, resolution_at
from ...physics.map_comparison import comparison_of
from ...physics.masked_fsc import conical_fsc, mask_of_map, masked_fsc
from .half_maps import Halves


def halves_proof(halves: Halves, voxel_size_ang: float, mask: np.ndarray | None = None
                 ) -> tuple[MapComparison, HalvesProof]:
    """FSC of a state's half maps inside a mask, corrected for it, and what of it is proven.

    ``mask`` (d, d, d): one that was given; else it is made of the map.
    """
    raw = fourier_shell_correlation(*halves.maps)
    if mask is None:
        mask = mask_of_map(halves.full, raw)
    curves = masked_fsc(halves.maps, mask, halves.shared_shell)
    box_px, sure = len(halves.full), FSC_THRESHOLDS[0]
    proven = bool(halves.shared_shell + 1 < len(raw) and curves.corrected[1:halves.shared_shell + 2].min() >= sure)
    cones = conical_fsc(*(halves.maps * mask))
    along = cones.corrected(curves.random, curves.first_random).resolutions_ang(sure, voxel_size_ang)
    return comparison_of(curves.corrected, box_px, voxel_size_ang), HalvesProof(
        _listed(raw), _listed(curves.masked), halves.shared_shell, box_px * voxel_size_ang / halves.shared_shell,
        float(along.min()), float(along.max()), _listed(cones.directions[int(along.argmax())]),
        proven, resolution_at(raw, sure, box_px, voxel_size_ang).ang)


def nothing_proven(proof: HalvesProof, box_px: int, voxel_size_ang: float) -> HalvesProof:
    """The same where no structure was found: poses follow the map that both halves began with, so no shell is proven.

    On images of a ball the halves agree on how its density was moved about by such poses, far beyond that map's shells.
    """
    return replace(proof, shared_shell=box_px // 2, shared_ang=box_px * voxel_size_ang / (box_px // 2),
                   proven_0143=False)


def _listed(values: np.ndarray) -> list[float]:
    return [float(x) for x in values]
