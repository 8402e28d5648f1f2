"""Planes of averages against closed forms: values at turned frequencies, the adjoint, RELION's psi."""
import math

import numpy as np
import pytest
import torch
from flat_pictures import PICTURES, blobs
from vaegan_engine.classes2d.plane_kernels import turn_back
from vaegan_engine.classes2d.planes import PAD, PlaneGrid, disc_mask
from vaegan_engine.physics.fourier_band import image_transforms, make_band, shift_phases
from vaegan_engine.physics.projection import project
from vaegan_engine.physics.rotations import euler_to_matrix


def transform(band, x, y, width, d):
    """That of a Gaussian blob of unit height, in closed form."""
    k = band.kxy.numpy() / d
    peak = 2 * math.pi * (width * d) ** 2
    return peak * np.exp(-2 * (math.pi * width * d) ** 2 * (k ** 2).sum(1) - 2j * np.pi * k @ (np.array([x, y]) * d))


@pytest.mark.parametrize("d", [32, 33])
@pytest.mark.parametrize("psi_deg", [0.0, 37.0, -120.0])
def test_turned_values_are_the_transform(d, psi_deg):
    grid, band = PlaneGrid(d, 9.0), make_band(d, 9.0)
    x, y, width = 0.1, -0.07, 0.07
    planes = grid.transforms(blobs([(x, y, width, 1.0)], d)[None].astype(np.float32))
    found = grid.turned(planes, band, np.array([math.radians(psi_deg)]))[0, 0]
    c, s = math.cos(math.radians(psi_deg)), math.sin(math.radians(psi_deg))
    expected = transform(band, x * c + y * s, -x * s + y * c, width, d)
    assert np.abs(found - expected).max() < 0.04 * np.abs(expected).max()


@pytest.mark.parametrize("d", [32, 33])
def test_turned_image_is_the_template(d):
    band, grid = make_band(d, 9.0), PlaneGrid(d, 9.0)
    seen = image_transforms(torch.from_numpy(blobs(PICTURES[0], d, 50.0)).float()[None], band)[0].numpy()
    found = grid.turned(grid.transforms(blobs(PICTURES[0], d)[None].astype(np.float32)), band,
                        np.array([math.radians(50.0)]))[0, 0]
    assert np.abs(found - seen).max() < 0.04 * np.abs(seen).max()


def test_psi_is_that_of_the_projections():
    d = 32
    map_ = np.zeros((d, d, d), np.float32)
    map_[d // 2] = blobs(PICTURES[0], d)
    rotation = euler_to_matrix(*torch.tensor([[0.0], [0.0], [65.0]], dtype=torch.float64)).float()
    seen = project(torch.from_numpy(map_)[None], torch.zeros(1, dtype=torch.long), rotation)[0].numpy()
    made = blobs(PICTURES[0], d, 65.0)
    assert np.corrcoef(seen.ravel(), made.ravel())[0, 1] > 0.999


def test_turning_back_is_the_adjoint():
    d, rng, turns = 24, np.random.default_rng(0), np.array([0.3, 2.0])
    grid, band = PlaneGrid(d, 7.0), make_band(d, 7.0)
    planes = rng.standard_normal((1, grid.side, grid.side, 2)).astype(np.float32)
    values = rng.standard_normal((1, 2, 3, len(band.index))).astype(np.float32)
    sums = np.zeros((1, grid.side, grid.side, 3), np.float32)
    turn_back(values, grid.points(band), turns, sums)
    read = grid.turned(planes, band, turns)
    left = (read.real * values[:, :, 0] + read.imag * values[:, :, 1]).sum()
    assert left == pytest.approx(float((planes * sums[..., :2]).sum()), rel=1e-3)


@pytest.mark.parametrize("d", [24, 25])
def test_sums_of_turned_images_give_the_picture_back(d):
    grid, band = PlaneGrid(d, d / 2 - 2.0), make_band(d, d / 2 - 2.0)
    turns = np.linspace(0, 2 * np.pi, 37)[:-1]
    sums = grid.empty_sums(1)
    for psi in turns:
        image = torch.from_numpy(blobs(PICTURES[0], d, math.degrees(psi))).float()[None]
        moved = image_transforms(image, band)[0].numpy()
        values = np.stack((moved.real, moved.imag, np.ones(len(moved)))).astype(np.float32)
        turn_back(values[None, None], grid.points(band), np.array([psi]), sums)
    mask = disc_mask(d, 0.42 * d, 1.0)
    found = grid.averages(sums, np.full(d // 2 + 1, 1e9), mask)[0]
    expected = blobs(PICTURES[0], d) * mask
    assert np.abs(found - expected).max() < 0.03 * expected.max()


def test_signal_variance_is_wieners():
    """Of one coefficient seen n times with noise v and signal variance t, ``t / (t + v / n)`` of the mean is kept."""
    d, n, v, t = 16, 5, 3.0, 2.0
    grid, band = PlaneGrid(d, 6.0), make_band(d, 6.0)
    weight = 2 / v
    values = np.ones((n, 3, len(band.index)), np.float32) * weight
    values[:, 1] = 0
    sums = grid.empty_sums(1)
    for k in range(n):
        turn_back(values[None, None, k], grid.points(band), np.zeros(1), sums)
    numerator, power = grid.split(sums)
    on_lattice = numerator[0, ::PAD, ::PAD] if grid.middle % PAD == 0 else numerator[0, 1::PAD, 1::PAD]
    there = np.abs(on_lattice) > 0
    assert there.sum() > 50
    ratio = numerator / (power + 2 / t)
    kept = ratio[0][np.abs(numerator[0]) > 0].real
    assert np.median(kept) == pytest.approx(t / (t + v / n), rel=0.05)


def test_phases_take_a_shift_back():
    d = 32
    band = make_band(d, 9.0)
    one, other = (image_transforms(torch.from_numpy(blobs([(a, b, 0.07, 1.0)], d)).float()[None], band)[0]
                  for a, b in ((0.0, 0.0), (2 / 32, -1 / 32)))
    back = other * shift_phases(band, torch.tensor([[2.0, -1.0]]))[0]
    assert float((back - one).abs().max()) < 1e-3 * float(one.abs().max())
