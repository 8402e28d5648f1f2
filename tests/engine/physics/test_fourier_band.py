"""Coefficients of a band: each counted once, shifts as phases, the grid of shifts."""
from __future__ import annotations

import pytest
import torch
from vaegan_engine.physics.fourier_band import image_transforms, make_band, shift_grid, shift_phases
from vaegan_engine.physics.projection import images_to_slices, shift_slices


@pytest.mark.parametrize("box_px", [15, 16])
def test_band_counts_every_coefficient_once(box_px):
    image = torch.randn(1, box_px, box_px, generator=torch.Generator().manual_seed(0))
    band = make_band(box_px, 5.0)
    values = image_transforms(image, band)
    whole = torch.fft.fft2(image[0])
    k = torch.fft.fftfreq(box_px, 1 / box_px)
    inside = (k[:, None] ** 2 + k[None, :] ** 2) <= 25
    torch.testing.assert_close((band.weight * values.abs().square()).sum(), whole.abs().square()[inside].sum(),
                               rtol=1e-4, atol=1e-3)


def test_shift_phases_take_a_shift_back():
    image = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1))
    band, shift = make_band(16, 6.0), torch.tensor([[1.3, -0.6]])
    plane = images_to_slices(image)
    moved = shift_slices(plane, shift).flatten(1)[:, band.index] * shift_phases(band, shift)
    torch.testing.assert_close(moved, plane.flatten(1)[:, band.index], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("largest", "step", "n"), [(2.4, 2.0, 25), (2.4, 0.8, 49), (0.0, 1.0, 1)])
def test_shift_grid_reaches_the_largest_shift(largest, step, n):
    grid = shift_grid(largest, step)
    assert len(grid) == n and float(grid.abs().max()) == pytest.approx(largest)
    assert float(grid.norm(dim=1).min()) < 1e-6
