"""Poses that are right up to a symmetry: each image chooses among those that show the same in a symmetric map.

What breaks the symmetry lies at any of the group's g places at such poses. So the mean map is symmetric and tells no
copies apart. What does is the way in which the images differ there: of a few principal maps made without symmetry
(``principal_maps``) the one with the largest part that the group does not leave as it is. The mean plus that part is a
map without symmetry. Every image takes the copy of its pose that this map explains best, the map is made anew, and so
on until few images change their copy. Then what breaks the symmetry lies in one place, and the landscape is read as
that of any state (``landscape``).

Relaxed symmetry as in RELION (``--relax_sym``; Ilca et al., Nature 570, 252, 2019), where a search does the same.
"""
from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...physics.fourier_band import make_band
from ...physics.map_constraint import symmetrised_maps
from ...physics.map_resize import resized_maps
from ...physics.rotations import rotation_distance_deg
from ...reconstruction.least_squares import reconstruction, residual_noise
from ...reconstruction.posed_images import Coefficients, PosedImages
from ..problem import Problem
from ..start.known_poses import best_copies, copies_of
from ..states import State
from .landscape import WorkingImages

_SAME_DEG = 1.0  # copies of a pose are at least 360 / 99 degrees apart


def without_symmetry(problem: Problem, state: State) -> Tensor:
    """The map ``(d', d', d')`` of a state plus the strongest way in which its images break the symmetry."""
    tuning, copies = problem.tuning.landscape, copies_of(problem)
    images = WorkingImages(problem, state, problem.settings.state_shells)
    maps = images.principal_maps(tuning)
    breaking = maps.basis - symmetrised_maps(maps.basis, copies)
    strongest = int(breaking.flatten(1).norm(dim=1).argmax())
    return resized_maps(maps.mean + breaking[strongest], state.map.shape[-1])


def relaxed(problem: Problem, state: State) -> State:
    """A state at given poses, each image at the copy of its pose that puts what breaks the symmetry in one place."""
    copies, tuning = copies_of(problem), problem.tuning.relax
    band = make_band(problem.box_px, problem.settings.state_shells, problem.device)
    images = PosedImages(Coefficients(problem.images, state.rows, band), state.rotations, state.shifts_px)
    map_, spread = without_symmetry(problem, state), problem.images.contrast_spread
    for turn in range(tuning.max_turns):
        precision = band.weight / residual_noise(images, map_)[band.shell]
        moved, _ = best_copies(images, map_, precision, copies, spread)
        changed = float((rotation_distance_deg(moved.rotations, images.rotations) > _SAME_DEG).float().mean())
        images, map_ = moved, reconstruction(moved, precision, problem.constraint)
        print(f"  relaxed, turn {turn + 1}: {100 * changed:.1f} % of the images at another copy", flush=True)
        if changed <= tuning.max_changed_frac:
            break
    return replace(state, rotations=images.rotations, map=resized_maps(map_, state.map.shape[-1]))
