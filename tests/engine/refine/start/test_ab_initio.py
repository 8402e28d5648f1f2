"""Where refine begins: the particle's size, resolutions that fit it, and the best of several starts."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import FEW_ROTATIONS, PIXEL_SIZE_ANG, blobs, problem_of, recorder_of, simulated
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import ComputeConfig, StatesRun
from vaegan_engine.physics.fsc import soft_sphere_mask
from vaegan_engine.physics.map_resize import resized_maps
from vaegan_engine.reconstruction.images import Images, low_passed
from vaegan_engine.refine.problem import Recorder
from vaegan_engine.refine.start import ab_initio, resolutions
from vaegan_engine.refine.start.ab_initio import BestStart, CoarseMaps
from vaegan_engine.refine.start.starting_maps import starting_mixture
from vaegan_engine.refine.tuning import TUNING
from vaegan_engine.runtime.journal import Journal
from vaegan_engine.runtime.step_store import Checkpoints

CPU = torch.device("cpu")
WITHOUT_CTF = np.array([0, 0, 0, 300, 0, 1, 0], np.float32)  # amplitude contrast alone: -1 everywhere
RUN = StatesRun(n_maps=1, n_starts=3, start_steps=8, search_steps=2, batch_size=60, start_shells=4.0,
                search_shells=5.0, state_shells=6.0, compute=ComputeConfig(device="cpu", threads=1, seed=0))


def balls(box_px: int, radius_frac: float, noise: float, n: int = 300, level: float = 1.0) -> Images:
    """Projections of a ball with noise (standard deviations of the ball's image), without CTF."""
    x = np.arange(box_px) - box_px // 2
    r2 = x[:, None] ** 2 + x[None] ** 2
    image = level * 2 * np.sqrt(np.maximum((radius_frac * box_px) ** 2 - r2, 0))
    rng = np.random.default_rng(0)
    images = image + noise * max(image.std(), 1e-3) * rng.standard_normal((n, box_px, box_px))
    return Images(images.astype(np.float32), np.zeros((n, 7), np.float32), PIXEL_SIZE_ANG, CPU)


@pytest.mark.parametrize("box_px", [32, 33, 64])
@pytest.mark.parametrize("radius_frac", [0.2, 0.25, 0.32])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_radius_of_a_ball(box_px, radius_frac, noise):
    assert resolutions.particle_radius_frac(balls(box_px, radius_frac, noise)) == pytest.approx(radius_frac, rel=0.15)


@pytest.mark.parametrize("seed", range(6))
def test_noise_alone_gets_the_usual_shells(seed):
    images = np.random.default_rng(seed).standard_normal((400, 32, 32)).astype(np.float32)
    run = resolutions.with_shells(StatesRun(), Images(images, np.zeros((400, 7), np.float32), PIXEL_SIZE_ANG, CPU))
    usual = TUNING.shells.start, TUNING.shells.search, TUNING.shells.states
    assert (run.start_shells, run.search_shells, run.state_shells) == usual


def test_a_smaller_particle_gets_more_shells():
    of = [resolutions.with_shells(StatesRun(), balls(64, radius_frac, 1.0)) for radius_frac in (0.4, 0.25, 0.05)]
    assert (of[0].start_shells, of[0].search_shells, of[0].state_shells) == (10.0, 10.0, 12.0)
    assert 11.5 < of[1].start_shells < 15.0 and of[1].state_shells == pytest.approx(1.2 * of[1].start_shells)
    assert of[2].start_shells == 20.0  # no more than twice as many


def test_shells_that_are_given_stay():
    data = balls(32, 0.2, 1.0)
    assert resolutions.with_shells(replace(RUN, start_shells=3.0), data).start_shells == 3.0
    assert resolutions.with_shells(replace(RUN, search_shells=0.0, state_shells=0.0), data).search_shells > 6.0
    with pytest.raises(ConfigError, match="do not rise"):
        resolutions.with_shells(replace(RUN, start_shells=12.0, state_shells=0.0), balls(32, 0.45, 0.0))


@pytest.mark.parametrize(("given", "all_three"), [
    ({"state_shells": 8.0}, (8.0, 8.0, 8.0)), ({"search_shells": 6.0}, (6.0, 6.0, 12.0)),
    ({"search_shells": 15.0}, (10.0, 15.0, 15.0)), ({"start_shells": 13.0}, (13.0, 13.0, 13.0))])
def test_shells_that_are_left_rise_about_those_that_are_given(given, all_three):
    run = resolutions.with_shells(replace(StatesRun(), **given), balls(48, 0.45, 0.0))
    assert (run.start_shells, run.search_shells, run.state_shells) == all_three


def shells(box_px: int, n: int = 400, noise: float = 0.3, arms: bool = True) -> Images:
    """Hollow balls, alike from all sides, with detail on them that is fine and differs from image to image."""
    rng, axis = np.random.default_rng(0), np.arange(box_px) - box_px // 2
    r = np.hypot(axis[:, None], axis)
    k = np.hypot(np.fft.fftfreq(box_px, 1 / box_px)[:, None], np.fft.rfftfreq(box_px, 1 / box_px))
    fine = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, box_px, box_px))) * ((k > 8) & (k < 17)),
                         s=(box_px, box_px))
    images = 4 * np.exp(-np.square((r - 0.25 * box_px) / 4.5)) + noise * rng.standard_normal((n, box_px, box_px))
    images += float(arms) * fine * (r < 0.3 * box_px)
    return Images(images.astype(np.float32), np.tile(WITHOUT_CTF, (n, 1)), PIXEL_SIZE_ANG, CPU)


def test_a_hollow_shell_gets_shells_where_it_has_an_orientation():
    """Its coarse shells are a ball's: at 10 shells its images are alike from all sides."""
    data = shells(64)
    last = resolutions.ball_shells(data)
    assert 6 <= last <= 9
    run = resolutions.with_shells(StatesRun(), data)
    assert run.start_shells == pytest.approx(1.75 * last)
    assert run.search_shells == run.state_shells == pytest.approx(2.25 * last)
    tuning = resolutions.with_grids(TUNING, run, data)
    assert tuning.start.n_rotations == pytest.approx(2304 * (run.start_shells / 10) ** 3, rel=1e-3)
    assert tuning.start.search_n_rotations == pytest.approx(2304 * (run.search_shells / 10) ** 3, rel=1e-3)
    assert tuning.search.finer_shifts == 2
    assert f"{64 * PIXEL_SIZE_ANG / last:.0f} A" in resolutions.hollow_text(data)
    share = resolutions.ball_share(data)
    assert share[4] > 0.9 and share[12] < 0.01 and np.isnan(share[28])


@pytest.mark.parametrize("box_px", [48, 49])
def test_a_ball_without_detail_keeps_its_shells(box_px):
    assert resolutions.ball_shells(balls(box_px, 0.3, 1.0)) == 0
    assert resolutions.ball_shells(shells(box_px, arms=False)) == 0


def test_a_solid_particle_keeps_its_shells():
    data, *_ = simulated([blobs(5, 32)], 300, 0.3)
    assert 1.75 * resolutions.ball_shells(data) < 10
    run = resolutions.with_shells(StatesRun(), data)
    assert run.search_shells == run.start_shells
    assert resolutions.with_grids(TUNING, run, data).search.finer_shifts == 1


@pytest.mark.parametrize(("given", "start", "search"), [
    ({}, 2304, 4608), ({"start_shells": 8.0}, 2304, 4608), ({"search_shells": 12.0}, 2304, 7963),
    ({"start_shells": 15.0}, 7776, 15552), ({"start_shells": 24.0}, 20_000, 20_000)])
def test_finer_shells_than_the_particle_s_size_gives_have_finer_grids(given, start, search):
    """1.5 times the shells, 3.375 times the rotations; coarser shells keep the grid."""
    data = balls(64, 0.4, 0.0)
    run = resolutions.with_shells(replace(StatesRun(), **given), data)
    tuning = resolutions.with_grids(TUNING, run, data)
    assert (tuning.start.n_rotations, tuning.search.n_rotations) == (start, search)


def begin(run, data, maps, tmp_path) -> CoarseMaps:
    return ab_initio.ab_initio(problem_of(data, run=run, tuning=FEW_ROTATIONS), maps, recorder_of(tmp_path))


def test_the_start_that_explains_unseen_images_is_kept(tmp_path, monkeypatch):
    """Three starts of one step from random maps, the second from the true one: it is chosen, and kept to the end."""
    true = blobs(3)
    data, *_ = simulated([true], 120, noise=0.5)
    kept, advance, begin_one = [], ab_initio.advance, ab_initio.Trial.begin

    def noted(trial, start, stage, part, recorder):
        if part == "the best goes on, part 1":
            kept.append(start.model.maps.clone())
        return advance(trial, start, stage, part, recorder)

    def second_is_true(trial, number):
        start = begin_one(trial, number)
        if number == 1:
            start.model.maps = starting_mixture(trial.problem, true[None], 1, start.rng).maps
        return start

    monkeypatch.setattr(ab_initio, "advance", noted)
    monkeypatch.setattr(ab_initio.Trial, "begin", second_is_true)
    coarse = begin(replace(RUN, start_steps=1), data, None, tmp_path)
    unseen, (row,) = coarse.unseen, coarse.starts  # of one map there is nothing else to try
    tried = row.coarse_log_evidence
    assert len(tried) == 3 and tried[1] == max(tried) and tried[1] - max(tried[::2]) > 1, tried
    assert row.kept and row.log_evidence == unseen
    there = resized_maps(kept[0][0], true.shape[-1])  # the start works in the box of its band
    correlation = np.corrcoef(there.numpy().ravel(), true.numpy().ravel())[0, 1]
    assert correlation > 0.8
    notes = [line for line in result_files.read_jsonl(tmp_path / result_files.LOG_JSONL) if line["stage"] == "held out"]
    last_of = {line["part"]: line["log_evidence"] for line in notes}
    assert [last_of[part] for part in ("start 1, part 1", "start 2, part 1", "start 3")] == tried
    assert notes[-1]["log_evidence"] == unseen


def test_starts_differ_and_repeat(tmp_path):
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    run = replace(RUN, n_maps=2)
    first, again = (begin(run, data, None, tmp_path / name) for name in ("a", "b"))
    assert first.starts == again.starts and torch.equal(first.maps, again.maps)
    assert [row.kind for row in first.starts] == ["alone", "grown", "beside"]
    assert len(set(first.starts[0].coarse_log_evidence)) == 3


@pytest.mark.parametrize("agree", [True, False])
def test_starts_that_agree_early_end_the_trials(tmp_path, monkeypatch, agree):
    """Two starts of two thirds of the steps, and as large a part of what follows; or all starts with all steps."""
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    taken, run_stage = {}, ab_initio.run_stage
    looks: list[int] = []
    monkeypatch.setattr(ab_initio.Trial, "agree", lambda *_: looks.append(0) or (agree and len(looks) == 2))

    def noted(images, model, stage, *args, **more):
        taken.setdefault(model.n_maps, []).append(stage.steps)
        return run_stage(images, model, stage, *args, **more)

    monkeypatch.setattr(ab_initio, "run_stage", noted)
    monkeypatch.setattr(ab_initio.GoingOn, "is_enough", lambda *_: False)
    coarse = begin(replace(RUN, n_maps=2, start_steps=9, search_steps=6), data, None, tmp_path)
    assert taken == ({1: [3, 3, 3, 3, 1, 2, 1], 2: [2] * 6} if agree else {1: [3] * 6 + [9, 2, 2, 2], 2: [3] * 6})
    assert len(coarse.starts[0].coarse_log_evidence) == (2 if agree else 3)


@pytest.mark.slow
@pytest.mark.parametrize("agree_after", [1, 2, 3, 9])
def test_a_stop_at_any_checkpoint_changes_nothing(tmp_path, monkeypatch, agree_after):
    """Starts that agree once both have so many steps of six; stopped each time that something has been stored."""
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    run = replace(RUN, n_maps=1, start_steps=6, search_steps=6, batch_size=10)
    problem, write = problem_of(data, run=run, tuning=replace(FEW_ROTATIONS, checkpoint_seconds=0.0)), Checkpoints.write

    def agree(trial, *starts):  # 72 images take part, so no start has begun them anew
        return min(start.batches.state()["next"] for start in starts) >= 10 * 2 * agree_after

    monkeypatch.setattr(ab_initio.Trial, "agree", agree)
    whole = ab_initio.ab_initio(problem, None, recorder_of(tmp_path / "whole"))
    written: list[str] = []

    def and_stop(self, name, value):
        write(self, name, value)
        written.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "write", and_stop)
    folder, parts = tmp_path / "parts", None
    while parts is None:
        assert len(written) < 100
        steps = Checkpoints(folder, {}, CPU, bool(written))
        try:
            parts = ab_initio.ab_initio(problem, None, Recorder(Journal(folder, bool(written)), steps))
        except KeyboardInterrupt:
            continue
    assert set(written) == {ab_initio.UNDER_WAY, ab_initio.TRIED, ab_initio.PARTS, "ab_initio_alone"}
    assert parts.starts == whole.starts and torch.equal(parts.maps, whole.maps)


@pytest.mark.parametrize(("means", "rival", "taken"), [
    ([10, 20, 30], [], 3), ([10, 10.05, 30], [], 2), ([10, 9, 30], [], 2),
    ([10, 20, 30], [11, 20, 30], 1), ([10, 20, 30], [10, 25], 2), ([10, 20, 30], [9, 19, 99], 3)])
def test_what_goes_on_ends_where_another_part_is_not_worth_it(tmp_path, monkeypatch, means, rival, taken):
    """Unseen images that gain less than 1 % by a part, or that another start explains better after the same part."""
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    trial = ab_initio.trial_of(problem_of(data, run=RUN, tuning=FEW_ROTATIONS))
    around = torch.linspace(-0.1, 0.1, 100)
    parts = []

    def advance(trial, start, stage, part, recorder):
        start.each = means[len(parts)] + around
        parts.append(part)
        return start

    monkeypatch.setattr(ab_initio, "advance", advance)
    going = ab_initio.GoingOn("copies", rival=[mean + around.flip(0) for mean in rival])
    _, each = ab_initio.advance_in_parts(trial, trial.begin(0), trial.stages()[0], going, recorder_of(tmp_path))
    assert parts == [f"copies, part {k + 1}" for k in range(taken)] and len(each) == taken


def test_what_is_compared_lies_where_the_looks_leave_it(tmp_path, monkeypatch):
    """What checkpoints give back lies on the device of the maps, here one that is none; looks are on the CPU."""
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    problem = problem_of(data, run=replace(RUN, n_maps=2), tuning=FEW_ROTATIONS)
    elsewhere, rivals = torch.device("meta"), []

    def go_on(trial, start, going, recorder):
        rivals.append(going.rival)
        parts = [torch.ones(9, device=elsewhere)]
        return BestStart(going.name, torch.ones(2, 24, 24, 24), torch.ones(13), torch.ones(9), [], 1.0, parts)

    monkeypatch.setattr(ab_initio, "go_on", go_on)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: torch.zeros(self.shape))
    ab_initio.ab_initio(problem, None, recorder_of(tmp_path))
    assert rivals[0] == [] and [part.device.type for part in rivals[1]] == ["cpu"]


def test_images_of_several_rows_are_seen_or_held_out_as_one():
    """A copy of an image that is held out shows its noise: noise alone would be explained."""
    images = Images(np.zeros((600, 16, 16), np.float32), np.zeros((600, 8), np.float32), 5.0, torch.device("cpu"))
    plain, twice, often = (replace(problem_of(images), twin_id=twin_id) for twin_id in (
        None, np.arange(600) % 300, np.arange(600) % 20))
    trial = ab_initio.trial_of(plain)
    np.testing.assert_array_equal(trial.seen, np.setdiff1d(np.arange(600), trial.held))
    assert len(trial.held) == 60
    for problem, n_held, n_seen in ((twice, 30, 540), (often, 2, 540)):
        trial = ab_initio.trial_of(problem)
        assert len(trial.held) == n_held and len(trial.seen) == n_seen
        assert not np.isin(problem.twin_id[trial.seen], problem.twin_id[trial.held]).any()
    part = twice.part(np.arange(250, 350))
    np.testing.assert_array_equal(part.first_of_same, np.arange(100))
    np.testing.assert_array_equal(twice.part(np.array([5, 305, 7])).first_of_same, [0, 0, 2])


@pytest.mark.parametrize(("n", "batch"), [(100, 48), (400, 100), (5000, 128)])
def test_few_images_make_smaller_batches(n, batch):
    images = Images(np.zeros((n, 24, 24), np.float32), np.zeros((n, 7), np.float32), PIXEL_SIZE_ANG, CPU)
    trial = ab_initio.trial_of(problem_of(images, run=replace(RUN, batch_size=128)))
    assert [stage.batch for stage in trial.stages()] == [batch, 2 * batch]


@pytest.mark.parametrize(("n", "n_parts", "parts"), [
    (120, 3, [40, 40, 40]), (8, 3, [3, 2, 3]), (1, 3, [1]), (2, 3, [1, 1])])
def test_steps_are_split_whole(n, n_parts, parts):
    assert ab_initio.split_steps(n, n_parts) == parts and sum(parts) == n


@pytest.mark.slow
def test_two_right_starts_agree_and_wrong_ones_do_not(tmp_path):
    """Unseen images at the true poses in two frames and hands agree; at those of blobs after one step they do not."""
    data, *_ = simulated([blobs(3)], 300, noise=0.3)
    tuning = replace(FEW_ROTATIONS, start=replace(FEW_ROTATIONS.start, n_rotations=1152, search_n_rotations=1152))
    trial = ab_initio.trial_of(problem_of(data, run=replace(RUN, start_shells=6.0), tuning=tuning))
    stage = replace(trial.stages()[0], steps=1)
    blind = [ab_initio.advance(trial, trial.begin(k), stage, str(k), recorder_of(tmp_path / str(k))) for k in (0, 1)]
    assert not trial.agree(*blind)
    scale = 1 / simulated([blobs(3)], 300, noise=0.0)[0].images.std()
    right = [trial.begin(k) for k in (0, 1)]
    for start, map_ in zip(right, (blobs(3), blobs(3).flip(0).roll(1, 0)), strict=True):  # the other hand
        start.model.maps = low_passed(float(scale) * map_[None], 6.0)
        start.model.noise = 0.1 * start.model.noise
        start.each, start.rotations, start.shifts_px = trial.look(start.model, stage)
    assert trial.agree(*right)


def test_more_starts_are_never_worse_before_they_go_on(tmp_path):
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    one = begin(replace(RUN, n_starts=1), data, None, tmp_path / "one").starts[0].coarse_log_evidence
    three = begin(RUN, data, None, tmp_path / "three").starts[0].coarse_log_evidence
    assert three[0] == one[0]
    assert max(three) >= one[0]


@pytest.mark.parametrize(("gain", "kept"), [(-1.0, "grown"), (0.5, "grown"), (1.5, "beside")])
def test_other_maps_are_kept_where_they_are_plainly_better_than_copies(tmp_path, monkeypatch, gain, kept):
    """100 images whose gain has a standard deviation of 3: its mean has an error of 0.3."""
    data, *_ = simulated([blobs(3)], 80, noise=0.5)
    made = {}

    def go_on(trial, start, going, recorder):
        kind = going.name
        scatter = torch.linspace(-1, 1, 100) * 3 * 3 ** 0.5
        each = 20 + 50 * torch.linspace(-1, 1, 100).square() + (gain + scatter if kind == "beside" else 0)
        made[kind] = BestStart(kind, torch.randn(2, 24, 24, 24), torch.ones(13), each, [])
        return made[kind]

    monkeypatch.setattr(ab_initio, "go_on", go_on)
    coarse = begin(replace(RUN, n_maps=2), data, None, tmp_path)
    assert [row.kept for row in coarse.starts] == [kind == kept for kind in ("alone", "grown", "beside")]
    assert coarse.unseen == made[kept].unseen and torch.equal(coarse.maps, made[kept].maps)
    assert coarse.one_frame == (kept == "grown")


def test_maps_of_clusters_are_tried_filled_up_with_random_ones(tmp_path):
    true = blobs(3)
    data, *_ = simulated([true], 80, noise=0.5)
    coarse = begin(replace(RUN, n_maps=2, n_starts=1), data, true[None], tmp_path)
    assert [row.kind for row in coarse.starts] == ["alone", "grown", "beside", "clusters"]


@pytest.mark.parametrize("box_px", [20, 21])
def test_grown_maps_are_copies_with_noise_of_their_own(box_px):
    """Noise inside mask and band, of 0.3 of the map's norm, unlike between copies."""
    mask = torch.from_numpy(soft_sphere_mask(box_px, 0.3 * box_px, 2.0))
    map_ = low_passed(blobs(3, box_px)[None], 5.0) * mask
    images = Images(np.zeros((9, box_px, box_px), np.float32), np.zeros((9, 7), np.float32), PIXEL_SIZE_ANG, CPU)
    problem = problem_of(images, 1, replace(RUN, n_maps=3, search_shells=5.0), mask=mask)
    made = ab_initio.grown(map_[0], problem, torch.Generator().manual_seed(1))
    added = (made - map_).flatten(1).double()
    assert len(made) == 3
    norms = added.norm(dim=1) / map_.double().norm()
    assert torch.allclose(norms, torch.full_like(norms, 0.3), atol=1e-4)
    unlike = torch.corrcoef(added) - torch.eye(3)
    assert unlike.abs().max() < 0.35  # some 500 Fourier coefficients in the band, fewer in the mask
    assert made[:, mask == 0].abs().max() == 0
    power = torch.fft.fftn(made - map_, dim=(1, 2, 3)).abs().square()
    k = torch.fft.fftfreq(box_px, 1 / box_px)
    radius = (k[:, None, None].square() + k[:, None].square() + k.square()).sqrt()
    assert power[:, radius > 8].sum() < 0.05 * power.sum()  # white noise has more than half of it there


def test_copies_of_one_map_become_the_states(tmp_path):
    """Two states with a common part: the grown maps explain unseen images better than their one map does."""
    common, extra = blobs(7), blobs(8, n=8).roll(6, 2)
    data, *_ = simulated([common, common + 1.5 * extra], 150, noise=0.5)
    run = replace(RUN, n_maps=2, n_starts=1, start_steps=30, search_steps=15)
    begin(run, data, None, tmp_path)
    unseen = {line["part"].partition(", part")[0]: line["log_evidence"]
              for line in result_files.read_jsonl(tmp_path / result_files.LOG_JSONL) if line["stage"] == "held out"}
    assert unseen["grown"] > unseen["the best goes on"] + 3


@pytest.mark.parametrize("shells", [10.0, 12.0, 14.0, 20.0, 30.0])
def test_the_second_search_is_never_coarser_than_the_first(shells):
    data = balls(64, 0.4, 0.0)
    run = resolutions.with_shells(replace(StatesRun(), search_shells=shells, state_shells=31.0), data)
    tuning = resolutions.with_grids(TUNING, run, data).search
    assert tuning.second_n_rotations >= min(2 * tuning.n_rotations - 1, resolutions.MOST_ROTATIONS)  # rounded
