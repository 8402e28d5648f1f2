"""One step of expectation maximisation against brute force and known poses."""
from __future__ import annotations

import math

import numpy as np
import torch
from refine_particles import blobs, mask_of, simulated
from vaegan_engine.physics.fourier_band import make_band, shift_grid, shift_phases
from vaegan_engine.physics.fsc import fourier_shell_correlation
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.projection import map_to_fourier
from vaegan_engine.physics.rotations import super_fibonacci_rotations
from vaegan_engine.physics.slices import gather, stencil
from vaegan_engine.reconstruction import map_mixture
from vaegan_engine.reconstruction.images import image_power
from vaegan_engine.reconstruction.map_mixture import MapMixture, Shifted, accumulate, search
from vaegan_engine.refine.start.starting_maps import scale_to_images


def test_search_is_the_likelihood_summed_by_hand():
    data, _, _, _ = simulated([blobs(0, 16), blobs(1, 16)], 2, 0.5)
    band, grid = make_band(16, 4.0), super_fibonacci_rotations(40)
    shifts = shift_grid(1.0, 1.0)
    model = MapMixture(torch.stack([blobs(0, 16), blobs(1, 16)]), image_power(data), within(mask_of(16)))
    X, C = data.coefficients(np.arange(4), band)
    found = search(Shifted(X, C, band, shift_phases(band, shifts)), model, model.templates(band, grid))
    w = model.precision(band)
    for i in range(4):
        scores = torch.empty(2, len(shifts), 40)
        for c in range(2):
            made = C[i] * gather(map_to_fourier(model.maps)[c], stencil(band, grid))
            for s in range(len(shifts)):
                moved = X[i] * shift_phases(band, shifts)[s]
                misfit = 0.5 * (w * ((moved - made).abs() ** 2 - moved.abs() ** 2)).sum(1)
                scores[c, s] = -misfit
        expected = scores.flatten(1).logsumexp(1) - math.log(len(shifts) * 40)
        torch.testing.assert_close(found.log_evidence[i], expected, rtol=1e-3, atol=2e-3)
        c = int(expected.argmax())
        best = scores[c].flatten().argmax()
        assert (int(found.best_shift[i, c]), int(found.best_rotation[i, c])) == divmod(int(best), 40)
    sums = torch.zeros(4).index_add_(0, found.image, found.weight)
    torch.testing.assert_close(sums, torch.ones(4))


def test_flat_images_do_not_make_sharp_ones_keep_all_poses():
    """Two empty images among strong ones: entries of a strong one stay those within its own limit."""
    maps = torch.stack([blobs(0)])
    data, _, _, _ = simulated([blobs(0)], 12, 0.3)
    band, phases = make_band(24, 6.0), shift_phases(make_band(24, 6.0), shift_grid(1.2, 0.6))
    power = image_power(data)
    model = MapMixture(scale_to_images(maps, data, power, 6.0), 0.05 * power, within(mask_of(24)))
    templates = model.templates(band, super_fibonacci_rotations(1152))
    X, C = data.coefficients(np.arange(12), band)
    alone = search(Shifted(X, C, band, phases), model, templates)
    empty = torch.cat((X, torch.zeros_like(X[:2]))), torch.cat((C, 0.001 * C[:2]))
    found = search(Shifted(*empty, band, phases), model, templates)
    n_alone, n = (torch.bincount(one.image, minlength=14)[:12] for one in (alone, found))
    assert int(torch.bincount(found.image)[12:].max()) >= 256  # the flat ones are flat
    assert torch.equal(n, n_alone)


def test_em_step_recovers_the_noise_and_the_map():
    truth = blobs(3)
    data, _, _, _ = simulated([truth], 300, 1.0)
    band, power = make_band(24, 6.0), image_power(data)
    model = MapMixture(scale_to_images(truth[None], data, power, 6.0), power, within(mask_of(24)))
    X, C = data.coefficients(np.arange(300), band)
    phases = shift_phases(band, shift_grid(1.0, 0.5))
    templates = model.templates(band, super_fibonacci_rotations(1500))
    images = Shifted(X, C, band, phases)
    accumulate(model, search(images, model, templates), images, templates)
    model.solve(6.0)
    fsc = fourier_shell_correlation(model.maps[0].numpy(), truth.numpy())
    assert fsc[1:5].min() > 0.9
    # variance 1 per pixel is d^2 per coefficient; poses off by half a grid step leave some signal
    ratio = model.noise[2:6] / 24 ** 2
    assert 0.8 < float(ratio.min()) and float(ratio.max()) < 1.8


def test_images_are_summed_by_template_as_torch_sums_entries(monkeypatch):
    """Flat posteriors of two maps, some templates without any entry; parts of three templates."""
    data, _, _, _ = simulated([blobs(0, 16), blobs(1, 16)], 10, 1.0)
    band, phases = make_band(16, 5.0), shift_phases(make_band(16, 5.0), shift_grid(1.5, 0.75))
    model = MapMixture(torch.stack([blobs(0, 16), blobs(1, 16)]), image_power(data), within(mask_of(16)))
    images = Shifted(*data.coefficients(np.arange(20), band), band, phases)
    found = search(images, model, model.templates(band, super_fibonacci_rotations(60)))
    used, row = torch.unique(found.map_index * 60 + found.rotation, return_inverse=True)
    assert len(found.image) > 2 * len(used)
    monkeypatch.setattr(map_mixture, "_ROWS_TOGETHER", 3)
    made = map_mixture._by_row_compiled(found, images, row, len(used))
    for ours, theirs in zip(made, map_mixture._by_row(found, images, row, len(used)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
