"""Poses of a state that moves: each image is searched in the maps along the motion, not in their mean.

Where the parts of a particle move further than the resolution, the mean map is a blur, and what differs most from it
gets wrong poses; with wrong poses the motion's ends are wrong in turn. So the motion is found (``motion``), all images
of the state are searched in the maps at its nodes, each keeps the better of two poses, and the motion is found anew;
again while two halves of the images agree on it more than before.

The steps before treat a state as rigid, so this comes after the states are settled. Rigid states are not touched: a
sample of their images tells that there is no motion.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..physics.fourier_band import Band, make_band
from ..reconstruction.images import Images, low_passed, spread_rows
from ..reconstruction.least_squares import misfits
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import search_all
from ..reconstruction.posed_images import Coefficients, PosedImages
from .ab_initio import SEARCH_ROTATIONS
from .assignment import class_map
from .motion import LEAST_AGREEMENT, LEAST_IMAGES, Motion, motion_of
from .states import Assignment

MOST_TURNS, LEAST_RISE = 6, 0.01  # of the agreement, for another turn
SAMPLE = 2000  # images of a state that tell whether it moves
_ITERATIONS = 3


def searched_at_nodes(data: Images, found: Assignment, c: int, maps: Tensor, search_shells: float, band: Band,
                      largest_shift_px: float, mask: Tensor) -> int:
    """Poses of class c by a search in ``maps`` (k, d, d, d) where they are better; how many changed. In place.

    An image's misfit at the pose it had is that in the map which explains it best.
    """
    rows = found.members(c)
    A, shifts_px = found.poses(rows)
    precision = band.weight / found.noise[band.shell]
    tried = search_all(data, MapMixture(low_passed(maps, search_shells), found.noise, mask), rows, search_shells,
                       SEARCH_ROTATIONS, largest_shift_px)
    node = torch.from_numpy(tried.log_evidence.argmax(1)).to(A.device)
    kept = PosedImages(Coefficients(data, rows, band), A, shifts_px)
    before = torch.stack([misfits(kept, volume, precision) for volume in maps]).amin(0)
    at = torch.from_numpy(rows).to(A.device)
    changed = 0
    for k, volume in enumerate(maps):
        own = torch.nonzero(node == k).squeeze(1)
        if len(own) == 0:
            continue
        source = Coefficients(data, rows[own.cpu().numpy()], band)
        new, cost = PosedImages(source, tried.A[own, k], tried.shifts_px[own, k]).refined(volume, precision,
                                                                                        _ITERATIONS)
        better = cost < before[own]
        found.A[at[own[better]], c], found.shifts_px[at[own[better]], c] = new.A[better], new.shifts_px[better]
        changed += int(better.sum())
    return changed


def moves(data: Images, found: Assignment, c: int, half_set: np.ndarray, radius: float, mask: Tensor, seed: int
          ) -> bool:
    """Whether a sample of class c shows a motion that two halves agree on."""
    rows = found.members(c)
    some = rows[spread_rows(len(rows), SAMPLE)]
    if min(np.count_nonzero(half_set[some] == half) for half in (1, 2)) < LEAST_IMAGES:
        return False
    return motion_of(data, found, c, half_set, radius, mask, seed, some).agreement >= LEAST_AGREEMENT


def followed(data: Images, found: Assignment, c: int, half_set: np.ndarray, search_shells: float, radius: float,
             mask: Tensor, largest_shift_px: float, seed: int, report: Callable[[float, int], None]
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations, shifts and map of class c after its motion was followed, as they are where it has none.

    ``report(agreement, changed)`` is called after each turn. Changes ``found``.
    """
    best = found.A[:, c].clone(), found.shifts_px[:, c].clone(), found.volumes[c]
    if not moves(data, found, c, half_set, radius, mask, seed):
        return best
    band = make_band(data.box_px, radius, data.device)
    precision = band.weight / found.noise[band.shell]
    motion: Motion = motion_of(data, found, c, half_set, radius, mask, seed)
    for _ in range(MOST_TURNS):
        changed = searched_at_nodes(data, found, c, torch.from_numpy(motion.maps).to(data.device), search_shells, band,
                                    largest_shift_px, mask)
        after = motion_of(data, found, c, half_set, radius, mask, seed)
        report(after.agreement, changed)
        if after.agreement < motion.agreement:
            break
        rise, motion = after.agreement - motion.agreement, after
        best = (found.A[:, c].clone(), found.shifts_px[:, c].clone(),
                class_map(data, found, found.members(c), band, precision, mask)[0])
        if rise < LEAST_RISE:
            break
    found.A[:, c], found.shifts_px[:, c], found.volumes[c] = best
    return best
