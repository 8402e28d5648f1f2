"""The particles' contrast: recovered where it was given, 1 where there is none, bounded where nothing is seen."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.physics.fourier_band import make_band, shift_grid, shift_phases
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.projection import map_to_fourier
from vaegan_engine.physics.rotations import super_fibonacci_rotations
from vaegan_engine.physics.slices import PAD, gather, stencil, transform_of
from vaegan_engine.reconstruction.images import Images, image_power
from vaegan_engine.reconstruction.least_squares import misfits, project
from vaegan_engine.reconstruction.map_mixture import MapMixture, Shifted, search
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages
from vaegan_engine.refine.rounds import contrast
from vaegan_engine.refine.rounds.landscape import find_landscape
from vaegan_engine.refine.states import State
from vaegan_engine.refine.tuning import TUNING

BOX_PX, N, RADIUS = 24, 500, 9.0
MASK = torch.from_numpy(soft_sphere_mask(BOX_PX, 10, 2))


def faint_and_strong(maps, spread: float, seed: int = 0):
    """Images whose signal is multiplied by log-normal factors: (Images, factors, states at the true poses)."""
    data, label, rotations, shifts = simulated(maps, N, 0.0, seed)
    rng = np.random.default_rng(seed)
    variance = np.log1p(spread ** 2)
    factor = np.exp(np.sqrt(variance) * rng.standard_normal(len(label)) - variance / 2)
    images = data.images * factor[:, None, None] + rng.standard_normal(data.images.shape)
    made = Images(images.astype(np.float32), data.ctf, data.pixel_size_ang, data.device)
    rows = [np.flatnonzero(label == k) for k in range(len(maps))]
    return made, factor, [State(own, rotations[own], shifts[own], map_) for own, map_ in zip(rows, maps, strict=True)]


def measured(data: Images, states: list[State]):
    """Contrasts and their spread."""
    return contrast.measure_contrasts(problem_of(data, mask=MASK), states, RADIUS)


@pytest.mark.parametrize("spread", [0.15, 0.3])
def test_contrasts_are_recovered(spread):
    data, factor, states = faint_and_strong([blobs(0), blobs(1)], spread)
    made, found = measured(data, states)
    assert found == pytest.approx(spread, abs=0.04)
    assert np.corrcoef(made, factor)[0, 1] > 0.9
    assert np.abs(made / np.median(made) - factor / np.median(factor)).mean() < 0.6 * spread


def test_nothing_is_modelled_where_all_are_alike():
    data, _, states = faint_and_strong([blobs(0)], 0.0)
    made, found = measured(data, states)
    assert found < TUNING.contrast.min_spread and (made == 1).all()


def test_known_contrasts_do_not_change_what_is_measured():
    data, _, states = faint_and_strong([blobs(0)], 0.25)
    made, found = measured(data, states)
    again, found_again = measured(replace(data, contrast=made), states)
    np.testing.assert_array_equal(made, again)
    assert found == found_again


def test_images_of_no_state_keep_what_they_had():
    data, _, states = faint_and_strong([blobs(0)], 0.25)
    made, _ = measured(data, states)
    most = states[0].part(np.arange(N) >= 20)
    again, _ = measured(replace(data, contrast=made), [most])
    np.testing.assert_array_equal(again[:20], made[:20])
    assert (measured(data, [most])[0][:20] == 1).all()


def test_empty_images_are_no_faint_particles():
    data, _, states = faint_and_strong([blobs(0)], 0.2)
    data.images[:50] = np.random.default_rng(1).standard_normal((50, BOX_PX, BOX_PX))
    made, found = measured(data, states)
    assert found == pytest.approx(0.2, abs=0.06)
    assert made.min() >= 1 - 2 * found - 1e-6 and made[:50].mean() < 0.8


@pytest.mark.parametrize(("given", "low", "high"), [(0.0, 0.0, TUNING.contrast.min_spread), (0.25, 0.2, 0.33)])
def test_junk_and_wrong_poses_are_no_contrast(given, low, high):
    """A fifth of the images is junk, a tenth in wrong poses: deviations to both sides gave 0.25 and 0.43."""
    data, _, (state,) = faint_and_strong([blobs(0)], given)
    rng = np.random.default_rng(1)
    data.images[:100] = rng.standard_normal((100, BOX_PX, BOX_PX)) + 0.5 * np.roll(data.images[100:200], (9, 5), (1, 2))
    state.rotations[100:150] = state.rotations[150:200]
    _, found = measured(data, [state])
    assert low <= found < high


def first_map(spread: float, n_junk: int = 0, others: tuple[int, int] = (1, 2), error_deg: float = 4.0):
    """Images of three states in one, in poses that are off by some degrees: (Images, [state]), as after a start."""
    data, _, states = faint_and_strong([blobs(0), *(0.8 * blobs(0) + 0.6 * blobs(k) for k in others)], spread)
    rows = np.concatenate([state.rows for state in states])
    right, shifts = (torch.cat([getattr(state, name) for state in states]) for name in ("rotations", "shifts_px"))
    turns = torch.from_numpy(np.random.default_rng(2).normal(0, np.radians(error_deg), (len(rows), 3)))
    cross = torch.zeros(len(rows), 3, 3, dtype=torch.float64)
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        cross[:, j, i], cross[:, i, j] = turns[:, k], -turns[:, k]
    junk = np.arange(len(rows)) < n_junk
    data.images[junk] = np.random.default_rng(1).standard_normal(data.images[junk].shape)
    data.images[junk] += np.roll(data.images[::-1][:n_junk], (9, 5), (1, 2))
    order = np.argsort(rows)
    rotations = (torch.linalg.matrix_exp(cross).to(right) @ right)[order]
    return data, [State(rows[order], rotations, shifts[order], blobs(0))]


@pytest.mark.parametrize(("others", "error_deg"), [((1, 2), 4.0), ((5, 6), 8.0)])
def test_wrong_poses_and_states_in_a_first_map_are_no_contrast(others, error_deg):
    """The whole band alone would say that there are contrasts, as it did of clean sets."""
    data, states = first_map(0.0, 0, others, error_deg)
    fitted = contrast.fit_contrasts(problem_of(data, mask=MASK), states[0], RADIUS)
    assert contrast.spread_of(fitted.value, fitted.variance) > TUNING.contrast.min_spread
    made, found = measured(data, states)
    assert found < TUNING.contrast.min_spread and (made == 1).all()


@pytest.mark.parametrize("n_junk", [0, 300])
@pytest.mark.parametrize("spread", [0.15, 0.25])
def test_contrasts_are_seen_in_a_first_map(spread, n_junk):
    data, states = first_map(spread, n_junk)
    made, found = measured(data, states)
    assert found > 0.8 * spread and made.std() > 0
    fitted = contrast.fit_contrasts(problem_of(data, mask=MASK), states[0], RADIUS)
    assert contrast.common_spread(fitted) > 1.4 * TUNING.contrast.min_spread


def test_common_spread_in_closed_form():
    """A group's squared width less its noise, and two errors; the least group decides, noisy ones do not."""
    from scipy.stats import norm

    n = 20001
    one = norm.ppf(np.linspace(0.00005, 0.99995, n))

    def of(*groups):
        value = np.stack([1 + width * one for width, _ in groups], 1)
        variance = np.stack([np.full(n, noise ** 2) for _, noise in groups], 1)
        return contrast.common_spread(contrast.Fitted(value[:, 0], variance[:, 0], value, variance))

    def most(width, noise):
        return (width ** 2 - noise ** 2 + 2 * 1.64 * width ** 2 * (2 / n) ** 0.5) ** 0.5

    assert of((0.2, 0.1)) == pytest.approx(most(0.2, 0.1), rel=0.02)
    assert of((0.2, 0.1), (0.15, 0.1)) == pytest.approx(most(0.15, 0.1), rel=0.02)
    assert of((0.2, 0.1), (0.15, 0.17)) == pytest.approx(most(0.2, 0.1), rel=0.02)
    assert of((0.2, 0.17)) == np.inf


@pytest.mark.parametrize(("max_shell", "edges"), [(1, [1, 2]), (2, [1, 3]), (5, [1, 3, 6]), (6, [1, 3, 5, 7])])
def test_groups_hold_every_shell_but_the_mean(max_shell, edges):
    assert contrast.group_edges(max_shell) == edges


def test_shrinkage_in_closed_form():
    """Values of variance 0.04 that scatter with 0.04 + 0.09: drawn to 1 by 9/13, the spread is 0.3."""
    from scipy.stats import norm

    value = 1 + norm.ppf(np.linspace(0.0005, 0.9995, 2001), scale=np.sqrt(0.13))
    drawn, spread = contrast.shrink(value, np.full(2001, 0.04))
    assert spread == pytest.approx(0.3, rel=0.01)
    inside = np.abs(value - 1) < 0.5
    np.testing.assert_allclose(drawn[inside], 1 + (value[inside] - 1) * 9 / 13, rtol=0.01)
    assert drawn.min() == pytest.approx(1 - 2 * spread)
    drawn, spread = contrast.shrink(np.append(value, 9.0), np.full(2002, 0.04))
    assert drawn.max() == pytest.approx(1 + 6 * spread)


def test_contrast_stays_positive_however_wide_the_spread():
    value = 1 + np.random.default_rng(0).standard_normal(500)
    drawn, spread = contrast.shrink(value, np.full(500, 0.01))
    assert spread > 0.6 and drawn.min() == TUNING.contrast.min_contrast


def test_a_contrast_is_a_factor_of_the_ctf():
    data, _, _ = faint_and_strong([blobs(0)], 0.0)
    band, factor = make_band(BOX_PX, RADIUS), np.linspace(0.5, 2, N).astype(np.float32)
    rows = np.array([3, 400, 7])
    plain, known = data.coefficients(rows, band), replace(data, contrast=factor).coefficients(rows, band)
    torch.testing.assert_close(known[0], plain[0])
    torch.testing.assert_close(known[1], plain[1] * torch.from_numpy(factor[rows])[:, None])


def test_misfit_is_that_at_the_best_contrast():
    data, _, states = faint_and_strong([blobs(0)], 0.3)
    band, rows, spread = make_band(BOX_PX, 5.0), np.arange(12), 0.2
    images = PosedImages(Coefficients(data, rows, band), states[0].rotations[:12], states[0].shifts_px[:12])
    w = band.weight / BOX_PX ** 2
    scale = 1 / float(torch.from_numpy(data.images).std())
    map_ = scale * blobs(0)
    g = torch.linspace(-1, 4, 5001)
    curves = torch.stack([misfits(images, float(x) * map_, w) + 0.5 * ((x - 1) / spread) ** 2 for x in g[::50]])
    found = misfits(images, map_, w, spread)
    assert (found <= curves.min(0).values + 1e-3).all()
    part = images.rows(slice(None))
    made = project(part, transform_of(map_, band))
    fine = torch.stack([(0.5 * w * (part.moved - x * made).abs().square()).sum(1) + 0.5 * ((x - 1) / spread) ** 2
                        for x in g])
    torch.testing.assert_close(found, fine.min(0).values, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(misfits(images, map_, w, 1e-4), misfits(images, map_, w), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_search_is_the_likelihood_at_the_best_contrast_of_every_template(spread):
    data, _, _ = faint_and_strong([blobs(0, BOX_PX)], 0.4)
    maps = torch.stack([blobs(0), 0.5 * blobs(1)]) / 8
    band, grid, shifts = make_band(BOX_PX, 4.0), super_fibonacci_rotations(30), shift_grid(1.0, 1.0)
    model, phases = MapMixture(maps, image_power(data), within(MASK)), shift_phases(band, shift_grid(1.0, 1.0))
    X, C = data.coefficients(np.arange(5), band)
    found = search(Shifted(X, C, band, phases), model, model.templates(band, grid), spread=spread)
    w, g = model.precision(band), torch.linspace(0, 4, 2001)
    for i in range(5):
        made = C[i] * torch.stack([gather(map_, stencil(band, grid)) for map_ in map_to_fourier(maps, PAD)])
        B = torch.einsum("p,sp,cmp->cms", w.to(X.dtype), (X[i] * phases).conj(), made).real.flatten(1)
        P = (w * made.abs().square()).sum(2).repeat_interleave(len(shifts), 1)
        scores = (g[:, None, None] * B - 0.5 * g[:, None, None].square() * P
                  - 0.5 * ((g[:, None, None] - 1) / spread) ** 2).max(0)
        expected = scores.values.logsumexp(1) - np.log(B.shape[1])
        torch.testing.assert_close(found.log_evidence[i], expected, rtol=1e-3, atol=5e-3)
        c = int(scores.values.max(1).values.argmax())
        best = int(scores.values[c].argmax())
        assert float(found.contrast[i]) == pytest.approx(float(g[scores.indices[c, best]]), abs=5e-3)


@pytest.mark.science
def test_states_hidden_by_contrast_are_divided():
    """Two like states, contrasts that differ more than the states do: with contrasts known both are found."""
    one = blobs(0)
    other = one + 0.8 * blobs(7, n=2)
    data, _, states = faint_and_strong([one, other], 0.35, seed=3)
    root = State(np.concatenate([state.rows for state in states]), torch.cat([state.rotations for state in states]),
                 torch.cat([state.shifts_px for state in states]), 0.5 * (one + other))

    known, spread = measured(data, [root])
    with_contrasts = problem_of(replace(data, contrast=known, contrast_spread=spread), 50, mask=MASK)
    assert find_landscape(with_contrasts, root, RADIUS).n_states == 2
