"""Slices of maps and their adjoint: compiled against the stencil, against autograd, the same bits on any threads."""
from __future__ import annotations

import pytest
import torch
from refine_particles import blobs
from vaegan_engine.physics import compiled, shards, slice_kernels, slices
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.projection import extract_slices, map_to_fourier, sample_half_transform
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.physics.slices import PAD, add_slices, gather, gather_slopes, scatter, stencil, take_slices

ONE = torch.eye(3)[None]


@pytest.fixture
def threads():
    yield shards.use_threads
    shards.use_threads(1)


def random_slices(box_px: int, radius: float, n: int):
    rng = torch.Generator().manual_seed(box_px)
    band, A = make_band(box_px, radius), random_rotations(n, rng)
    values = torch.randn(n, len(band.index), dtype=torch.complex64, generator=rng)
    return band, A, values, torch.rand(values.shape, generator=rng)


@pytest.mark.parametrize("box_px", [15, 16])
def test_gather_is_the_projection(box_px):
    map_ = blobs(0, box_px)[None]
    A, band = random_rotations(4, torch.Generator().manual_seed(0)), make_band(box_px, box_px / 2 - 1)
    expected = extract_slices(map_to_fourier(map_), torch.zeros(4, dtype=torch.long), A, box_px)
    torch.testing.assert_close(gather(map_to_fourier(map_)[0], stencil(band, A)),
                               expected.flatten(1)[:, band.index], rtol=1e-4, atol=1e-3)


def test_scatter_is_the_adjoint_of_gather():
    box_px, rng = 12, torch.Generator().manual_seed(2)
    A, band = random_rotations(3, rng), make_band(box_px, 4.0)
    at = stencil(band, A)
    map_ft = map_to_fourier(torch.randn(1, box_px, box_px, box_px, generator=rng))[0]
    values = torch.randn(3, len(band.index), dtype=torch.complex64, generator=rng)
    sums, ones = scatter(values, torch.ones(3, len(band.index)), at, box_px)
    left = (gather(map_ft, at).conj() * values).real.sum()
    half = torch.full((map_ft.shape[2],), 1.0)
    half[0] = 0.5  # the plane x = 0 holds each coefficient and its conjugate
    right = (half * (map_ft.conj() * sums).real).sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-2)
    assert float((half * ones).sum()) == pytest.approx(3 * len(band.index), rel=1e-4)


@pytest.mark.parametrize("box_px", [15, 16, 24])
@pytest.mark.parametrize("radius", [4.3, 99.0])
@pytest.mark.parametrize("map_px", [0, 25])
def test_compiled_slices_are_those_of_the_stencil(box_px, radius, map_px):
    band, A, _, _ = random_slices(box_px, radius, 70)
    map_ft = map_to_fourier(blobs(1, map_px or box_px)[None])[0]
    expected = gather(map_ft, stencil(band, A, len(map_ft)))
    limit = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(take_slices(map_ft, band, A), expected, rtol=1e-5, atol=limit)


@pytest.mark.parametrize("box_px", [15, 16, 24])
@pytest.mark.parametrize("radius", [4.3, 99.0])
def test_compiled_sums_are_those_of_the_stencil(box_px, radius):
    band, A, values, powers = random_slices(box_px, radius, 150)
    found = add_slices(lambda rows: (values[rows], powers[rows]), band, A, box_px, ONE)
    for ours, theirs in zip(found, scatter(values, powers, stencil(band, A), box_px), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_sums_in_a_larger_map_are_the_same_sums():
    band, A, values, powers = random_slices(16, 5.0, 40)
    small, large = (add_slices(lambda rows: (values[rows], powers[rows]), band, A, map_px, ONE) for map_px in (14, 20))
    for one, other in zip(small, large, strict=True):
        assert float(one.abs().sum()) == pytest.approx(float(other.abs().sum()), rel=1e-6)
        torch.testing.assert_close(one[:10, :10, :10], other[:10, :10, :10])
        torch.testing.assert_close(one[-10:, :10, :10], other[-10:, :10, :10])


@pytest.mark.parametrize("most", [60_000, 1])
def test_the_sums_that_are_held_at_once_are_bounded(monkeypatch, most):
    band, A, values, powers = random_slices(24, 9.0, 600)
    expected = scatter(values, powers, stencil(band, A), 24)
    sizes, add_cube = [], slice_kernels.add_cube
    monkeypatch.setattr(slice_kernels, "add_cube", lambda cube, *sums: (sizes.append(cube.size), add_cube(cube, *sums)))
    monkeypatch.setattr(slices, "_MOST_SUMMED", most)
    found = add_slices(lambda rows: (values[rows], powers[rows]), band, A, 24, ONE)
    assert sum(sizes) <= max(most, sizes[0])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_no_slices_make_no_sums():
    band, A, values, powers = random_slices(12, 4.0, 3)
    found = add_slices(lambda rows: (values[rows], powers[rows]), band, A[:0], 12, ONE)
    assert all(float(part.abs().max()) == 0 for part in found)


@pytest.mark.parametrize("box_px", [15, 16])
def test_slopes_are_the_derivatives_of_the_slices(box_px):
    band, A, _, _ = random_slices(box_px, 5.0, 6)
    map_ft = map_to_fourier(blobs(2, box_px)[None])
    points = (PAD * torch.einsum("pi,nij->npj", band.kxy, A[:, :2])).requires_grad_()
    samples = sample_half_transform(map_ft, torch.zeros(6, dtype=torch.long), points)
    real, imag = (torch.autograd.grad(part.sum(), points, retain_graph=True)[0]
                  for part in (samples.real, samples.imag))
    value, slopes = gather_slopes(map_ft[0], stencil(band, A))
    limit = 1e-5 * float(samples.abs().max())
    torch.testing.assert_close(value, samples.detach(), rtol=1e-5, atol=limit)
    torch.testing.assert_close(slopes, torch.complex(real, imag), rtol=1e-4, atol=10 * limit)


def test_bits_do_not_depend_on_the_number_of_threads(threads):
    band, A, values, powers = random_slices(24, 8.0, 700)
    map_ft = map_to_fourier(blobs(3, 24)[None])[0]

    def made():
        return take_slices(map_ft, band, A), *add_slices(lambda rows: (values[rows], powers[rows]), band, A, 24, ONE)

    threads(1)
    alone = made()
    for n in (2, 3, 5):
        threads(n)
        assert all(torch.equal(one, other) for one, other in zip(made(), alone, strict=True))


def test_parts_come_in_order_and_parts_of_parts_run_too(threads):
    threads(2)

    def halved(first, end):
        return shards.in_parts(lambda a, b: (first + a, first + b), end - first, 2)

    found = shards.in_parts(halved, 11, 4)
    assert found == [[(0, 2), (2, 4)], [(4, 6), (6, 8)], [(8, 10), (10, 11)]]
    assert shards.in_parts(lambda first, end: end, 0, 4) == []


def test_an_error_in_a_part_reaches_the_caller(threads):
    threads(2)
    with pytest.raises(ZeroDivisionError):
        shards.in_parts(lambda first, end: 1 // first, 8, 4)


def test_where_no_code_can_be_kept_it_is_compiled_anyway(monkeypatch):
    def without_a_folder(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", without_a_folder)
    assert compiled.compiled(abs)(-2) == 2
