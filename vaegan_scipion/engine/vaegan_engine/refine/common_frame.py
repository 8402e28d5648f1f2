"""All states in one frame and of one hand, so that their maps can be laid over each other.

Each state's map is found in a frame of its own, and its hand is anyone's. The map of every other state is aligned
to that of the largest (``alignment``: rotation, shift, mirror image), its poses are carried over (``merge.carried``)
and its maps are made anew from the images at the new poses: nothing is interpolated. The hand of all of them together
stays undetermined.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..physics.map_alignment import align_map, carried
from ..reconstruction.images import Images
from ..runtime.step_store import stored
from .half_maps import Halves, halves_at
from .states import Assignment


@stored
@dataclass(frozen=True)
class Laid:
    """How a state's map came into the frame of the largest state."""

    correlation: float  # of the two maps, 1 for the largest state itself
    mirrored: bool


def in_one_frame(data: Images, found: Assignment, halves: list[Halves], half_set: np.ndarray, mask: Tensor
                 ) -> tuple[Assignment, list[Halves], list[Laid]]:
    """The assignment and the maps of all states in the frame of the largest one."""
    first = int(found.sizes().argmax())
    found = replace(found, A=found.A.clone(), shifts_px=found.shifts_px.clone(), volumes=found.volumes.clone())
    made, laid = list(halves), [Laid(1.0, False)] * found.n_classes
    for c in range(found.n_classes):
        if c == first:
            continue
        aligned = align_map(halves[c].full, halves[first].full, data.pixel_size_ang)
        found.A[:, c], found.shifts_px[:, c] = carried(found.A[:, c], found.shifts_px[:, c], aligned, forward=False)
        made[c] = halves_at(data, found, c, half_set, mask)
        found.volumes[c] = torch.from_numpy(made[c].full).to(found.volumes)
        laid[c] = Laid(float(aligned.correlation), bool(aligned.mirrored))
    return found, made, laid
