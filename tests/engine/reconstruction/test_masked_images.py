"""Images through a soft circle: noise of the background's spectrum outside, the image itself inside."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.rotations import rotation_distance_deg
from vaegan_engine.reconstruction.images import Images, image_power
from vaegan_engine.reconstruction.least_squares import reconstruction
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.masked_images import (
    Around,
    Circle,
    MaskedImages,
    masked,
    noise_deviation,
    own_side,
)
from vaegan_engine.reconstruction.pose_search import PoseGrid, search_all
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages

CPU = torch.device("cpu")


def images_of(values: np.ndarray) -> Images:
    ctf = np.tile(np.array([12000, 12000, 0, 300, 2.7, 0.1, 0], np.float32), (len(values), 1))
    return Images(values.astype(np.float32), ctf, 3.0, CPU)


@pytest.mark.parametrize("box_px", [23, 24])
def test_the_circle_is_about_the_middle_or_where_it_is_told(box_px):
    circle, middle = Circle(5.0, 4.0), box_px // 2
    mask = circle.mask(box_px)
    assert mask[middle, middle + 5] == mask[middle - 5, middle] == 1
    assert mask[middle + 7, middle] == pytest.approx(0.5, abs=1e-6)
    assert mask[middle, middle - 9] == pytest.approx(0, abs=1e-6)
    moved = circle.mask(box_px, np.array([[0.0, 0.0], [2.0, -1.0]]))  # x, y
    assert np.array_equal(moved[0], mask)
    assert np.allclose(moved[1][1:-1, 3:], mask[2:, 1:-2])


@pytest.mark.parametrize("box_px", [31, 32])
def test_white_noise_keeps_its_spectrum(box_px):
    """Masked noise has the power of whole noise in every shell, so that likelihoods count as before."""
    data = images_of(3 * np.random.default_rng(0).standard_normal((400, box_px, box_px)))
    ratio = (image_power(masked(data, Circle(0.28 * box_px, 3.0))) / image_power(data)).numpy()
    assert ratio[2:] == pytest.approx(1, abs=0.08)


def test_every_reading_gives_the_same():
    data = masked(images_of(np.random.default_rng(1).standard_normal((9, 24, 24))), Circle(6.0, 2.0))
    rows = np.array([7, 2, 2, 5])
    assert np.array_equal(data.images[rows], data.images[:][rows])
    assert np.array_equal(data.images[3], data.images[2:4][1])
    assert data.images[np.zeros(0, np.int64)].shape == (0, 24, 24)
    assert not np.array_equal(data.images[1][0], data.images[2][0])


def test_inside_nothing_changes_and_outside_nothing_is_left():
    values = np.random.default_rng(2).standard_normal((50, 24, 24))
    data, circle = images_of(values), Circle(6.0, 2.0)
    centre = np.tile([[2.0, 1.0]], (50, 1))
    for seen, mask in ((masked(data, circle), circle.mask(24)),
                       (masked(data, circle, Around(centre)), circle.mask(24, centre)[0])):
        got = seen.images[:]
        assert np.allclose(got[:, mask == 1], values[:, mask == 1], atol=1e-6)
        alike = (got * values).mean(0)[mask == 0]
        assert abs(alike).max() < 4 / 50 ** 0.5
        assert abs(alike.mean()) < 0.02


def test_a_circle_that_leaves_nothing_outside_masks_nothing():
    data = images_of(np.zeros((3, 24, 24)))
    assert masked(data, Circle(14.0, 2.0)) is data
    assert isinstance(masked(data, Circle(9.0, 2.0)).images, MaskedImages)


@pytest.mark.parametrize("box_px", [31, 32])
def test_the_noise_is_measured_where_there_is_no_particle(box_px):
    """Smooth particles, however strong, say nothing of the noise."""
    noise = 2 * np.random.default_rng(3).standard_normal((300, box_px, box_px))
    smooth = np.exp(-np.square(np.arange(box_px) - box_px // 2) / 18)
    assert noise_deviation(images_of(noise + 20 * np.outer(smooth, smooth))) == pytest.approx(2, rel=0.01)


def test_poses_of_crowded_particles_are_those_of_the_particle():
    """Strong neighbours as near as they can stand: without a mask they turn poses."""
    box_px, n = 32, 60
    map_ = blobs(4, box_px, reach_frac=0.10, width_frac=0.05)
    data, _, rotations, shifts = simulated([map_], n, 0.3)
    band = make_band(box_px, 8.0)
    alone = PosedImages(Coefficients(data, np.arange(n), band), rotations, shifts)
    map_ = reconstruction(alone, torch.ones_like(band.weight), within(torch.ones(box_px, box_px, box_px)))
    crowd, axis = simulated([blobs(4, box_px, reach_frac=0.10, width_frac=0.05)], 4 * n, 0.0, seed=9)[0].images, \
        np.arange(box_px) - box_px // 2
    crowded = data.images.copy()
    for k, (dy, dx) in enumerate(((0, 15), (0, -15), (15, 0), (-15, 0))):
        here = np.broadcast_to(axis[:, None] * dy + axis * dx > 0, (box_px, box_px))
        crowded += 4 * here * np.roll(crowd[k * n:(k + 1) * n], (dy, dx), (1, 2))
    alone_images, data = data, replace(data, images=crowded)
    near = np.broadcast_to(np.array([(0, 15), (0, -15), (15, 0), (-15, 0)], np.float32), (n, 4, 2))

    def error_deg(images: Images) -> float:
        model = MapMixture(map_[None], image_power(images), within(torch.ones(box_px, box_px, box_px)))
        found = search_all(images, model, np.arange(n), PoseGrid(8.0, 2000, 1.0))
        return float(rotation_distance_deg(found.rotations[:, 0], rotations).median())

    clean, seen, plain = error_deg(alone_images), error_deg(masked(data, Circle(8.5, 2.0))), error_deg(data)
    assert seen < 2 * clean < 0.5 * plain, (clean, seen, plain)
    wide, parted = (error_deg(masked(data, Circle(12.0, 2.0), Around(near_px=some))) for some in (None, near))
    assert parted < 1.2 * clean < 0.7 * wide, (clean, parted, wide)


@pytest.mark.parametrize("box_px", [31, 32])
def test_what_lies_nearer_to_a_neighbour_is_hidden(box_px):
    """Voronoi's cell of the particle, with a soft wall halfway."""
    centre, near = np.array([1.0, -2.0]), np.array([[13.0, 3.0], [-4.0, -20.0]])
    side = own_side(box_px, centre, near, 3.0)
    axis = np.arange(box_px) - box_px // 2
    places = np.stack(np.broadcast_arrays(axis[None, :], axis[:, None]), -1)  # x, y
    own, others = np.hypot(*np.moveaxis(places - centre, -1, 0)), [
        np.hypot(*np.moveaxis(places - other, -1, 0)) for other in near]
    # distance from the line halfway: (b^2 - a^2) / 2 l
    inside = np.min([(other ** 2 - own ** 2) / (2 * np.hypot(*(place - centre)))
                     for other, place in zip(others, near, strict=True)], axis=0)
    assert (side[inside > 1.51] == 1).all() and (side[inside < -1.51] == 0).all()
    alone = own_side(box_px, centre, near[:1], 3.0)
    assert abs(alone[np.abs(inside) < 0.05] - 0.5).min() < 0.06
    assert own_side(box_px, centre, near[:0], 3.0).min() == 1


def test_each_image_has_its_own_neighbours_whatever_is_read_with_it():
    values = np.random.default_rng(5).standard_normal((6, 24, 24))
    near = np.full((6, 3, 2), np.nan, np.float32)
    near[1, 0], near[4, :2] = (9, 0), ((0, 9), (-9, 0))
    seen = masked(images_of(values), Circle(30.0, 2.0), Around(near_px=near)).images  # the circle alone hides nothing
    rows = np.array([4, 0, 1])
    assert np.array_equal(seen[rows], seen[:][rows])
    np.testing.assert_allclose(seen[0], values[0], atol=1e-6)
    changed = np.abs(seen[:] - values) > 1e-3
    assert changed[1][:, 18:].all() and not changed[1][:, :15].any()
    assert changed[4][18:].all() and changed[4][:, :6].all() and not changed[4][:15, 10:].any()
