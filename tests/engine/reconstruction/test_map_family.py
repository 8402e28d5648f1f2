"""What images say about maps of a family, against projections, finite differences and dense Gaussians."""
from itertools import pairwise

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.projection import extract_slices, map_to_fourier
from vaegan_engine.reconstruction.map_family import N_NUISANCES, Spreads, Sums, family, nuisance_moments, seen
from vaegan_engine.reconstruction.pose_refinement import small_rotations
from vaegan_engine.reconstruction.posed_images import Coefficients, posed

D, RADIUS, N = 24, 7.0, 6


@pytest.fixture(scope="module")
def problem():
    """Three maps, images of the first with noise, a whitening that differs by coefficient."""
    maps = [blobs(seed, D) for seed in range(3)]
    images, _, rotations, shifts = simulated(maps[:1], N, 0.5)
    band = make_band(D, RADIUS)
    source = Coefficients(images, np.arange(N), band)
    precision = band.weight / (20 + band.shell)
    return maps, posed(*source[:], rotations, shifts, band), precision, band


def columns(problem, spreads=None, mean=None, rotations=None, ctf=1.0):
    maps, images, precision, band = problem
    images = images._replace(rotations=images.rotations if rotations is None else rotations, ctf=images.ctf * ctf)
    read = family(maps[0] if mean is None else mean, torch.stack(maps[1:]), band)
    return seen(read, images, precision, spreads or Spreads())


def as_complex(column):
    return torch.view_as_complex(column.unflatten(-1, (-1, 2)).contiguous())


def test_columns_are_the_projections_of_image_formation(problem):
    maps, images, precision, band = problem
    found = columns(problem)
    for place, map_ in ((N_NUISANCES, maps[1]), (N_NUISANCES + 1, maps[2])):
        slices = extract_slices(map_to_fourier(map_[None]), torch.zeros(N, dtype=torch.long), images.rotations, D)
        expected = slices.flatten(1)[:, band.index] * images.ctf * precision.sqrt()
        assert float((as_complex(found.columns[:, place]) - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    mean = extract_slices(map_to_fourier(maps[0][None]), torch.zeros(N, dtype=torch.long), images.rotations, D)
    expected = (images.moved - mean.flatten(1)[:, band.index] * images.ctf) * precision.sqrt()
    assert float((as_complex(found.columns[:, -1]) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("axis", range(3))
def test_the_columns_of_rotations_are_derivatives(problem, axis):
    """In the map's frame: A exp([w]x)^T. Differences over a grid step of the table, whose slopes are rough."""
    images, step = problem[1], 0.06
    w = step * torch.eye(3)[axis][None]
    up, down = (columns(problem, rotations=images.rotations @ small_rotations(sign * w).mT).columns[:, -1]
                for sign in (1, -1))
    difference = (down - up) / (2 * step)  # the residual falls as the projection rises
    found = columns(problem, Spreads(1.0, 1.0, 1.0)).columns[:, 1 + axis]
    assert float(torch.minimum((difference - found).norm(), (difference + found).norm()) / difference.norm()) < 0.1


def test_the_columns_of_contrast_and_shift_are_derivatives(problem):
    band = problem[3]
    found = columns(problem, Spreads(1.0, 1.0, 1.0)).columns
    brighter = columns(problem, ctf=1.001).columns[:, -1]
    assert torch.allclose((columns(problem).columns[:, -1] - brighter) / 0.001, found[:, 0], rtol=1e-2, atol=1e-2)
    mean = as_complex(found[:, 0])
    for axis in range(2):
        moved = mean * torch.polar(torch.ones(len(band.index)), -2 * np.pi * 1e-3 * band.kxy[:, axis])
        assert torch.allclose((moved - mean) / 1e-3, as_complex(found[:, 4 + axis]), rtol=0.05, atol=0.05 * float(
            mean.abs().max()))


def test_gram_and_pull_are_the_marginal_likelihood(problem):
    """Against a dense Gaussian: covariance 1 + T T^T of the whitened residual."""
    spreads = Spreads(0.3, 0.05, 0.02)
    found = columns(problem, spreads)
    parts = found.columns.double()
    T, Y, R = parts[:, :N_NUISANCES], parts[:, N_NUISANCES:-1], parts[:, -1]
    inverse = torch.linalg.inv(torch.eye(R.shape[1], dtype=torch.float64) + T.mT @ T)
    gram, pull = Y @ inverse @ Y.mT, (Y @ inverse @ R[..., None])[..., 0]
    assert torch.allclose(found.gram.double(), gram, rtol=1e-3, atol=1e-3 * float(gram.abs().max()))
    assert torch.allclose(found.pull.double(), pull, rtol=1e-3, atol=1e-3 * float(pull.abs().max()))
    c = torch.randn(N, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, u_c, u_u = nuisance_moments(found, c.float(), (c[:, :, None] * c[:, None]).float())
    rest = R - (Y * c[..., None]).sum(1)
    expected = torch.linalg.solve(torch.eye(N_NUISANCES, dtype=torch.float64) + T @ T.mT, (T @ rest[..., None]))[..., 0]
    assert torch.allclose(u.double(), expected, rtol=1e-3, atol=1e-3)
    assert torch.allclose(u_c.double(), expected[..., None] * c[:, None], rtol=1e-2, atol=1e-2)
    again = found.inner.double() + expected[..., None] * expected[:, None]
    assert torch.allclose(u_u.double(), again, rtol=1e-2, atol=1e-2)


def test_the_gradient_of_the_maps_is_that_of_finite_differences(problem):
    """Of ``sum |R - Y c|^2 / 2`` along a change of one basis map, nuisances off."""
    maps, _images, _precision, band = problem
    off = Spreads(1e-6, 1e-6, 1e-6)
    c = torch.randn(N, 2, generator=torch.Generator().manual_seed(1))
    found = columns(problem, off)
    total = Sums(band, 2)
    total.add(found, c, c[:, :, None] * c[:, None])
    direction = map_to_fourier(blobs(9, D)[None])[0].flatten()
    gradient = total.values()[0]
    slope = float(gradient[2] @ direction.real + gradient[3] @ direction.imag)

    def misfit(step):
        changed = (maps, problem[1], problem[2], band)
        changed[0][1] = base + step * blobs(9, D)
        part = columns(changed, off).columns
        return 0.5 * float((part[:, -1] - (part[:, N_NUISANCES:-1] * c[..., None]).sum(1)).double().square().sum())

    base = maps[1].clone()
    try:
        difference = (misfit(0.05) - misfit(-0.05)) / 0.1
    finally:
        maps[1] = base
    assert abs(slope + difference) < 1e-3 * abs(difference)


def test_a_step_of_the_mean_never_raises_the_misfit(problem):
    """From a map of 0, whatever the number of images; a few steps come near the least."""
    maps, images, precision, band = problem
    mean, costs = torch.zeros(D, D, D), []
    for _ in range(6):
        read = family(mean, torch.zeros(1, D, D, D), band)
        found = seen(read, images, precision, Spreads(1e-6, 1e-6, 1e-6))
        costs.append(float(found.columns[:, -1].square().sum()))
        total = Sums(band, 1)
        total.add(found, torch.zeros(N, 1), torch.ones(N, 1, 1))
        mean = mean + total.change(within(torch.ones(D, D, D)))[0]
    assert all(after < before for before, after in pairwise(costs))
    assert costs[-1] < 0.2 * costs[0]
    assert maps[0].shape == mean.shape


@pytest.mark.parametrize("box_px", [24, 21])
def test_the_kernels_read_and_sum_what_torch_does(box_px):
    """A table that asks for a gradient is read by torch; rotations at all sides of the transform's edge."""
    maps = torch.stack([blobs(seed, box_px) for seed in range(4)])
    images, _, rotations, shifts = simulated(list(maps[:1]), 20, 0.5)
    rotations[:3] = torch.eye(3)[torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]])]  # slices along the grid's planes
    band = make_band(box_px, box_px / 2)
    particles = posed(*Coefficients(images, np.arange(20), band)[:], rotations, shifts, band)
    precision, spreads = band.weight / (20 + band.shell), Spreads(0.2, 0.03, 0.02)
    read = family(maps[0], maps[1:], band)
    assert read.is_compiled
    both = [seen(table, particles, precision, spreads)
            for table in (read, read._replace(table=read.table.clone().requires_grad_(True)))]
    assert both[0].at is None and both[1].at is not None
    sums = []
    c = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for one in both:
            sums.append(Sums(band, 3))
            sums[-1].add(one, c, c[:, :, None] * c[:, None] + 0.1 * torch.eye(3))
    names = "columns", "products", "inner", "gram", "pull"
    pairs = [*((getattr(both[0], name), getattr(both[1], name)) for name in names),
             *zip(sums[0].values(), sums[1].values(), strict=True)]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5 * float(theirs.abs().max()))
