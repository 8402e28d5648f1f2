"""A map off its images' centre: how far, and back."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from refine_particles import FEW_ROTATIONS, blobs, problem_of, simulated
from vaegan_engine.contract.settings import ComputeConfig, StatesRun
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.physics.symmetry import group_of
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.refine.start import ab_initio
from vaegan_engine.refine.start.ball_null import centre_px
from vaegan_engine.refine.start.centring import displacement_px, move_back, share_at_limit

RUN = StatesRun(n_maps=1, n_starts=1, start_steps=1, search_steps=1, batch_size=60, start_shells=6.0, search_shells=6.0,
                state_shells=6.0, compute=ComputeConfig(device="cpu", threads=1, seed=0))


def shifts_of(rotations: torch.Tensor, displaced: torch.Tensor) -> torch.Tensor:
    """Where images of a centred particle are found in a map that is displaced."""
    return -(rotations @ displaced)[:, :2]


@pytest.mark.parametrize(("group", "left"), [
    ("C1", [1.0, -2.0, 3.0]), ("C4", [0.0, 0.0, 3.0]), ("D2", [0.0, 0.0, 0.0]), ("O", [0.0, 0.0, 0.0])])
def test_the_displacement_is_what_explains_the_shifts(group, left):
    rng = torch.Generator().manual_seed(0)
    rotations = random_rotations(400, rng)
    shifts = shifts_of(rotations, torch.tensor([1.0, -2.0, 3.0])) + torch.randn(400, 2, generator=rng)
    found, error = displacement_px(rotations, shifts, group_of(group))
    assert found.tolist() == pytest.approx(left, abs=0.25)
    assert error == pytest.approx((3 / (400 * 2 / 3)) ** 0.5, rel=0.15)


def test_views_from_one_side_say_nothing_of_the_depth():
    rotations = random_rotations(1, torch.Generator().manual_seed(1)).repeat(100, 1, 1)
    found, _ = displacement_px(rotations, torch.tensor([[1.0, 0.0]]).repeat(100, 1), group_of("C1"))
    assert (rotations[0] @ found).tolist() == pytest.approx([-1.0, 0.0, 0.0], abs=0.1)


@pytest.mark.parametrize("box_px", [24, 25])
def test_a_map_and_its_sums_go_back(box_px):
    """Whole voxels are a roll; the map that the sums give is the same."""
    map_ = blobs(2, box_px, reach_frac=0.1)
    free = within(torch.ones(box_px, box_px, box_px))
    model = MapMixture(map_.roll((2, -1, 3), (0, 1, 2))[None], torch.ones(box_px // 2 + 1), free)  # z, y, x
    model.numerator = torch.fft.rfftn(torch.nn.functional.pad(model.maps, (0, box_px) * 3), dim=(1, 2, 3))
    move_back(model, torch.tensor([3.0, -1.0, 2.0]), box_px)
    assert torch.allclose(model.maps[0], map_, atol=1e-4 * float(map_.max()))
    sums = torch.fft.irfftn(model.numerator, s=(2 * box_px,) * 3, dim=(1, 2, 3))[0, :box_px, :box_px, :box_px]
    assert torch.allclose(sums, map_, atol=1e-4 * float(map_.max()))


def test_the_box_of_the_maps_may_be_smaller():
    map_ = blobs(2, 24, reach_frac=0.1)
    model = MapMixture(map_.roll(1, 2)[None], torch.ones(25), within(torch.ones(48, 48, 48)))
    move_back(model, torch.tensor([2.0, 0.0, 0.0]), 48)  # px of the images: one voxel
    assert torch.allclose(model.maps[0], map_, atol=1e-4 * float(map_.max()))


def test_a_start_that_has_drifted_comes_back(tmp_path):
    """The true map 1.5 px off: after a step its images' shifts say so, and it stands near the middle again."""
    data, *_ = simulated([blobs(3)], 200, noise=0.3)
    tuning = replace(FEW_ROTATIONS, start=replace(FEW_ROTATIONS.start, n_rotations=1152, search_n_rotations=1152))
    trial = ab_initio.trial_of(problem_of(data, run=RUN, tuning=tuning, max_shift_px=3.0))
    start, middle = trial.begin(0), centre_px(blobs(3))
    scale = 1 / simulated([blobs(3)], 200, noise=0.0)[0].images.std()
    start.model.maps = float(scale) * blobs(3)[None]
    move_back(start.model, torch.tensor([-1.5, 0.0, 0.0]), 24)
    start.model.noise = 0.1 * start.model.noise
    start.each, start.rotations, start.shifts_px = trial.look(start.model, trial.stages()[0])
    assert trial.recentre(start) == pytest.approx(1.5, abs=0.5)
    assert float((centre_px(start.model.maps[0]) - middle).norm()) < 0.75
    start.each, start.rotations, start.shifts_px = trial.look(start.model, trial.stages()[0])
    assert trial.recentre(start) == 0.0


def test_share_at_the_limit():
    shifts = torch.tensor([[0.0, 0.0], [2.0, 0.0], [-1.95, 1.0], [1.0, -1.0]])
    assert share_at_limit(shifts, 2.0) == 0.5
    assert share_at_limit(shifts, 0.0) == 0.0
