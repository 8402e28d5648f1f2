"""The training loop: resume, stops, divergence, what it leaves on disk."""
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import vaegan_engine
from PIL import Image
from vaegan_engine.cli import main
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError, DivergedError, StoppedError
from vaegan_engine.contract.settings import DataConfig, TrainRun
from vaegan_engine.contract.status import read_status, record_failure
from vaegan_engine.contract.wording import pose_free_note
from vaegan_engine.data import image_preparation
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate
from vaegan_engine.training import checkpoints, train
from vaegan_engine.training.trained_run import TrainedRun
from vaegan_engine.training.trainer import Trainer

ENGINE_ROOT = Path(vaegan_engine.__file__).resolve().parents[1]
TINY = {
    "data": {"box_px": 16},
    "model": {"critic_width": 4, "encoder_width": 4, "n_categories": 3, "generator_width": 32},
    "training": {"batch_size": 8, "total_kimg": 0.08, "encoder_kimg": 0.032, "tick_kimg": 0.016,
                 "checkpoint_kimg": 0.016},
    "compute": {"device": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def particles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=30, box_px=16), folder)
    return folder / "particles.star"


def tiny(particles: Path, command: str = "train3d", preset: str = "fast", **changes) -> TrainRun:
    values = run_json.merged(TINY, {"data": {"particles": str(particles)}})
    if command == "train2d":
        values = run_json.merged(values, {"model": {"generator": "dcgan"}})
    return presets.build_run(command, preset, run_json.merged(values, changes))


def final_state(folder: Path) -> dict:
    return checkpoints.read(checkpoints.newest(folder))


def assert_same(a, b) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train3d", "train2d"])
@pytest.mark.parametrize(("stop_at", "seen"), [(5, 40), (12, 96)])  # the encoder alone is trained from 80 images on
def test_resume_equals_an_uninterrupted_run_bitwise(particles, tmp_path, monkeypatch, command, stop_at, seen):
    run = tiny(particles, command)
    train.run_train(run, tmp_path / "whole")
    step, count = Trainer.step, []

    def step_then_signal(self, real, table):
        count.append(1)
        if len(count) == stop_at:  # in the middle of a tick
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, real, table)

    monkeypatch.setattr(Trainer, "step", step_then_signal)
    with pytest.raises(StoppedError) as stop:
        train.run_train(run, tmp_path / "parts")
    assert stop.value.exit_code == 143
    assert read_status(tmp_path / "parts").state == "stopped"
    assert final_state(tmp_path / "parts")["images_seen"] == seen
    train.run_train(run, tmp_path / "parts", resume=True)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))


def test_training_again_in_a_used_folder_leaves_its_own_checkpoints(particles, tmp_path):
    train.run_train(tiny(particles), tmp_path)
    train.run_train(tiny(particles, training={"total_kimg": 0.032, "encoder_kimg": 0.0}), tmp_path)
    assert final_state(tmp_path)["images_seen"] == 32
    names = sorted(path.name for path in (tmp_path / result_files.CHECKPOINTS).iterdir())
    assert names == ["ckpt_0000000016.pt", "ckpt_0000000032.pt"]
    previews = [path.stem for path in (tmp_path / result_files.PREVIEWS).iterdir()]
    assert previews and max(int(name.removeprefix("tick_")) for name in previews) <= 32
    train.run_train(tiny(particles, training={"total_kimg": 0.016, "continue_from": str(tmp_path)}), tmp_path)
    assert final_state(tmp_path)["images_seen"] == 48  # with the encoder's 32


def test_a_training_stopped_before_its_first_step_does_not_go_on_from_the_one_before(particles, tmp_path, monkeypatch):
    """A power cut while the first maps are made, in a folder that holds a finished training of another seed."""
    anew = tiny(particles, training={"total_kimg": 0.032, "encoder_kimg": 0.0}, compute={"seed": 7})
    train.run_train(tiny(particles, training={"total_kimg": 0.032, "encoder_kimg": 0.0}), tmp_path / "used")
    with monkeypatch.context() as here:
        here.setattr(train, "start_from_scratch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run_train(anew, tmp_path / "used")
    assert not read_status(tmp_path / "used").finished and checkpoints.newest(tmp_path / "used") is None
    train.run_train(anew, tmp_path / "used", resume=True)
    train.run_train(anew, tmp_path / "fresh")
    assert_same(final_state(tmp_path / "fresh"), final_state(tmp_path / "used"))


@pytest.mark.parametrize("by_another_call", [False, True])
def test_a_status_that_a_power_cut_left_broken_loses_no_checkpoint(particles, tmp_path, monkeypatch, by_another_call):
    """It names the newest checkpoint; a call that could not read it, and left its reason there, keeps that name too."""
    run = tiny(particles, training={"total_kimg": 0.032, "encoder_kimg": 0.0})
    train.run_train(run, tmp_path)
    (tmp_path / result_files.STATUS_JSON).write_text('{"state": ')
    if by_another_call:
        record_failure(tmp_path, DataError("It cannot be read.", ""))
    monkeypatch.setattr(train, "start_from_scratch", lambda *_: pytest.fail("it began anew"))
    train.run_train(run, tmp_path, resume=True)
    assert final_state(tmp_path)["images_seen"] == 32 and read_status(tmp_path).finished


def interrupted(*_) -> None:
    """In place of what is being done when the power goes."""
    raise KeyboardInterrupt


def test_a_broken_checkpoint_can_be_deleted_and_its_log_is_not_doubled(particles, tmp_path):
    train.run_train(tiny(particles), tmp_path)
    whole = result_files.read_jsonl(tmp_path / result_files.LOG_JSONL)
    checkpoints.newest(tmp_path).unlink()
    train.run_train(tiny(particles), tmp_path, resume=True)
    again = result_files.read_jsonl(tmp_path / result_files.LOG_JSONL)
    assert [row["kimg"] for row in again] == [row["kimg"] for row in whole]


@pytest.mark.parametrize(("changes", "words"), [
    ({"model": {"n_categories": 4}}, "model.n_categories 3, now it is 4"),
    ({"data": {"invert_contrast": True}}, "data.invert_contrast False, now it is True"),
    ({"training": {"info_weight": 0.5}}, "training.info_weight 0.1, now it is 0.5"),
    ({"compute": {"seed": 3}}, "seed 0, now it is 3")])
def test_a_run_goes_on_with_its_own_settings_alone(particles, tmp_path, changes, words):
    train.run_train(tiny(particles, training={"total_kimg": 0.016, "encoder_kimg": 0.0}), tmp_path)
    before = (tmp_path / result_files.RUN_JSON).read_bytes()
    with pytest.raises(ConfigError, match=words):
        train.run_train(tiny(particles, **changes), tmp_path, resume=True)
    assert (tmp_path / result_files.RUN_JSON).read_bytes() == before


def test_a_run_goes_on_with_its_own_particles_alone(particles, tmp_path):
    star = particles.with_name("some.star")
    star.write_text(particles.read_text())
    train.run_train(tiny(star, training={"total_kimg": 0.016}), tmp_path)
    # the encoder alone was trained after it
    with pytest.raises(ConfigError, match=r"total_kimg 0\.016, now it is 0\.08"):
        train.run_train(tiny(star), tmp_path, resume=True)
    lines = star.read_text().splitlines(keepends=True)
    row = next(k for k, line in enumerate(lines) if "@" in line)
    star.write_text("".join(lines[:row] + lines[row + 1:]))
    with pytest.raises(ConfigError, match="other particles"):
        train.run_train(tiny(star, training={"total_kimg": 0.016}), tmp_path, resume=True)


@pytest.mark.slow
def test_a_run_goes_on_with_the_learning_rates_that_are_asked_for(particles, tmp_path, monkeypatch):
    train.run_train(tiny(particles, training={"total_kimg": 0.016, "encoder_kimg": 0.0}), tmp_path)
    rates = []
    monkeypatch.setattr(train, "loop", lambda trainer, *args: rates.append(
        trainer.optimizers["critic"].param_groups[0]["initial_lr"]))
    train.run_train(tiny(particles, training={"critic_lr": 1e-6}), tmp_path, resume=True)
    assert rates == [1e-6]


def test_random_numbers_of_another_kind_of_device_begin_anew(particles, tmp_path, capsys):
    run = tiny(particles, training={"total_kimg": 0.016, "encoder_kimg": 0.0})
    train.run_train(run, tmp_path)
    state = final_state(tmp_path)
    torch.save({**state, "rng": state["rng"][:16]}, checkpoints.newest(tmp_path))  # as long as a GPU's
    assert TrainedRun.load(tmp_path).decode(np.eye(3)[:1]).shape == (1, 16, 16, 16)
    train.run_train(replace(run, training=replace(run.training, total_kimg=0.032)), tmp_path, resume=True)
    assert "random numbers begin anew" in capsys.readouterr().out
    assert final_state(tmp_path)["images_seen"] == 32


def test_a_disk_that_fills_up_is_said_and_leaves_no_part(particles, tmp_path, monkeypatch):
    def full(state, stream):
        stream.write(b"part")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match="could not be written"):
        train.run_train(tiny(particles), tmp_path / "torch")
    assert not list((tmp_path / "torch" / result_files.CHECKPOINTS).iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(result_files, "append_jsonl", lambda path, row: os.open("/dev/full/no", os.O_WRONLY))
    with pytest.raises(DataError, match="cannot be written"):
        train.run_train(tiny(particles), tmp_path / "log")
    for name in ("torch", "log"):
        assert read_status(tmp_path / name).state == "failed"


def test_large_seeds_can_be_used_with_dropout(particles, tmp_path):
    train.run_train(tiny(particles, model={"dropout": 0.1}, compute={"seed": 20240611},
                         training={"total_kimg": 0.016, "encoder_kimg": 0.0}), tmp_path)
    assert final_state(tmp_path)["images_seen"] == 16


def test_a_finished_run_leaves_what_the_results_layout_names(particles, tmp_path, capsys):
    train.run_train(tiny(particles), tmp_path)
    status = read_status(tmp_path)
    assert status.snr > 0 and pose_free_note(status.snr) in capsys.readouterr().out
    assert status.state == "finished" and status.images_seen == status.total_images == 112
    assert status.networks == hashlib.sha256(checkpoints.newest(tmp_path).read_bytes()).hexdigest()
    rows = result_files.read_jsonl(tmp_path / result_files.LOG_JSONL)
    assert [row["kimg"] for row in rows] == [0.016, 0.032, 0.048, 0.064, 0.08, 0.096, 0.112]
    assert "critic_loss" in rows[0] and "critic_loss" not in rows[-1]
    pictures = sorted((tmp_path / result_files.PREVIEWS).glob("*.png"))
    assert len(pictures) == 7
    pixels = np.asarray(Image.open(pictures[-1]))
    assert pixels.std() > 10
    components = result_files.read_json(tmp_path / "components.json")
    assert [row["index"] for row in components] == [0, 1, 2]
    trained = TrainedRun.load(tmp_path)
    maps = trained.decode(np.array([row["z"] for row in components]))
    assert maps.shape == (3, 16, 16, 16) and np.isfinite(maps).all() and maps.std() > 0


def test_encoding_does_not_depend_on_the_batch(particles, tmp_path):
    train.run_train(tiny(particles), tmp_path)
    trained = TrainedRun.load(tmp_path)
    images = torch.randn(5, 16, 16)
    table = torch.tensor([[15000.0, 14000, 20, 300, 2.7, 0.1, 0]]).repeat(5, 1)
    together = trained.encode(images, table)
    apart = torch.cat([trained.encode(images[i:i + 1], table[i:i + 1]) for i in range(5)])
    assert torch.allclose(together, apart, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(particles, tmp_path, monkeypatch):
    step = Trainer.step

    def poisoned(self, real, table):
        stats = step(self, real, table)
        return {**stats, "critic_loss": stats["critic_loss"] * float("nan")} if self.images_seen > 40 else stats

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(DivergedError, match="critic_loss is not finite after 48 images") as stop:
        train.run_train(tiny(particles), tmp_path)
    assert stop.value.exit_code == 4
    status = read_status(tmp_path)
    assert status.state == "failed" and status.error.code == 4
    assert status.checkpoint == "ckpt_0000000032.pt"
    assert final_state(tmp_path)["images_seen"] == 32


def test_previews_do_not_change_the_training(particles, tmp_path, monkeypatch):
    train.run_train(tiny(particles), tmp_path / "with")
    monkeypatch.setattr("vaegan_engine.training.preview.Preview.write", lambda self, path: None)
    train.run_train(tiny(particles), tmp_path / "without")
    assert_same(final_state(tmp_path / "with"), final_state(tmp_path / "without"))


def test_a_new_run_starts_with_the_networks_of_an_old_one(particles, tmp_path):
    old = tmp_path / "old"
    train.run_train(tiny(particles), old)
    still = {"training": {"critic_lr": 0.0, "generator_lr": 0.0, "voxel_lr": 0.0, "encoder_lr": 0.0,
                          "continue_from": str(old)}, "compute": {"seed": 5}}
    train.run_train(tiny(particles, **still), tmp_path / "new")  # another seed: only the old networks can be the same
    assert_same(final_state(tmp_path / "new")["modules"]["critic"], final_state(old)["modules"]["critic"])
    assert_same(final_state(tmp_path / "new")["modules"]["generator"], final_state(old)["modules"]["generator"])
    assert final_state(tmp_path / "new")["images_seen"] == final_state(old)["images_seen"]  # counted anew
    stored = run_json.read_run(tmp_path / "new" / result_files.RUN_JSON)
    assert stored.training.continue_from == str(old)
    assert json.loads((tmp_path / "new" / result_files.RUN_JSON).read_text())["training"]["continue_from"] == "../old"


def test_networks_of_another_kind_or_size_are_refused(particles, tmp_path):
    train.run_train(tiny(particles), tmp_path / "old")
    from_old = {"continue_from": str(tmp_path / "old")}
    with pytest.raises(DataError, match="another kind"):
        train.run_train(tiny(particles, training=from_old, model={"n_categories": 4}), tmp_path / "new")
    state = final_state(tmp_path / "old")
    torch.save({**state, "pixel_size_ang": 20.0}, checkpoints.newest(tmp_path / "old"))
    with pytest.raises(DataError, match=r"for 16 px of 20\.000 A, the training is for 16 px of 18\.000 A"):
        train.run_train(tiny(particles, training=from_old), tmp_path / "new")
    with pytest.raises(DataError, match="there is no checkpoint in it"):
        train.run_train(tiny(particles, training={"continue_from": str(tmp_path / "none")}), tmp_path / "new")


def test_another_seed_gives_another_run(particles, tmp_path):
    run = tiny(particles, training={"total_kimg": 0.016, "encoder_kimg": 0.0})
    train.run_train(run, tmp_path / "a")
    train.run_train(replace(run, compute=replace(run.compute, seed=1)), tmp_path / "b")
    a, b = (final_state(tmp_path / x)["modules"]["critic"]["head.weight"] for x in "ab")
    assert not torch.equal(a, b)


@pytest.mark.parametrize(("normalization", "scale"), [("background", 1.0), ("thesis", 7.0)])
def test_signal_variance_is_that_of_the_signal(normalization, scale):
    """A disc of known power in white noise, in whatever units equation 49 leaves them."""
    d, mask = 32, image_preparation.background_mask(32, 0.45 * 32)
    signal = np.where(mask, 0.0, np.random.default_rng(1).choice([-0.8, 0.8], (200, d, d)))
    images = scale * (signal + np.random.default_rng(0).normal(size=(200, d, d)))
    found = train.signal_variance(images, DataConfig(normalization=normalization))
    assert abs(found / (scale**2 * signal.var()) - 1) < 0.05


@pytest.mark.parametrize(("changes", "word"), [
    ({"model": {"homogeneous": True}}, "homogeneous"),
    ({"training": {"critic_reconstructions": True}}, "critic_reconstructions"),
    ({"model": {"generator": "dcgan"}}, "dcgan"),
    ({"model": {"n_categories": 1}}, "n_categories"),
    ({"training": {"total_kimg": -1.0}}, "total_kimg"),
    ({"training": {"no_such_key": 1}}, "no_such_key"),
    ({"training": {"batch_size": True}}, "batch_size"),
    ({"training": {"loss": "ncvae"}}, "ncvae"),
])
def test_settings_that_cannot_run_are_refused_by_name(changes, word):
    with pytest.raises(ConfigError, match=word) as refusal:
        presets.build_run("train3d", "fast", changes)
    assert refusal.value.exit_code == 2 and refusal.value.hint


@pytest.mark.parametrize("box_px", [33, 8, 1024])
def test_a_box_that_the_networks_cannot_halve_is_bad_data(box_px):
    with pytest.raises(DataError, match=str(box_px)) as refusal:
        presets.build_run("train3d", "fast", {"data": {"box_px": box_px}})
    assert refusal.value.exit_code == 3 and "multiple of 8" in refusal.value.hint


def test_a_results_folder_that_cannot_be_made_is_reported_in_one_sentence(particles, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    code = main.main(["train3d", "--particles", str(particles), "--box-px", "16", "--threads", "1",
                      "--out", str(tmp_path / "file" / "run")])
    said = capsys.readouterr().err
    assert code == 3 and "Traceback" not in said and "file" in said


@pytest.mark.slow
def test_command_line_reports_bad_data_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vaegan_engine", "train3d", "--particles", str(tmp_path / "none.star"),
         "--out", str(tmp_path / "run")], env={**os.environ, "PYTHONPATH": str(ENGINE_ROOT)},
        capture_output=True, text=True, check=False)
    assert done.returncode == DataError.exit_code == 3
    assert "none.star" in done.stderr and "Traceback" not in done.stderr


def test_run_json_comes_back_as_it_was(particles, tmp_path):
    run = tiny(particles)
    path = run_json.write_run(run, tmp_path / "deep" / "run.json")
    assert not os.path.isabs(json.loads(path.read_text())["data"]["particles"])
    assert run_json.read_run(path) == run


def test_real_particles_train(shared_data, tmp_path):
    for name in ("aspire_17/sample_relion_data.star", "filament_5/relion31.star"):
        run = tiny(shared_data / "real_particles" / name,
                   training={"total_kimg": 0.016, "encoder_kimg": 0.008}, data={"max_images": 200})
        folder = tmp_path / Path(name).parent.name
        train.run_train(run, folder)
        assert read_status(folder).state == "finished"
