"""The null of structure on unseen images: a particle beats balls; noise, a ball, and a ball off centre do not."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_records import junk_numbers, proof, state_row
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.map_alignment import move_map
from vaegan_engine.reconstruction.images import image_power
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.pose_search import Batches, Course, Stage, run_stage
from vaegan_engine.refine.rounds.evidence import Evidence, Kind, verdict
from vaegan_engine.refine.start.ball_null import BallNull, ball_null, centre_px, centred
from vaegan_engine.refine.start.starting_maps import scale_to_images

BOX_PX, STAGE = 24, Stage(5.0, 400, 0, 0, 1.0)
BALL = soft_sphere_mask(BOX_PX, 5.0, 4.0)


def null_of(particle: np.ndarray, map_: np.ndarray, noise: float, n: int = 80, stage: Stage = STAGE) -> BallNull:
    """The null of a map by images of a particle."""
    data, _, _, _ = simulated([torch.from_numpy(particle)], n, noise)
    problem = problem_of(data)
    power = image_power(data)
    map_ = scale_to_images(torch.from_numpy(map_)[None], data, power, stage.radius)
    model = MapMixture(map_, power, problem.constraint)
    return ball_null(problem, model, np.arange(n), stage)


def test_a_particle_beats_balls():
    found = null_of(*[blobs(0).numpy()] * 2, noise=2.0)
    assert found.is_beaten and found.gain > 5 * found.gain_error


def test_a_ball_and_its_map_with_noise_do_not():
    rng = np.random.default_rng(0)
    noisy = BALL + 0.02 * rng.standard_normal(BALL.shape).astype(np.float32)
    found = null_of(BALL, noisy.astype(np.float32), noise=1.0)
    assert not found.is_beaten and found.by_balls > 10


def test_a_ball_off_centre_is_no_structure():
    off = move_map(BALL, np.eye(3), np.array([1.3, -0.8, 0.6]))
    assert not null_of(BALL, off, noise=1.0).is_beaten


def test_a_map_on_noise_alone_does_not():
    data, _, _, _ = simulated([blobs(0)], 60, 1.0)
    images = np.random.default_rng(1).standard_normal(data.images.shape).astype(np.float32)
    problem = problem_of(replace(data, images=images))
    noise = torch.full((BOX_PX // 2 + 1,), 0.5 * BOX_PX ** 2)  # half of what it is: any map is better than none
    found = ball_null(problem, MapMixture(5 * blobs(0)[None], noise, problem.constraint), np.arange(60), STAGE)
    assert not found.is_beaten


def hollow_shell() -> np.ndarray:
    """A shell that a ball explains but for a texture in its fine shells."""
    shell = soft_sphere_mask(BOX_PX, 7.0, 2.0) - soft_sphere_mask(BOX_PX, 4.0, 2.0)
    k = np.fft.fftfreq(BOX_PX, 1 / BOX_PX)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k ** 2)
    noise = np.random.default_rng(0).standard_normal(shell.shape)
    texture = np.fft.ifftn(np.fft.fftn(noise) * ((radius > 4) & (radius < 7))).real
    return (shell * (1 + 0.3 * texture / texture.std())).astype(np.float32)


def test_strong_images_of_a_hollow_shell_beat_balls_at_the_shifts_that_balls_find():
    """Coarse shifts cost the maps more than the shell's structure gains: at the same fine ones it is seen."""
    found = null_of(*[hollow_shell()] * 2, noise=0.3, n=60, stage=Stage(7.0, 1500, 0, 0, 2.0))
    assert found.is_beaten and found.near_balls and found.gain > 5 * found.gain_error
    assert "at the shifts that balls find" in found.text()


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_a_map_of_a_ball_that_is_not_at_its_end_is_no_structure(noise):
    """The average of such a map explains far less than a ball does: the null is the ball that fits best."""
    data, _, _, _ = simulated([torch.from_numpy(BALL)], 200, noise)
    problem, power, rng = problem_of(data), image_power(data), torch.Generator().manual_seed(0)
    stage = Stage(7.0, 600, 60, 48, 2.0)
    start = torch.from_numpy(BALL)[None] + 0.02 * torch.randn(1, *BALL.shape, generator=rng) * problem.mask
    model = MapMixture(scale_to_images(start, data, power, stage.radius), power, problem.constraint)
    run_stage(data, model, stage, Course(Batches(np.arange(150), 0), rng))
    found = ball_null(problem, model, np.arange(150, 200), replace(stage, n_rotations=1500))
    assert not found.is_beaten and found.gain < 0


@pytest.mark.parametrize("box_px", [23, 24])
def test_the_centre_of_a_ball_is_found_and_moved_to_the_middle(box_px):
    ball = soft_sphere_mask(box_px, 5.0, 3.0)
    shift = np.array([2.0, -1.0, 3.0])
    off = torch.from_numpy(move_map(ball, np.eye(3), shift))
    np.testing.assert_allclose(centre_px(off).numpy(), shift, atol=0.15)
    middle = centred(off).numpy()
    assert np.corrcoef(middle.ravel(), ball.ravel())[0, 1] > 0.998


def ball(gain: float, error: float, orientation: float) -> BallNull:
    return BallNull(gain, error, 20.0, orientation, 100, 3.0, 0.01)


def test_verdicts_are_the_most_fundamental_that_holds():
    """Closed cases: every kind, with its numbers in the sentence."""
    still = state_row(0, 100, 1.0)
    lost = state_row(0, 100, 1.0, proven=proof(proven_0143=False, shared_ang=30.0))
    moving = state_row(0, 100, 1.0, motion_files=["a.mrc"])
    sharp, vague, blob = ball(5.0, 0.1, 6.0), ball(0.5, 0.1, 1.0), ball(0.2, 0.1, 6.0)
    most = junk_numbers(200, 0.6)
    cases = [
        ([still], Evidence(1.0, 3.0), Kind.NO_STRUCTURE, "1.0 per image, at least 3"),
        ([still], Evidence(20.0, 3.0, ball=blob), Kind.BLOB, "0.20 +- 0.10 per image of 100"),
        ([still], Evidence(90.0, 3.0, ball=replace(sharp, gain=0.5, by_balls=80.0)), Kind.BLOB, "1 % of the 80.0"),
        ([lost, lost], Evidence(20.0, 3.0, ball=vague), Kind.POSES, "than the 30 A that they share"),
        ([lost, still], Evidence(20.0, 3.0, ball=vague), Kind.STATES, "2 states"),
        ([lost], Evidence(20.0, 3.0, ball=sharp), Kind.STATES, "one state"),
        ([still], Evidence(20.0, 3.0, ball=sharp, junk=most), Kind.JUNK, "mostly junk: one state; 200 images"),
        ([moving, still], Evidence(20.0, 3.0, ball=sharp), Kind.VARIES, "2 states, 1 of which varies"),
    ]
    for rows, evidence, kind, words in cases:
        found = verdict(rows, evidence)
        assert found.kind is kind and words in found.text, found
    assert [kind for kind in Kind if not kind.has_states] == [Kind.NO_STRUCTURE, Kind.BLOB, Kind.POSES]
