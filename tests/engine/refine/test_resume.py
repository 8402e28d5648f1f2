"""A refinement stopped after every checkpoint ends in the same bits; other settings and broken files are refused."""
from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_records import states_summary
from refine_particles import FEW_ROTATIONS, PIXEL_SIZE_ANG, blobs
from vaegan_engine.cli import main
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import EXIT_SIGTERM, ConfigError, DataError, StoppedError
from vaegan_engine.contract.record import read_record, write_record
from vaegan_engine.contract.records import StatesSummary
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, StatesRun, TrainRun
from vaegan_engine.contract.status import read_status, update_status
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.physics.map_alignment import AlignedMap
from vaegan_engine.refine import refine
from vaegan_engine.refine.detail import common_frame
from vaegan_engine.refine.inputs import open_images, with_data
from vaegan_engine.refine.problem import GivenPoses
from vaegan_engine.refine.resume import settings_of
from vaegan_engine.refine.rounds import contrast, join_states
from vaegan_engine.refine.start import ab_initio
from vaegan_engine.refine.states import Assignment, State
from vaegan_engine.refine.tuning import JoinTuning
from vaegan_engine.runtime import step_store
from vaegan_engine.runtime.step_store import Checkpoints
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
COMPUTE = ComputeConfig(device="cpu", threads=1, seed=0)
STEPS = ["ab_initio_under_way", "ab_initio_tried", "ab_initio_parts", "ab_initio_alone", "ab_initio_grown",
         "ab_initio_beside", "ab_initio", "first_states", "contrast_first", "mask_0", "divide_0", "search_0",
         "settle_0", "contrast_0", "mask_1", "divide_1", "settle_1", "contrast_1", "frame"]
STEPS_OF_CONTRAST = ["ab_initio_contrast", "contrast_states", "contrast_again"]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """(settings, data folder): two states of 110 images; few rotations, so that it takes seconds."""
    folder = tmp_path_factory.mktemp("small")
    common, extra = blobs(7, 16).numpy(), np.roll(blobs(8, 16, n=8).numpy(), 4, 2)
    for name, array in (("small", common), ("large", common + 1.5 * extra)):
        write_map(folder / f"{name}.mrc", array, PIXEL_SIZE_ANG)
    run_simulate(SimulateOptions(maps=(str(folder / "small.mrc"), str(folder / "large.mrc")), per_map=110, box_px=16,
                                 snr=2.0, seed=1, device="cpu"), folder / "data")
    train = TrainRun(data=DataConfig(particles=str(folder / "data" / "particles.star"), box_px=16), compute=COMPUTE)
    run_json.write_run(train, folder / "train" / result_files.RUN_JSON)
    return StatesRun(run_dir=str(folder / "train"), n_maps=2, n_starts=2, start_steps=4, search_steps=3,
                     batch_size=60, start_shells=3.0, search_shells=4.0, state_shells=5.0,
                     compute=COMPUTE), folder


# Few rotations and steps, whose maps are no better than balls: structure is taken for granted, both rounds are taken,
# and no maps are aligned to be joined: that takes seconds.
SMALL = replace(FEW_ROTATIONS, start=replace(FEW_ROTATIONS.start, min_log_evidence=-1e6, min_ball_errors=-1e6,
                                             min_ball_frac=-1e6),
                join=JoinTuning(sure_agreement=-1.0, sure_valley=1e6), checkpoint_seconds=0.0)


def run_states(run, out_dir, resume=False, tuning=SMALL):
    return refine.run_states(run, out_dir, resume, tuning)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(common_frame, "align_map", lambda moving, *_: AlignedMap(
        moving, np.eye(3), np.zeros(3), np.zeros(3), False, 1.0))
    monkeypatch.setattr(join_states, "is_separate", lambda *_: True)  # both states stay


def stop_after(monkeypatch, written: list[str]) -> None:
    """SIGTERM as soon as a checkpoint that is not in ``written`` has been stored."""
    write = Checkpoints.write

    def and_stop(self, name, value):
        write(self, name, value)
        if name not in written:
            written.append(name)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "write", and_stop)


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "steps"), [(0.0, STEPS), (0.2, STEPS + STEPS_OF_CONTRAST)])
def test_stopped_after_every_step_it_ends_in_the_same_bits(small_run, tmp_path, monkeypatch, spread, steps):
    run, _ = small_run
    shrink = contrast.shrink  # the set is too small for what it says of its spread to be used
    monkeypatch.setattr(contrast, "shrink", lambda *args: (shrink(*args)[0], spread))
    whole = run_states(run, tmp_path / "whole")
    written: list[str] = []
    with monkeypatch.context() as patch:
        stop_after(patch, written)
        parts, ends = None, []
        while parts is None:
            try:
                parts = run_states(run, tmp_path / "parts", resume=bool(ends))
            except StoppedError as error:  # each time after one more checkpoint
                ends.append(
                    (error.exit_code, read_status(tmp_path / "parts").state)
                )
    assert set(STEPS_OF_CONTRAST) & set(written) == set(STEPS_OF_CONTRAST) & set(steps)
    assert ends == [(EXIT_SIGTERM, "stopped")] * len(written)
    assert {*steps, *(f"detail_{c:02d}" for c in range(parts.states))} <= set(written)
    assert parts == whole
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")
                   if path.suffix in (".csv", ".star", ".mrc", ".json")
                   and path.name not in (result_files.RUN_JSON, result_files.COSTS_JSON))
    assert len(files) > 8
    for file in files:
        one, other = ([line for line in (tmp_path / folder / file).read_bytes().splitlines()
                       if not line.startswith(b"# Created by")] for folder in ("whole", "parts"))
        assert one == other, file
    assert not list((tmp_path / "parts" / result_files.CHECKPOINTS).glob("*.npz"))
    log = result_files.read_jsonl(tmp_path / "parts" / result_files.LOG_JSONL)
    assert [line["seconds"] for line in log] == sorted(line["seconds"] for line in log)


@pytest.mark.slow
def test_particles_alone_give_what_a_training_with_their_settings_gives(small_run, tmp_path):
    """Bit by bit; and the images are prepared once, in the results' own folder."""
    run, folder = small_run
    star = str(folder / "data" / "particles.star")
    alone = replace(run, run_dir="", data=DataConfig(particles=star, box_px=16))
    assert run_states(run, tmp_path / "training") == run_states(alone, tmp_path / "alone")
    names = [path.relative_to(tmp_path / "training") for path in sorted((tmp_path / "training").rglob("*"))
             if path.suffix in (".csv", ".mrc")]
    assert len(names) > 5
    for name in names:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "training" / name).read_bytes(), name
    assert (tmp_path / "alone" / result_files.CACHE / "images.npy").exists()
    assert not (tmp_path / "training" / result_files.CACHE).exists()
    again = run_states(alone, tmp_path / "alone", resume=True)
    assert again == read_record(StatesSummary, tmp_path / "alone" / result_files.STATES_JSON, "states")


def test_what_is_done_is_not_done_again(small_run, tmp_path, monkeypatch):
    run, _ = small_run
    with monkeypatch.context() as patch:
        stop_after(patch, [name for name in STEPS if name.startswith("ab_initio")])
        with pytest.raises(StoppedError):
            run_states(run, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(refine, "ab_initio", lambda *args: pytest.fail("the start was made again"))
        stop_after(patch, ["first_states"])
        with pytest.raises(StoppedError):
            run_states(run, tmp_path, resume=True)
        with pytest.raises(pytest.fail.Exception, match="made again"):  # without resume it begins anew
            run_states(run, tmp_path)


def test_a_start_that_comes_later_goes_on_where_it_was(small_run, tmp_path, monkeypatch):
    """Steps that are read back must not take its checkpoint away."""
    run = replace(small_run[0], search_steps=9)
    shrink, write, run_stage = contrast.shrink, Checkpoints.write, ab_initio.run_stage
    monkeypatch.setattr(contrast, "shrink", lambda *args: (shrink(*args)[0], 0.2))
    done = []

    def and_stop(self, name, value):
        write(self, name, value)
        if name == ab_initio.UNDER_WAY and (value["part"], value["step"]) == ("with contrasts, part 1", 2):
            os.kill(os.getpid(), signal.SIGTERM)

    def noted(*args, **more):
        done.append(args[3].done)
        run_stage(*args, **more)
        raise StoppedError("seen", "stop here", EXIT_SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", and_stop)
        with pytest.raises(StoppedError):
            run_states(run, tmp_path)
    monkeypatch.setattr(ab_initio, "run_stage", noted)
    with pytest.raises(StoppedError):
        run_states(run, tmp_path, resume=True)
    assert done == [2]


@pytest.mark.parametrize(("changes", "message"), [
    ({"n_maps": 3}, "begun with n_maps 2, now it is 3"), ({"smallest_frac": 0.1}, "smallest_frac"),
    ({"compute": replace(COMPUTE, seed=5)}, "seed 0, now it is 5")])
def test_other_settings_are_refused(small_run, tmp_path, monkeypatch, changes, message):
    run, _ = small_run
    with monkeypatch.context() as patch:
        stop_after(patch, [])
        with pytest.raises(StoppedError):
            run_states(run, tmp_path)
    before = (tmp_path / result_files.CHECKPOINTS / "ab_initio_under_way.npz").read_bytes()
    with pytest.raises(ConfigError, match=message):
        run_states(replace(run, **changes), tmp_path, resume=True)
    assert (tmp_path / result_files.CHECKPOINTS / "ab_initio_under_way.npz").read_bytes() == before
    assert run_json.read_run(tmp_path / result_files.RUN_JSON) == run_json.read_run(  # nor are they written down
        run_json.write_run(run, tmp_path / "again.json"))


def test_a_finished_refinement_stays(small_run, tmp_path, capsys):
    run, _ = small_run
    write_record(tmp_path / result_files.STATES_JSON, states_summary(states=7))
    update_status(tmp_path, state="finished")
    settings = settings_of(with_data(run), open_images(with_data(run), tmp_path, True), None)
    result_files.write_json(tmp_path / result_files.CHECKPOINTS / step_store.SETTINGS_JSON, settings)
    assert run_states(run, tmp_path, resume=True) == states_summary(states=7)
    assert "is finished" in capsys.readouterr().out


def test_command_line_passes_resume_on(small_run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(refine, "run_states", lambda run, out, resume=False: asked.append(resume))
    request = run_json.write_run(small_run[0], tmp_path / "states.json")
    command = ["states", "--run", small_run[0].run_dir, "--out", str(tmp_path)]
    for words in (command, [*command, "--resume"], ["run", str(request)], ["run", str(request), "--resume"]):
        assert main.main(words) == 0
    assert asked == [False, True, False, True]


def test_values_come_back_as_they_were(tmp_path):
    steps = Checkpoints(tmp_path, {"seed": 0}, CPU, False)
    state = State(np.arange(3), torch.randn(3, 3, 3), torch.randn(3, 2), torch.randn(4, 4, 4))
    found = Assignment(np.zeros(3, np.int64), np.zeros((3, 1), np.float32), torch.randn(3, 1, 3, 3),
                       torch.randn(3, 1, 2), torch.randn(1, 4, 4, 4), torch.rand(3), np.array([False, True, False]))
    evidence = {"kept": True, "agreement": 0.1 + 0.2, "classes": [0, 1], "state": 2 ** 127 + 1}
    steps.write("all", ([state], found, evidence, None))
    (again,), found_again, evidence_again, none = Checkpoints(tmp_path, {"seed": 0}, CPU, True).read("all")
    assert evidence_again == evidence and none is None
    for name in ("rotations", "shifts_px", "maps", "noise"):
        assert torch.equal(getattr(found, name), getattr(found_again, name))
    assert np.array_equal(found.aside, found_again.aside) and found_again.aside.dtype == bool
    assert np.array_equal(state.rows, again.rows) and again.rows.dtype == np.int64


def test_random_numbers_go_on_where_they_were(tmp_path):
    drawn = []
    for resume in (False, True):
        rng = torch.Generator().manual_seed(3)
        steps = Checkpoints(tmp_path, {}, CPU, resume)
        first = steps.step("first", lambda rng=rng: float(torch.rand(1, generator=rng)), rng)
        drawn.append((first, float(torch.rand(1, generator=rng))))
    assert drawn[0] == drawn[1]


def test_a_broken_checkpoint_is_named(tmp_path):
    steps = Checkpoints(tmp_path, {}, CPU, False)
    steps.write("first_states", [1, 2])
    path = tmp_path / result_files.CHECKPOINTS / "first_states.npz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"first_states\.npz: the checkpoint cannot be read"):
        steps.read("first_states")
    np.savez(path, _value=np.array([{"a": 1}], dtype=object))  # a pickle
    with pytest.raises(DataError, match="cannot be read"):
        steps.read("first_states")


@pytest.mark.parametrize("text", ["", '{"state": "runn'])
def test_a_status_that_a_power_cut_left_broken_ends_no_resume(tmp_path, text):
    Checkpoints(tmp_path, {}, CPU, False).write("one", 1)
    (tmp_path / result_files.STATUS_JSON).write_text(text)
    steps = Checkpoints(tmp_path, {}, CPU, True)
    assert not steps.finished() and steps.read("one") == 1


def test_files_that_a_power_cut_left_empty_are_named(tmp_path):
    """They are there, with no byte in them: not steps that were never made."""
    steps = Checkpoints(tmp_path, {}, CPU, False)
    steps.write("first_states", [1])
    (tmp_path / "checkpoints" / "first_states.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"first_states\.npz: the checkpoint cannot be read"):
        steps.step("first_states", lambda: [1])
    (tmp_path / "checkpoints" / step_store.SETTINGS_JSON).write_bytes(b"")
    with pytest.raises(DataError, match=r"settings\.json: the settings of the checkpoints cannot be read"):
        Checkpoints(tmp_path, {}, CPU, True)


def test_other_poses_or_masks_of_the_same_particles_are_other_settings(small_run, tmp_path):
    run = with_data(small_run[0])
    cache = open_images(run, tmp_path, True)
    poses = GivenPoses(torch.eye(3).expand(len(cache), 3, 3), torch.zeros(len(cache), 2))
    turned, moved = replace(poses, rotations=poses.rotations.flip(1)), replace(poses, shifts_px=torch.ones(1))
    made = [settings_of(run, cache, None, one) for one in (None, poses, turned, moved)]
    made += [settings_of(replace(run, mask="/mask.mrc"), cache, None, None, mask)
             for mask in (torch.ones(4, 4, 4), torch.zeros(4, 4, 4))]
    assert "/mask.mrc" not in map(str, made[-1].values())  # a folder may be moved
    assert all(one != other for place, one in enumerate(made) for other in made[:place])
