"""Batches, the grid of shifts, and a search of images without a particle."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import PIXEL_SIZE_ANG, blobs, mask_of, simulated
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.reconstruction.images import Images, image_power
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.pose_search import Batches, PoseGrid, search_all, shift_step_px
from vaegan_engine.refine.start.starting_maps import scale_to_images


def test_noise_alone_has_no_evidence_for_a_map():
    rng = torch.Generator().manual_seed(5)
    _, _, _, _ = simulated([blobs(0)], 1, 0.0)
    images = torch.randn(60, 24, 24, generator=rng).numpy()
    ctf = np.tile(np.array([[15000, 15000, 0, 300, 2.7, 0.1, 0]], np.float32), (60, 1))
    data = Images(images, ctf, PIXEL_SIZE_ANG, torch.device("cpu"))
    power = image_power(data)
    maps = scale_to_images(blobs(0)[None], simulated([blobs(0)], 60, 1.0)[0], power, 5.0)
    found = search_all(data, MapMixture(maps, power, within(mask_of(24))), np.arange(60),
                       PoseGrid(5.0, 300, 1.0))
    assert found.log_evidence.mean() < 0


def test_batches_show_every_image_once_per_epoch():
    batches = Batches(np.arange(10, 30), 0)
    seen = np.concatenate([batches.take(5) for _ in range(4)])
    assert sorted(seen) == list(range(10, 30))
    assert len(Batches(np.arange(3), 0).take(8)) == 3


def test_shift_step_follows_the_band():
    assert shift_step_px(48, 4) == pytest.approx(4.0) and shift_step_px(48, 40) == 0.5
