"""The parts of refine against brute force, closed forms and known poses."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refine_particles import PIXEL_SIZE_ANG, blobs, simulated
from vaegan_engine.physics.fourier_band import image_coefficients, make_band, shift_grid, shift_phases
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.map_alignment import AlignedMap, carried, move_map
from vaegan_engine.physics.projection import extract_slices, images_to_slices, shift_slices, volume_to_fourier
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg, super_fibonacci_rotations
from vaegan_engine.physics.slices import gather, scatter, stencil
from vaegan_engine.reconstruction import images as particle_images
from vaegan_engine.reconstruction import least_squares, posed_images
from vaegan_engine.reconstruction.images import Images, image_power
from vaegan_engine.reconstruction.least_squares import residual_noise, weighted_map
from vaegan_engine.reconstruction.map_mixture import MapMixture, accumulate, search
from vaegan_engine.reconstruction.pose_refinement import refine_poses, small_rotations
from vaegan_engine.reconstruction.pose_search import Batches, search_all, shift_step_px
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages, posed
from vaegan_engine.refine.split_states import is_separate, separation, try_split
from vaegan_engine.refine.starting_maps import scaled_to_images, start
from vaegan_engine.stats.density_valley import valley_ratio


def mask_of(box_px: int) -> torch.Tensor:
    return torch.from_numpy(soft_sphere_mask(box_px, 0.4 * box_px, 2.0))


@pytest.mark.parametrize("box_px", [15, 16])
def test_band_counts_every_coefficient_once(box_px):
    image = torch.randn(1, box_px, box_px, generator=torch.Generator().manual_seed(0))
    band = make_band(box_px, 5.0)
    values, _ = image_coefficients(image, torch.tensor([[1e4, 1e4, 0, 300, 0, 0.1, 0]]), PIXEL_SIZE_ANG, band)
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


def test_search_is_the_likelihood_summed_by_hand():
    data, _, _, _ = simulated([blobs(0, 16), blobs(1, 16)], 2, 0.5)
    band, grid = make_band(16, 4.0), super_fibonacci_rotations(40)
    shifts = shift_grid(1.0, 1.0)
    model = MapMixture(torch.stack([blobs(0, 16), blobs(1, 16)]), image_power(data), mask_of(16))
    X, C = data.coefficients(np.arange(4), band)
    found = search(X, C, model, model.templates(band, grid), band, shift_phases(band, shifts))
    w = model.precision(band)
    for i in range(4):
        scores = torch.empty(2, len(shifts), 40)
        for c in range(2):
            made = C[i] * gather(volume_to_fourier(model.maps)[c], stencil(band, grid))
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
    model = MapMixture(scaled_to_images(maps, data, power, 6.0), 0.05 * power, mask_of(24))
    templates = model.templates(band, super_fibonacci_rotations(1152))
    X, C = data.coefficients(np.arange(12), band)
    alone = search(X, C, model, templates, band, phases)
    empty = torch.cat((X, torch.zeros_like(X[:2]))), torch.cat((C, 0.001 * C[:2]))
    found = search(*empty, model, templates, band, phases)
    n_alone, n = (torch.bincount(one.image, minlength=14)[:12] for one in (alone, found))
    assert int(torch.bincount(found.image)[12:].max()) >= 256  # the flat ones are flat
    assert torch.equal(n, n_alone)


def test_noise_alone_has_no_evidence_for_a_map():
    rng = torch.Generator().manual_seed(5)
    _, _, _, _ = simulated([blobs(0)], 1, 0.0)
    images = torch.randn(60, 24, 24, generator=rng).numpy()
    ctf = np.tile(np.array([[15000, 15000, 0, 300, 2.7, 0.1, 0]], np.float32), (60, 1))
    data = Images(images, ctf, PIXEL_SIZE_ANG, torch.device("cpu"))
    power = image_power(data)
    maps = scaled_to_images(blobs(0)[None], simulated([blobs(0)], 60, 1.0)[0], power, 5.0)
    found = search_all(data, MapMixture(maps, power, mask_of(24)), np.arange(60), 5.0, 300, 1.0)
    assert found.log_evidence.mean() < 0


def test_em_step_recovers_the_noise_and_the_map():
    truth = blobs(3)
    data, _, _, _ = simulated([truth], 300, 1.0)
    band, power = make_band(24, 6.0), image_power(data)
    model = MapMixture(scaled_to_images(truth[None], data, power, 6.0), power, mask_of(24))
    X, C = data.coefficients(np.arange(300), band)
    phases = shift_phases(band, shift_grid(1.0, 0.5))
    templates = model.templates(band, super_fibonacci_rotations(1500))
    found = search(X, C, model, templates, band, phases)
    accumulate(model, found, X, C, templates, band, phases)
    model.solve(6.0)
    fsc = fourier_shell_correlation(model.maps[0].numpy(), truth.numpy())
    assert fsc[1:5].min() > 0.9
    # variance 1 per pixel is d^2 per coefficient; poses off by half a grid step leave some signal
    ratio = model.noise[2:6] / 24 ** 2
    assert 0.8 < float(ratio.min()) and float(ratio.max()) < 1.8


def test_small_rotation_turns_by_its_length():
    w = torch.tensor([[0.3, -0.2, 0.1]])
    turned = small_rotations(w)
    angle = float(rotation_distance_deg(turned, torch.eye(3)[None]))
    assert angle == pytest.approx(math.degrees(float(w.norm())), rel=1e-4)
    torch.testing.assert_close((turned @ w[..., None])[..., 0], w)


def test_poses_are_refined_off_the_grid():
    truth = blobs(4)
    data, _, A, shifts = simulated([truth], 120, 0.5)
    rng = torch.Generator().manual_seed(1)
    start_A = small_rotations(0.08 * torch.randn(120, 3, generator=rng)) @ A
    start_shifts = shifts + 0.5 * torch.randn(120, 2, generator=rng)
    band = make_band(24, 8.0)
    X, C = data.coefficients(np.arange(120), band)
    maps = scaled_to_images(truth[None], data, image_power(data), 6.0)
    found_A, found_shifts, cost = refine_poses(volume_to_fourier(maps)[0], X, C, start_A, start_shifts, band.weight,
                                               band, 6)
    before, after = (rotation_distance_deg(a, A).median() for a in (start_A, found_A))
    assert float(before) > 5 and float(after) < 1.5
    assert float((found_shifts - shifts).norm(dim=1).median()) < 0.15
    assert torch.isfinite(cost).all()


def test_map_from_known_poses():
    truth = blobs(6)
    data, _, A, shifts = simulated([truth], 400, 1.0)
    band = make_band(24, 12.0)
    X, C = data.coefficients(np.arange(400), band)
    images = posed(X, C, A, shifts, band)
    volume = weighted_map(images, torch.ones(400), torch.ones_like(band.weight), mask_of(24))
    fsc = fourier_shell_correlation(volume.numpy(), truth.numpy())
    assert fsc[1:6].min() > 0.95
    noise = residual_noise(images, volume)
    assert float((noise[3:10] / 24 ** 2).mean()) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("most_held", [0, 2 ** 30])
def test_images_in_chunks_are_the_images(monkeypatch, most_held):
    truth = blobs(6)
    data, _, A, shifts = simulated([truth], 130, 1.0)
    for module, name, value in ((least_squares, "CHUNK_IMAGES", 50), (posed_images, "CHUNK_IMAGES", 50),
                                (particle_images, "_READ_IMAGES", 32), (posed_images, "MOST_HELD", most_held)):
        monkeypatch.setattr(module, name, value)
    rows, band = np.arange(5, 128), make_band(24, 8.0)
    X, C = data.coefficients(rows, band)
    whole_table = torch.from_numpy(data.ctf[rows])
    torch.testing.assert_close((X, C), image_coefficients(torch.from_numpy(data.images[rows]), whole_table,
                                                          PIXEL_SIZE_ANG, band))
    whole, w = posed(X, C, A[rows], shifts[rows], band), band.weight
    images = PosedImages(Coefficients(data, rows, band), A[rows], shifts[rows])
    volume = least_squares.reconstruction(images, w, mask_of(24))
    torch.testing.assert_close(volume, weighted_map(whole, torch.ones(len(rows)), w, mask_of(24)))
    misfit = (w * (whole.moved - least_squares.project(whole, volume)).abs().square()).sum(1) / 2
    torch.testing.assert_close(least_squares.misfits(images, volume, w), misfit)
    torch.testing.assert_close(residual_noise(images, volume), residual_noise(whole, volume))
    some = torch.tensor([100, 3, 3, 60])
    torch.testing.assert_close(images.part(some).moved, whole.moved[some])
    better, cost = images.refined(volume, w, 2)
    expected = refine_poses(volume_to_fourier(volume[None])[0], X, C, A[rows], shifts[rows], w, band, 2)
    torch.testing.assert_close((better.A, better.shifts_px, cost), expected)


def split_of(maps, n_each, seed=0):
    data, label, A, shifts = simulated(maps, n_each, 1.0, seed)
    band = make_band(24, 7.0)
    X, C = data.coefficients(np.arange(len(label)), band)
    images = posed(X, C, A, shifts, band)
    volume = weighted_map(images, torch.ones(len(label)), torch.ones_like(band.weight), mask_of(24))
    precision = band.weight / residual_noise(images, volume)[band.shell]
    return label, try_split(images, volume, precision, mask_of(24), torch.Generator().manual_seed(0))


def test_two_states_are_split():
    common = blobs(7)
    extra = common + 2.5 * torch.roll(blobs(8, n=2), 2, 0)
    label, (side, maps, evidence) = split_of([common, extra], 300)
    right = max(np.mean(side == label), np.mean(side != label))
    assert is_separate(evidence) and right > 0.95, evidence
    assert maps.shape == (2, 24, 24, 24)


def test_one_state_is_not_split():
    _, (_, _, evidence) = split_of([blobs(7)], 600)
    balanced = 0.1 < evidence["n_second"] / 600 < 0.9
    assert not (is_separate(evidence) and balanced), evidence


def test_separation_needs_agreement_and_a_valley():
    rng = torch.Generator().manual_seed(0)
    A = random_rotations(2000, rng)
    state = 6.0 * (torch.arange(2000) % 2) - 3.0
    first, second = (state + torch.randn(2000, generator=rng) for _ in range(2))
    assert is_separate(separation(first, second, second, A))
    noise = [torch.randn(2000, generator=rng) for _ in range(2)]
    assert not is_separate(separation(*noise, noise[1], A))
    ramp = torch.linspace(-3, 3, 2000)
    moving = separation(ramp + 0.3 * noise[0], ramp + 0.3 * noise[1], ramp + 0.3 * noise[1], A)
    assert moving["agreement"] > 0.5 and not is_separate(moving)


def test_what_the_view_divides_is_no_state_unless_it_is_plain():
    """A cone of views has a map of its own: agreement and valley would do, but the view explains the sides."""
    rng = torch.Generator().manual_seed(1)
    A = random_rotations(2000, rng)
    cone = torch.where(A[:, 2, 2].abs() > 0.7, 2.0, -2.0)
    values = [cone + 0.8 * torch.randn(2000, generator=rng) for _ in range(3)]
    cut = separation(*values, A)
    assert cut["by_view"] > 0.5 and 0.5 < cut["agreement"] < 0.95
    assert not is_separate({**cut, "agreement": 0.7})
    assert is_separate({**cut, "agreement": 0.7, "by_view": 0.3, "valley": 0.3})
    assert is_separate({**cut, "agreement": 0.95, "valley": 0.05})  # wrong poses part images by views, and plainly


@pytest.mark.parametrize("mirrored", [False, True])
def test_poses_are_carried_between_frames_and_hands(mirrored):
    d, rng = 24, torch.Generator().manual_seed(9)
    b = blobs(10)
    R, t = random_rotations(1, rng)[0].numpy(), np.array([1.5, -0.7, 0.4], np.float32)
    a = torch.from_numpy(move_map(b.numpy(), R, t, mirrored))
    found = AlignedMap(a.numpy(), R, t, t, mirrored, 1.0)
    A, shifts = random_rotations(6, rng), torch.randn(6, 2, generator=rng)
    zero = torch.zeros(6, dtype=torch.long)

    def made(volume, rotations, moves):
        return shift_slices(extract_slices(volume_to_fourier(volume[None]), zero, rotations, d), moves)

    A_b, shifts_b = carried(A, shifts, found, forward=True)
    seen_a, seen_b = made(a, A, shifts), made(b, A_b, shifts_b)
    band = make_band(d, 6.0)
    x, y = (plane.flatten(1)[:, band.index] for plane in (seen_a, seen_b))
    correlation = (x.conj() * y).real.sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    assert float(correlation.min()) > 0.98
    back_A, back_shifts = carried(A_b, shifts_b, found, forward=False)
    assert float(rotation_distance_deg(back_A, A).max()) < 0.1
    torch.testing.assert_close(back_shifts, shifts, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("n_given", "n_maps", "expected"), [(0, 3, 3), (1, 3, 3), (4, 3, 4)])
def test_given_maps_are_filled_up_with_random_ones(n_given, n_maps, expected):
    data, _, _, _ = simulated([blobs(0)], 40, 1.0)
    given = torch.stack([blobs(k) for k in range(n_given)]) if n_given else None
    model = start(data, given, n_maps, 5.0, mask_of(24), torch.Generator().manual_seed(0))
    assert model.n_classes == expected
    assert len({round(float(m.norm()), 4) for m in model.maps}) == expected  # no map twice
    for volume in model.maps[:n_given]:
        best = max(np.corrcoef(volume.flatten(), blobs(k).flatten())[0, 1] for k in range(n_given))
        assert best > 0.8


def test_batches_show_every_image_once_per_epoch():
    batches = Batches(np.arange(10, 30), 0)
    seen = np.concatenate([batches.take(5) for _ in range(4)])
    assert sorted(seen) == list(range(10, 30))
    assert len(Batches(np.arange(3), 0).take(8)) == 3


def test_shift_step_follows_the_band():
    assert shift_step_px(48, 4) == pytest.approx(2.4) and shift_step_px(48, 24) == 0.5


def test_valley_is_what_divide_expects():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((4000, 1))
    assert valley_ratio(one[one[:, 0] < 0][:, None].reshape(-1, 1), one[one[:, 0] >= 0].reshape(-1, 1)) > 0.6
