"""Slices at many rotations are projections, and their sums the adjoint."""
from __future__ import annotations

import pytest
import torch
from refine_particles import blobs
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.projection import extract_slices, volume_to_fourier
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.physics.slices import gather, scatter, stencil


@pytest.mark.parametrize("box_px", [15, 16])
def test_gather_is_the_projection(box_px):
    volume = blobs(0, box_px)[None]
    A, band = random_rotations(4, torch.Generator().manual_seed(0)), make_band(box_px, box_px / 2 - 1)
    expected = extract_slices(volume_to_fourier(volume), torch.zeros(4, dtype=torch.long), A, box_px)
    torch.testing.assert_close(gather(volume_to_fourier(volume)[0], stencil(band, A)),
                               expected.flatten(1)[:, band.index], rtol=1e-4, atol=1e-3)


def test_scatter_is_the_adjoint_of_gather():
    box_px, rng = 12, torch.Generator().manual_seed(2)
    A, band = random_rotations(3, rng), make_band(box_px, 4.0)
    at = stencil(band, A)
    volume_ft = volume_to_fourier(torch.randn(1, box_px, box_px, box_px, generator=rng))[0]
    values = torch.randn(3, len(band.index), dtype=torch.complex64, generator=rng)
    sums, ones = scatter(values, torch.ones(3, len(band.index)), at, box_px)
    left = (gather(volume_ft, at).conj() * values).real.sum()
    half = torch.full((volume_ft.shape[2],), 1.0)
    half[0] = 0.5  # the plane x = 0 holds each coefficient and its conjugate
    right = (half * (volume_ft.conj() * sums).real).sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-2)
    assert float((half * ones).sum()) == pytest.approx(3 * len(band.index), rel=1e-4)
