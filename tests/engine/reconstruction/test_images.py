"""Transforms that are held in memory are those of the images."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import blobs, simulated
from vaegan_engine.physics import memory_limit
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.reconstruction import images, posed_images
from vaegan_engine.reconstruction.posed_images import Coefficients
from vaegan_engine.training.batches import Batches


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


def test_more_than_memory_is_meant_for_is_not_stored():
    data, *_ = simulated([blobs(1)], 10, 1.0)
    most = 9 * len(make_band(24, 5.0).index)
    assert data.with_stored(5.0, most=most) is data
    assert data.with_stored(3.0, most=most).stored is not None


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(memory_limit, "_limit_bytes", 1000.0)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("box_px", [23, 24])
def test_what_memory_has_no_room_for_is_the_same_on_disk(box_px, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_STORED_IMAGES", 7)
    data, *_ = simulated([blobs(1, box_px)], 30, 1.0)
    assert data.with_stored(7.4) is data
    stored, rows = data.with_stored(7.4, tmp_path / "cache"), np.array([4, 29, 4, 0])
    assert stored.stored is not None and len(stored.stored.transforms) == 30
    assert list((tmp_path / "cache").iterdir()) == []  # it has no name, and is gone with the run
    for radius in (3.0, 7.4, 9.0):
        band = make_band(box_px, radius)
        assert torch.equal(stored.transforms(rows, band), data.transforms(rows, band))
    assert torch.equal(stored.part(rows).transforms(np.arange(4), band), data.transforms(rows, band))


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match=r"space|large|big"):
        images.file_of(tmp_path, (2 ** 40, 2 ** 10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("little_memory")
def test_with_little_memory_nothing_else_is_held():
    data, *_ = simulated([blobs(1)], 30, 1.0)
    band, rows = make_band(24, 5.0), np.arange(30)
    few = Coefficients(data, rows, band)
    assert few._held is None
    assert torch.equal(few[3:9][0], data.transforms(rows[3:9], band))
    batches = Batches(np.asarray(data.images), data.ctf, 8, 0, data.device)
    assert batches.resident is None
    np.testing.assert_array_equal(batches.read(0)[0].numpy(), data.images[batches.rows(0)])


@pytest.mark.parametrize("box_px", [31, 32])
def test_each_of_several_processes_makes_the_bits_of_one(box_px, monkeypatch):
    """Images that are asked for in other groups, in blocks that are read together and not."""
    data, *_ = simulated([blobs(1, box_px)], 45, 1.0)
    band, rows = make_band(box_px, 9.0), np.arange(44, -1, -1)
    for pixels in (images._READ_PIXELS, 20 * box_px ** 2):
        monkeypatch.setattr(images, "_READ_PIXELS", pixels)
        monkeypatch.setattr(posed_images, "n_processes", lambda: 1)
        alone = Coefficients(data, rows, band)
        monkeypatch.setattr(posed_images, "n_processes", lambda: 2)
        shared = Coefficients(data, rows, band)
        for at in (np.array([7]), np.arange(1, 45, 2), slice(3, 6), np.arange(45)):
            for ours, theirs in zip(shared[at], alone[at], strict=True):
                assert torch.equal(ours, theirs)
