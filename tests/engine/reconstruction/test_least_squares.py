"""Maps from images at known poses, whole and in chunks."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import PIXEL_SIZE_ANG, blobs, mask_of, simulated
from vaegan_engine.physics import slices
from vaegan_engine.physics.ctf import ctf_2d
from vaegan_engine.physics.fourier_band import image_transforms, make_band
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.projection import map_to_fourier
from vaegan_engine.physics.slices import take_slices, transform_of
from vaegan_engine.reconstruction import images as particle_images
from vaegan_engine.reconstruction import least_squares, posed_images
from vaegan_engine.reconstruction.least_squares import residual_noise, weighted_map
from vaegan_engine.reconstruction.pose_refinement import AtPoses, refine_poses
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages, posed


def test_map_from_known_poses():
    truth = blobs(6)
    data, _, rotations, shifts = simulated([truth], 400, 1.0)
    band = make_band(24, 12.0)
    X, C = data.coefficients(np.arange(400), band)
    images = posed(X, C, rotations, shifts, band)
    map_ = weighted_map(images, torch.ones(400), torch.ones_like(band.weight), within(mask_of(24)))
    fsc = fourier_shell_correlation(map_.numpy(), truth.numpy())
    assert fsc[1:6].min() > 0.95
    noise = residual_noise(images, map_)
    assert float((noise[3:10] / 24 ** 2).mean()) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("most_held", [0, 2 ** 30])
def test_images_in_chunks_are_the_images(monkeypatch, most_held):
    truth = blobs(6)
    data, _, rotations, shifts = simulated([truth], 130, 1.0)
    for module, name, value in ((slices, "CHUNK_IMAGES", 50),
                                (particle_images, "_READ_IMAGES", 32), (posed_images, "MOST_HELD", most_held)):
        monkeypatch.setattr(module, name, value)
    rows, band = np.arange(5, 128), make_band(24, 8.0)
    X, C = data.coefficients(rows, band)
    whole_table = torch.from_numpy(data.ctf[rows])
    torch.testing.assert_close(X, image_transforms(torch.from_numpy(data.images[rows]), band))
    expected = ctf_2d(whole_table, 24, PIXEL_SIZE_ANG).flatten(1)[:, band.index]
    torch.testing.assert_close(C, expected, rtol=1e-4, atol=1e-4)
    whole, w = posed(X, C, rotations[rows], shifts[rows], band), band.weight
    images = PosedImages(Coefficients(data, rows, band), rotations[rows], shifts[rows])
    map_ = least_squares.reconstruction(images, w, within(mask_of(24)))
    torch.testing.assert_close(map_, weighted_map(whole, torch.ones(len(rows)), w, within(mask_of(24))))
    misfit = (w * (whole.moved - least_squares.project(whole, transform_of(map_, band))).abs().square()).sum(1) / 2
    torch.testing.assert_close(least_squares.misfits(images, map_, w), misfit)
    torch.testing.assert_close(residual_noise(images, map_), residual_noise(whole, map_))
    some = torch.tensor([100, 3, 3, 60])
    torch.testing.assert_close(images.part(some).moved, whole.moved[some])
    better, cost = images.refined(map_, w, 2)
    expected = refine_poses(map_to_fourier(map_[None])[0], AtPoses(X, C, rotations[rows], shifts[rows], band), w, 2)
    torch.testing.assert_close((better.rotations, better.shifts_px, cost), expected)


@pytest.mark.parametrize("box_px", [40, 41])
def test_a_map_in_its_working_box_is_the_map_in_the_box_of_the_images(monkeypatch, box_px):
    """The same images, mask and band: the slices agree but for what the mask spreads past the band."""
    data, _, rotations, shifts = simulated([blobs(6, box_px, width_frac=0.04)], 400, 1.0)
    band, rows = make_band(box_px, 6.0), np.arange(400)
    images = posed(*data.coefficients(rows, band), rotations, shifts, band)
    mask = torch.from_numpy(soft_sphere_mask(box_px, 0.3 * box_px, 0.08 * box_px))
    made = []
    for side in (slices.map_box_px(6.0, box_px), box_px):
        monkeypatch.setattr(least_squares, "map_box_px", lambda radius, largest, side=side: side)
        map_ = least_squares.reconstruction(images, band.weight, within(mask))
        assert len(map_) == side
        made.append((take_slices(transform_of(map_, band), band, rotations),
                     least_squares.misfits(images, map_, band.weight)))
    (small, small_misfit), (large, large_misfit) = made
    assert slices.map_box_px(6.0, box_px) == 20
    assert float((small - large).norm() / large.norm()) < 0.03
    assert float(((small_misfit - large_misfit) / large_misfit).abs().max()) < 0.02
    assert float(small_misfit.mean()) == pytest.approx(float(large_misfit.mean()), rel=2e-3)


def test_a_prior_is_the_wiener_filter_of_even_weights():
    """With the same weight everywhere, noise over signal f divides a shell by 1 + f; without one by 1.05."""
    rng = torch.Generator().manual_seed(0)
    numerator = torch.randn(48, 48, 25, dtype=torch.complex64, generator=rng)
    even = torch.full((48, 48, 25), 4.0)
    prior = torch.linspace(0, 3, 13)
    plain, filtered = (torch.fft.rfftn(least_squares.solved(numerator, even, 24, 11.0, given))
                       for given in (None, prior))
    for shell in (2, 5, 9):
        ratio = (filtered[0, 0, shell] / plain[0, 0, shell]).real  # neighbours, by the gridding correction, are alike
        assert float(ratio) == pytest.approx(1.05 / (1 + float(prior[shell])), rel=0.25)


@pytest.mark.parametrize("prior", [None, torch.linspace(0.1, 2, 13)])
def test_large_grids_in_slabs_give_the_same_map(monkeypatch, prior):
    rng = torch.Generator().manual_seed(1)
    numerator = torch.randn(48, 48, 25, dtype=torch.complex64, generator=rng)
    denominator = torch.rand(48, 48, 25, generator=rng)
    whole = least_squares.solved(numerator, denominator, 24, 9.0, prior)
    monkeypatch.setattr(least_squares, "_WHOLE_PX", 16)
    monkeypatch.setattr(least_squares, "_SLAB_PLANES", 7)
    torch.testing.assert_close(least_squares.solved(numerator, denominator, 24, 9.0, prior), whole)


def test_powers_of_what_is_left_are_those_of_the_noise():
    data, _, rotations, shifts = simulated([blobs(4)], 200, 1.0)
    band, flat = make_band(24, 8.0), torch.ones(200, len(make_band(24, 8.0).index))
    images = PosedImages(Coefficients(data, np.arange(200), band), rotations, shifts)
    map_ = least_squares.reconstruction(images, lambda rows: flat[rows], within(mask_of(24)))
    torch.testing.assert_close(map_, least_squares.reconstruction(images, flat[0], within(mask_of(24))))
    powers = least_squares.residual_power_sums(images, map_, torch.arange(200), 200)
    assert powers.shape == (200, 13) and not powers[:, 9:].any()
    torch.testing.assert_close(powers.mean(0)[1:9], residual_noise(images, map_)[1:9], rtol=1e-3, atol=1.0)


def test_powers_are_summed_in_groups_a_block_at_a_time():
    data, _, rotations, shifts = simulated([blobs(4)], 23, 1.0)
    images = PosedImages(Coefficients(data, np.arange(23), make_band(24, 8.0)), rotations, shifts)
    each, group = least_squares.residual_power_sums(images, blobs(4), torch.arange(23), 23), torch.arange(23) % 4
    expected = torch.stack([each[group == number].sum(0) for number in range(4)])
    torch.testing.assert_close(least_squares.residual_power_sums(images, blobs(4), group, 4, together=5), expected)


def test_a_narrower_band_is_that_of_the_images(monkeypatch):
    data, *_ = simulated([blobs(4)], 20, 1.0)
    rows = np.array([3, 19, 4])
    for most_held in (0, None):
        narrow = Coefficients(data, rows, make_band(24, 9.0), most_held).within(make_band(24, 5.0))
        for ours, theirs in zip(narrow[:], data.coefficients(rows, make_band(24, 5.0)), strict=True):
            torch.testing.assert_close(ours, theirs)
