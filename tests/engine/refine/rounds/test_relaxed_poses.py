"""A symmetric particle of which some miss a part: found at the poses of the symmetric map, relaxed to C1."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import FEW_ROTATIONS, RUN, problem_of, simulated
from vaegan_engine.physics.map_constraint import symmetrised_maps
from vaegan_engine.physics.symmetry import distance_deg, group_of
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.rounds.landscape import find_landscape
from vaegan_engine.refine.rounds.relaxed_poses import relaxed
from vaegan_engine.refine.start.known_poses import at_own_poses, one_state
from vaegan_engine.stats.label_agreement import agreement

BOX_PX, N_EACH = 24, 110


def blob(x: float, y: float, z: float, width: float = 1.5) -> torch.Tensor:
    at = torch.arange(BOX_PX) - BOX_PX // 2
    r2 = (at - x) ** 2 + ((at - y) ** 2)[:, None] + ((at - z) ** 2)[:, None, None]
    return torch.exp(-r2 / (2 * width ** 2))


@pytest.fixture(scope="module", params=["C4", "D2"])
def broken(request):
    """Images of a map and of the same without one of its four parts, at poses that are right up to the group."""
    group = group_of(request.param)
    part = blob(5, 1, 2) + 0.7 * blob(3, 4, 4)
    whole = len(group) * symmetrised_maps(part[None], group)[0] + blob(0, 0, 0, 2.0)
    data, label, rotations, shifts = simulated([whole, whole - part], N_EACH, 0.6)
    copy = torch.randint(len(group), (len(rotations),), generator=torch.Generator().manual_seed(3))
    run = replace(RUN, symmetry="C1", relax_symmetry=request.param)
    given = GivenPoses(rotations @ group[copy], shifts)
    return problem_of(data, 20, run=run, tuning=FEW_ROTATIONS, poses=given), label, rotations, group


def copies_used(found: torch.Tensor, true: torch.Tensor, group: torch.Tensor) -> np.ndarray:
    """Which rotation of the group lies between two poses ``(n, 3, 3)`` that show the same in a symmetric map."""
    assert float(distance_deg(found, true, group).max()) < 1
    return torch.einsum("nji,njk,gik->ng", true, found, group).argmax(1).numpy()


@pytest.mark.slow
def test_what_breaks_a_symmetry_is_brought_to_one_place_and_seen_as_a_state(broken):
    problem, label, rotations, group = broken
    before = one_state(problem)
    assert np.bincount(copies_used(before.rotations, rotations, group)[label == 1]).max() < 0.5 * N_EACH
    after = relaxed(problem, before)
    used = np.bincount(copies_used(after.rotations, rotations, group)[label == 1], minlength=len(group))
    assert used.max() > 0.9 * N_EACH, used
    found = find_landscape(problem, after, problem.settings.state_shells)
    assert found.n_states == 2
    assert agreement(found.label, label)["nmi"] > 0.8


def test_every_image_takes_the_copy_that_suits_each_state(broken):
    """A map with the gap elsewhere explains the same images as well, at other copies of their poses."""
    problem, label, rotations, group = broken
    state = replace(one_state(problem), rotations=rotations)
    gap = state.part(label == 1)
    here = replace(gap, map=_map_of(problem, gap))
    turned = replace(gap, rotations=gap.rotations @ group[1])
    there = replace(turned, map=_map_of(problem, turned))
    found = at_own_poses(problem, [here, there])
    own = np.flatnonzero(label == 1)
    between = copies_used(found.rotations[own, 1], found.rotations[own, 0], group)
    assert np.bincount(between, minlength=len(group)).max() > 0.85 * N_EACH
    apart = np.diff(found.log_posterior[own], axis=1)[:, 0]
    assert abs(np.median(apart)) < 3


def _map_of(problem, state):
    from vaegan_engine.physics.fourier_band import make_band
    from vaegan_engine.reconstruction.least_squares import reconstruction
    from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages

    band = make_band(problem.box_px, problem.settings.search_shells)
    images = PosedImages(Coefficients(problem.images, state.rows, band), state.rotations, state.shifts_px)
    return reconstruction(images, band.weight, problem.constraint)
