"""The circle that images are seen through: from the particle's diameter, and what it leaves of the maps' masks."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.contract.settings import DataConfig, StatesRun
from vaegan_engine.reconstruction.masked_images import Circle
from vaegan_engine.refine.image_mask import capped, circle_of
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.tuning import TUNING

RUN = StatesRun(data=DataConfig(particle_radius_frac=0.3), particle_diameter_ang=86.4, max_shift_frac=0.05)
POSES = GivenPoses(torch.eye(3)[None].repeat(9, 1, 1), torch.zeros(9, 2))


@pytest.mark.parametrize(("changes", "poses", "radius_px"), [
    ({}, None, 0.35 * 24), ({}, POSES, 0.3 * 24), ({"mask_diameter_ang": 96.0}, None, 8.0),
    ({"mask_diameter_ang": 96.0}, POSES, 8.0), ({"particle_diameter_ang": 0.0}, None, None),
    ({"particle_diameter_ang": 0.0, "mask_diameter_ang": 60.0}, None, 5.0)])
def test_the_circle_holds_the_particle_wherever_it_may_be(changes, poses, radius_px):
    """24 px of 6 A."""
    data, *_ = simulated([blobs(1, 24)], 9, 1.0)
    circle = circle_of(replace(RUN, **changes), data, poses)
    assert (None if circle is None else circle.radius_px) == (None if radius_px is None else pytest.approx(radius_px))


@pytest.mark.parametrize(("radius_frac", "left"), [(0.5, 3), (0.41, 3), (0.39, 2), (0.2, 2)])
def test_masks_of_maps_reach_no_further_than_the_images_are_seen(radius_frac, left):
    """Of 0.30 - 0.05, + 0.03 and + 0.10 of the box."""
    tuning = capped(TUNING.mask, 0.3, Circle(radius_frac * 100, 5.0), 100)
    assert tuning.beyond_fracs == TUNING.mask.beyond_fracs[:left]
