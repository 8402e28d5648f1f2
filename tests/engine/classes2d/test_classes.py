"""What classes find in images whose truth is known: turns, shifts, pictures, junk; on any number of threads."""
from dataclasses import replace

import numpy as np
import pytest
from flat_pictures import PICTURES, Quiet, blobs, make, problem_of
from vaegan_engine.classes2d.junk import judge
from vaegan_engine.classes2d.rounds import classify, half_frc, searched_again, without_small
from vaegan_engine.classes2d.start import first_model
from vaegan_engine.physics import shards
from vaegan_engine.stats.label_agreement import agreement


def classified(made, **changes):
    problem = problem_of(made, **changes)
    state = classify(problem, Quiet(), Quiet())
    return problem, state, judge(problem, state)


@pytest.fixture(scope="module")
def two_pictures():
    made = make(240, snr=0.1)
    return made, *classified(made)


def in_frame(made, rows, pose):
    """Turns (rad) of images in their class over the true ones, and where the picture's centre lies in the average."""
    apart = pose[rows, 0] - np.deg2rad(made.psi_deg[rows])
    moved = made.shift_px[rows] - pose[rows, 1:]  # of the picture from the average's centre, in the image
    c, s = np.cos(pose[rows, 0]), np.sin(pose[rows, 0])
    return apart, np.stack((c * moved[:, 0] - s * moved[:, 1], s * moved[:, 0] + c * moved[:, 1]), 1)


@pytest.mark.slow
def test_two_pictures_are_two_classes(two_pictures):
    made, _, state, judged = two_pictures
    assert state.model.n_classes == 2
    assert agreement(state.candidates.best, made.picture)["nmi"] > 0.9
    assert not any(judged.reason) and judged.image.mean() < 0.1


def test_turns_and_shifts_are_found(two_pictures):
    made, _, state, _ = two_pictures
    for k in range(state.model.n_classes):
        rows = np.flatnonzero(state.candidates.best == k)
        apart, centre = in_frame(made, rows, state.candidates.pose[:, 0])
        middle = np.angle(np.exp(1j * apart).mean())
        error_deg = np.rad2deg(np.angle(np.exp(1j * (apart - middle))))
        assert np.median(np.abs(error_deg)) < 4
        assert np.median(np.hypot(*(centre - np.median(centre, 0)).T)) < 0.6


def test_averages_are_the_pictures(two_pictures):
    made, problem, state, _ = two_pictures
    averages = state.model.averages(problem.mask)
    for k, average in enumerate(averages):
        rows = np.flatnonzero(state.candidates.best == k)
        apart, centre = in_frame(made, rows, state.candidates.pose[:, 0])
        psi = np.rad2deg(np.angle(np.exp(1j * apart).mean()))
        true = blobs(PICTURES[made.picture[rows[0]]], 32, -psi)
        true = np.roll(true, np.rint(np.median(centre, 0)).astype(int)[::-1], (0, 1)) * problem.mask
        assert np.corrcoef(average.ravel(), true.ravel())[0, 1] > 0.93


def test_images_of_a_class_that_was_too_small_are_searched_again(two_pictures):
    """Ten images whose one candidate is a class of their own: it is dissolved, and they were junk for that."""
    made, problem, state, _ = two_pictures
    few = np.flatnonzero(made.picture == made.picture[0])[:10]
    class_of, evidence = state.candidates.class_of.copy(), state.candidates.log_evidence.copy()
    class_of[few], evidence[few, 1:] = (2, *[-1] * (class_of.shape[1] - 1)), -np.inf
    split = replace(state, model=state.model.chosen([0, 1, state.candidates.best[few[0]]]),
                    candidates=replace(state.candidates, class_of=class_of, log_evidence=evidence))
    smaller = without_small(problem, split)
    assert smaller.model.n_classes == 2 and (smaller.candidates.best[few] < 0).all()
    again = searched_again(problem, smaller, Quiet())
    assert agreement(again.candidates.best, made.picture)["nmi"] > 0.9
    apart, _ = in_frame(made, few, again.candidates.pose[:, 0])
    assert np.rad2deg(np.abs(np.angle(np.exp(1j * (apart - np.angle(np.exp(1j * apart).mean())))))).max() < 15


def test_one_picture_is_one_class():
    _, state, judged = classified(make(160, pictures=PICTURES[:1], snr=0.1))
    assert state.model.n_classes == 1
    assert judged.reason == [""]


def test_pure_noise_is_junk():
    _, _, judged = classified(make(80, pictures=()), n_steps=4)
    assert all(judged.reason) and judged.image.all()


def test_phase_flipped_images():
    made = make(160, pictures=PICTURES[:1], snr=0.1, flipped=True)
    problem, state, _ = classified(made, n_classes=2)
    rows = np.flatnonzero(state.candidates.best == 0)
    apart, centre = in_frame(made, rows, state.candidates.pose[:, 0])
    true = blobs(PICTURES[0], 32, -np.rad2deg(np.angle(np.exp(1j * apart).mean())))
    true = np.roll(true, np.rint(np.median(centre, 0)).astype(int)[::-1], (0, 1)) * problem.mask
    assert np.corrcoef(state.model.averages(problem.mask)[0].ravel(), true.ravel())[0, 1] > 0.9


def test_same_bits_on_any_number_of_threads():
    made, found = make(80, snr=1.0), []
    try:
        for n_threads in (1, 3):
            shards.use_threads(n_threads)
            state = classify(problem_of(made, n_steps=2), Quiet(), Quiet())
            found.append((state.model.sums, state.candidates.pose, state.candidates.log_evidence))
    finally:
        shards.use_threads(1)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_noise_inside_a_mask_does_not_agree():
    """Half averages of a common coarse shape and noise of their own: nothing is claimed beyond the shape."""
    problem = problem_of(make(40))
    model = first_model(problem, np.random.default_rng(0)).chosen([0])
    grid, rng, sums = model.grid, np.random.default_rng(1), []
    shape = 30 * blobs([(0.0, 0.0, 0.22, 1.0)], 32)
    for _ in range(2):
        planes = grid.transforms((shape + rng.standard_normal((32, 32)))[None].astype(np.float32))
        sums.append(np.concatenate((planes, np.ones_like(planes[..., :1])), -1))
    frc = half_frc(problem, replace(model, sums=np.stack(sums)))[0]
    assert frc[1] > 0.9
    assert np.abs(frc[8:int(model.radius)]).mean() < 0.35
