"""The expectation steps against plain numpy: every pose in a loop, the contrast integrated by quadrature."""
import numpy as np
import pytest
import torch
from flat_pictures import PICTURES, blobs, make, problem_of
from vaegan_engine.classes2d.near import candidates_of, near_grid, near_step
from vaegan_engine.classes2d.problem import weighted
from vaegan_engine.classes2d.search import search, templates_of
from vaegan_engine.classes2d.settle import centres_px, mean_power, moved_sums, squared_distances, with_copies
from vaegan_engine.classes2d.start import first_model
from vaegan_engine.physics.fourier_band import make_band, shift_phases

RADIUS = 5.0


@pytest.fixture(scope="module")
def begun():
    problem = problem_of(make(24, snr=1.0), n_classes=3)
    return problem, first_model(problem, np.random.default_rng(0))


def log_likelihood_ratios(problem, model, row):
    """``(s, c r)`` of one image by quadrature over its contrast."""
    templates = templates_of(problem, model, RADIUS)
    some = weighted(problem.images, np.array([row]), templates.band, model.noise)
    moved = some.product[0] * shift_phases(templates.band, torch.from_numpy(templates.shifts_px)).numpy()
    product = (moved[:, None] * templates.values.conj()).real.sum(-1)
    power = (some.power[0] * np.abs(templates.values) ** 2).sum(-1)
    a = np.linspace(-6, 8, 4001)
    spread = problem.tuning.contrast_spread
    prior = np.exp(-0.5 * ((a - 1) / spread) ** 2) / (spread * np.sqrt(2 * np.pi)) * (a[1] - a[0])
    return np.log((prior * np.exp(a * product[..., None] - 0.5 * a ** 2 * power[:, None])).sum(-1)), templates


@pytest.mark.parametrize("row", [0, 7])
def test_search_sums_over_all_poses(begun, row):
    problem, model = begun
    scores, templates = log_likelihood_ratios(problem, model, row)
    found, _ = search(problem, model, np.array([row]), RADIUS)
    expected = np.log(np.exp(scores - scores.max()).mean()) + scores.max()
    assert found.log_evidence[0] == pytest.approx(expected, abs=0.1)
    by_class = scores.reshape(len(scores), model.n_classes, -1)
    best = by_class.transpose(1, 0, 2).reshape(model.n_classes, -1).argmax(1)
    shift, turn = np.divmod(best, by_class.shape[2])
    np.testing.assert_allclose(found.pose[0, :, 0], templates.turns_rad[turn], atol=1e-6)
    np.testing.assert_allclose(found.pose[0, :, 1:], templates.shifts_px[shift], atol=1e-6)


def test_near_step_finds_no_worse_poses(begun):
    problem, model = begun
    found, _ = search(problem, model, np.arange(len(problem)), RADIUS)
    candidates = candidates_of(found, 1, -50.0)
    narrow = near_grid(0.0, 0.0, RADIUS)
    wide = near_grid(0.05, 0.4, RADIUS)
    halves_alike = model  # both half sets begin with the same averages
    at, _ = near_step(problem, halves_alike, candidates, narrow)
    near, _ = near_step(problem, halves_alike, candidates, wide)
    best_at = _best_score(problem, model, at)
    best_near = _best_score(problem, model, near)
    assert (best_near >= best_at - 1e-3).all() and (best_near > best_at + 0.1).mean() > 0.3


def _best_score(problem, model, candidates):
    """Log likelihood ratio of every image at its pose."""
    band, grid = make_band(problem.box_px, RADIUS), model.grid
    planes, prior = grid.transforms(model.half_averages(problem.mask)[0]), problem.contrast_prior
    scores = []
    for row, (k, pose) in enumerate(zip(candidates.best, candidates.pose[:, 0], strict=True)):
        some = weighted(problem.images, np.array([row]), band, model.noise)
        template = grid.turned(planes[k:k + 1], band, pose[:1])[0, 0]
        moved = some.product[0] * shift_phases(band, torch.from_numpy(pose[None, 1:].astype(np.float32))).numpy()[0]
        whole = (some.power[0] * np.abs(template) ** 2).sum() + prior
        scores.append(0.5 * (((moved * template.conj()).real.sum() + prior) ** 2 / whole - prior
                             - np.log(whole / prior)))
    return np.array(scores)


def test_moved_sums_move_the_average(begun):
    problem, model = begun
    before = centres_px(np.maximum(model.averages(problem.mask), 0))
    sums = moved_sums(model.grid, model.sums, np.tile([[2.0, -1.0]], (3, 1)))
    plain = model.grid.averages(model.sums.sum(0), model.signal, np.ones_like(problem.mask))
    moved = model.grid.averages(sums.sum(0), model.signal, np.ones_like(problem.mask))
    np.testing.assert_allclose(moved[:, 6:-6, 6:-6], np.roll(plain, (1, -2), (1, 2))[:, 6:-6, 6:-6],
                               atol=0.05 * np.abs(plain).max())
    assert before.shape == (3, 2)


def test_turned_copies_are_no_distance_apart():
    """The same picture as two classes, one turned by an angle between two points of the grid and moved."""
    problem = problem_of(make(40, snr=100.0, max_shift_px=0.0), n_classes=2)
    model = first_model(problem, np.random.default_rng(1))
    grid, mask = model.grid, problem.mask
    average = model.averages(mask)[0]
    def sums_of(image):
        planes = grid.transforms(image[None])[0]
        power = np.full(planes.shape[:2], 0.5e6, np.float32)
        return np.concatenate((planes * power[..., None], power[..., None]), -1)

    def distance_to(second):
        scale = np.abs(average).max()
        both = np.stack([sums_of((scale * image).astype(np.float32)) for image in (blobs(PICTURES[0], 32), second)])
        trial = type(model)(np.stack((both, both)), model.noise, np.full_like(model.signal, 1e9), 32, model.radius)
        return squared_distances(problem, trial, problem.search_radius)[0, 1] / squared_norm(problem, trial)

    assert distance_to(blobs(PICTURES[0], 32, 41.3)) < 0.01
    assert distance_to(blobs(PICTURES[1], 32)) > 0.1


def squared_norm(problem, model):
    """Of the first average, as ``squared_distances`` weighs it."""
    band = make_band(problem.box_px, problem.search_radius)
    planes = model.grid.transforms(model.averages(problem.mask))
    values = model.grid.turned(planes[:1], band, np.zeros(1))[0, 0]
    return float((mean_power(problem, model, problem.search_radius) * np.abs(values) ** 2).sum())


def test_the_weakest_class_becomes_a_copy_of_the_largest(begun):
    problem, model = begun
    new = with_copies(problem, model, np.array([0.9, 0.08, 0.02]), np.random.default_rng(0))
    np.testing.assert_array_equal(new.sums[:, 1], model.sums[:, 1])
    np.testing.assert_allclose(new.sums[:, 0], model.sums[:, 0] / 2)
    np.testing.assert_allclose(new.sums[:, 2, ..., 2], model.sums[:, 0, ..., 2] / 2)
    apart = new.sums[:, 2, ..., :2] - model.sums[:, 0, ..., :2] / 2
    assert np.abs(apart).max() > 0
    np.testing.assert_allclose(apart[0], apart[1], atol=1e-2 * np.abs(apart).max())  # both half sets drift alike
    even = with_copies(problem, model, np.full(3, 1 / 3), np.random.default_rng(0))
    np.testing.assert_array_equal(even.sums, model.sums)
