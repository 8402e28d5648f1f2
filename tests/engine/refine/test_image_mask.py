"""The circle that images are seen through: from the particle's diameter, and what it leaves of the maps' masks."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.contract.settings import DataConfig, StatesRun
from vaegan_engine.reconstruction.masked_images import Around, Circle
from vaegan_engine.refine.image_mask import around, capped, circle_of, hidden_neighbours
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


NEAR = np.full((20, 2, 2), np.nan, np.float32)  # of 24 px with a particle of 14.4 px in a circle of 8.4 + 1.4 px
NEAR[0, 0], NEAR[1, 0], NEAR[1, 1], NEAR[2, 0] = (15, 0), (0, -14), (19, 19), (3, 0)


def test_neighbours_that_overlap_or_stand_out_of_sight_are_left_alone(capsys):
    kept = hidden_neighbours(NEAR, 0.3, Circle(8.4, 1.44), 24)
    assert np.isfinite(kept[:3, :, 0]).tolist() == [[True, False], [True, False], [False, False]]
    assert np.array_equal(kept[0, 0], NEAR[0, 0])
    said = capsys.readouterr().out
    assert "2 of 20 images show others" in said and "1 overlap" in said
    assert hidden_neighbours(NEAR[2:], 0.3, Circle(8.4, 1.44), 24) is None  # nobody in sight


def test_coordinates_that_would_have_many_overlap_are_not_believed(capsys):
    assert hidden_neighbours(NEAR / 2, 0.3, Circle(8.4, 1.44), 24) is not None  # 2 of 20
    assert hidden_neighbours((NEAR / 2)[:4], 0.3, Circle(8.4, 1.44), 24) is None
    assert "NOT hidden: in 3 of 4 images" in capsys.readouterr().out


def test_neighbours_count_where_they_are_known_and_asked_for():
    data, *_ = simulated([blobs(1, 24)], 9, 1.0)
    circle, near_ang = Circle(8.4, 1.44), 6 * NEAR[:9]
    assert around(RUN, None, None, data, circle) == Around()
    assert around(replace(RUN, hide_neighbours=False), None, near_ang, data, circle).near_px is None
    found = around(RUN, POSES, near_ang, data, circle)
    assert np.array_equal(found.centre_px, np.zeros((9, 2)))
    np.testing.assert_allclose(found.near_px[1, 0], (0, -14))
