"""Transforms that are held in memory are those of the images."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.reconstruction import images


@pytest.mark.parametrize("box_px", [23, 24])
@pytest.mark.parametrize("radius", [3.0, 7.4, 9.0])
def test_stored_transforms_are_those_of_the_images(box_px, radius):
    data, *_ = simulated([blobs(1, box_px)], 30, 1.0)
    stored, band, rows = data.with_stored(7.4), make_band(box_px, radius), np.array([4, 29, 4, 0])
    assert stored.stored is not None and len(stored.stored.transforms) == 30
    for ours, theirs in zip(stored.coefficients(rows, band), data.coefficients(rows, band), strict=True):
        assert torch.equal(ours, theirs)
    part = stored.part(rows)
    assert len(part) == 4
    assert torch.equal(part.coefficients(np.arange(4), band)[0], data.coefficients(rows, band)[0])


def test_more_than_memory_is_meant_for_is_not_stored(monkeypatch):
    data, *_ = simulated([blobs(1)], 10, 1.0)
    monkeypatch.setattr(images, "MOST_STORED", 9 * len(make_band(24, 5.0).index))
    assert data.with_stored(5.0) is data
    assert data.with_stored(3.0).stored is not None
