"""The command line: made from the settings, one table of commands, nothing imported that is not asked for."""
import argparse
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from vaegan_engine.cli import main
from vaegan_engine.cli.commands import COMMANDS
from vaegan_engine.cli.main import build_parser, train_settings
from vaegan_engine.cli.options import given, help_text, option_name, options_of
from vaegan_engine.contract.errors import EXIT_CONFIG, EXIT_OUT_OF_MEMORY, ConfigError, DataError
from vaegan_engine.contract.run_json import from_dict
from vaegan_engine.contract.setting import described, field_of, section, setting
from vaegan_engine.contract.settings import RUN_TYPES, ClusterRun, ComputeConfig, StatesRun, TrainRun
from vaegan_engine.contract.status import forget_failure, read_status, update_status

WITH_SETTINGS = [command for command in COMMANDS.values() if command.settings]


@dataclass(frozen=True)
class Every:
    """One setting of every kind."""

    name: str = setting("", "A place", positional=True)
    results_dir: str = setting("", "Of before", path=True, required=True)
    n: int = setting(3, "How many", low=1, high=1e6, unit="px")
    part: float = setting(0.5, "100 % of it", zero="none")
    kind: Literal["a", "b"] = setting("a")
    maps: tuple[str, ...] = setting((), path=True)
    span: tuple[float, float] = setting((1.0, 2.0), option="range", metavar="LOW HIGH")
    one: tuple[int, ...] = setting((), repeated=True)
    on: bool = setting(False)
    off: bool = setting(True)
    hidden: int = setting(7, option="")
    compute: ComputeConfig = section(ComputeConfig, shown=("seed",))


def parsed(words, cls=Every):
    import argparse

    from vaegan_engine.cli.options import add_settings

    parser = argparse.ArgumentParser(exit_on_error=False)
    add_settings(parser, cls)
    return from_dict(cls, given(cls, parser.parse_args(words)))


def test_every_kind_of_setting_is_an_option(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    assert parsed(["x", "--results", "r"]) == Every("x", f"{here}/r")
    made = parsed("x --results /r --n 4 --part 0 --kind b --maps m.mrc /n.mrc --range 3 4 --one 5 --one 6 --on "
                  "--no-off --seed 2".split())
    assert made == Every("x", "/r", 4, 0.0, "b", (f"{here}/m.mrc", "/n.mrc"), (3.0, 4.0), (5, 6), True, False,
                         compute=ComputeConfig(seed=2))
    assert "hidden" not in dict(options_of(Every)) and "compute.threads" not in dict(options_of(Every))


def test_help_has_limits_and_default():
    texts = {item.name: help_text(item) for _, item in options_of(Every)}
    assert texts["n"] == "How many. 1 to 1,000,000 px (default: 3)"
    assert texts["part"] == "100 %% of it. 0 = none (default: 0.5)"
    assert texts["results_dir"] == "Of before"
    assert help_text(field_of(ClusterRun, "min_dist")).endswith("0 to 1 (default: 0)")


@pytest.mark.parametrize("command", WITH_SETTINGS, ids=lambda command: command.name)
def test_every_command_has_its_options_and_its_function(command):
    """The help of each can be made; names are unique; what the table names is there."""
    parser = build_parser(command.name)
    sub = parser._subparsers._group_actions[0].choices[command.name]
    text = sub.format_help()
    for _, item in options_of(command.load("settings")):
        assert item.about.positional or option_name(item) in text, item.name
        assert item.about.help, item.name
    assert ("--resume" in text) == command.resumable
    assert callable(command.load("run"))


def test_a_request_names_a_command_of_the_table():
    for name, cls in RUN_TYPES.items():
        assert COMMANDS[name].load("settings") is cls


def test_only_the_command_that_is_asked_for_is_imported():
    program = ("import sys\nfrom vaegan_engine.cli.main import build_parser\nbuild_parser('train3d')\n"
               "print([name for name in ('torch', 'umap', 'vaegan_engine.latent.cluster') if name in sys.modules])\n")
    root = Path(sys.modules["vaegan_engine"].__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(root)}, capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_win_over_the_file_and_set_over_both(tmp_path):
    (tmp_path / "c.json").write_text('{"data": {"box_px": 32, "crop_frac": 0.8}, "training": {"total_kimg": 5.0}}')
    run = train_settings("train3d", {"data": {"box_px": 64}}, tmp_path / "c.json", ["training.total_kimg=7"])
    assert (run.data.box_px, run.data.crop_frac, run.training.total_kimg) == (64, 0.8, 7.0)
    args = build_parser("train2d").parse_args(["train2d", "--particles", "/p.star", "--out", "o", "--threads", "2"])
    assert given(TrainRun, args) == {"data": {"particles": "/p.star"}, "compute": {"threads": 2}}


def test_poses_choose_the_preset_of_a_training():
    """In the plane they are those of classes 2D: particles carry none that a 2D training takes."""
    for command in ("train2d", "train3d"):
        assert train_settings(command, {"data": {"poses_dir": "/before"}}, None, []).preset == "posed"
    with pytest.raises(ConfigError, match="input_poses is true in a 2D training"):
        train_settings("train2d", {"data": {"input_poses": True}}, None, [])


def test_a_value_outside_of_its_limits_is_one_sentence(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main.main(["cluster", "--embedding", out, "--run", out, "--out", out, "--seed", "-1"]) in (EXIT_CONFIG, 3)
    assert main.main(["traverse", "--clusters", out, "--run", out, "--out", out, "--n-points", "0"]) == EXIT_CONFIG
    assert "vaegan traverse: n_points is 0. Use 1 to 10,000." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_of_states_are_those_of_its_request():
    given_by_hand = {item.name for item in described(StatesRun)} - {"command", "contract_version", "compute", "data"}
    of_the_data = set(field_of(StatesRun, "data").about.shown)
    assert {item.name for _, item in options_of(StatesRun)} == given_by_hand | of_the_data | {
        "device", "threads", "seed", "memory_gb"}
    words = ["states", "--particles", "/p.star", "--box-px", "64", "--input-poses", "--out", "o"]
    args = build_parser("states").parse_args(words)
    assert given(StatesRun, args) == {"data": {"particles": "/p.star", "box_px": 64, "input_poses": True}}
    build_parser("states").parse_args(["states", "--run", "/r", "--out", "o"])  # particles are not asked for


def test_states_of_nothing_are_refused_in_one_sentence(tmp_path, capsys):
    assert main.main(["states", "--out", str(tmp_path / "out")]) == EXIT_CONFIG
    assert "Neither particles nor run_dir is given. Name a RELION star file (--particles)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("before", "after"), [("running", "failed"), ("finished", "finished")])
def test_a_command_that_had_begun_leaves_its_reason(tmp_path, before, after):
    """Also where it was not called by a run.json; what is finished stays."""
    update_status(tmp_path, state=before)
    main.leave_reason(argparse.Namespace(command="states", out=tmp_path), DataError("a.star: it is gone.", ""))
    assert read_status(tmp_path).state == after
    assert not (tmp_path / "none").exists()
    main.leave_reason(argparse.Namespace(command="states", out=tmp_path / "none"), DataError("gone", ""))
    main.leave_reason(argparse.Namespace(command="presets"), DataError("gone", ""))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["", '{"state": '])
def test_a_broken_status_hides_no_reason(tmp_path, monkeypatch, capsys, text):
    """Left by a power cut: the next call that ends says why, and leaves it in a whole file."""
    def ends(*_):
        raise DataError("a.star: it is gone.", "Bring it back.")

    monkeypatch.setattr(main, "run_command", ends)
    (tmp_path / "status.json").write_text(text)
    assert main.main(["states", "--particles", "a.star", "--out", str(tmp_path)]) == DataError("", "").exit_code
    assert "a.star: it is gone. Bring it back." in capsys.readouterr().err
    assert read_status(tmp_path).state == "failed" and read_status(tmp_path).error.message == "a.star: it is gone."


def test_a_refused_call_leaves_finished_results_finished(tmp_path):
    """Scipion's call with another setting: the reason is there, and the next call that fits takes it away."""
    update_status(tmp_path, state="finished", verdict="3 states")
    main.leave_reason(argparse.Namespace(command="run", out=tmp_path), DataError("a.star: it is gone.", "Find it."))
    status = read_status(tmp_path)
    assert status.finished and status.verdict == "3 states" and str(status.error) == "a.star: it is gone. Find it."
    forget_failure(tmp_path)
    assert read_status(tmp_path).error is None and read_status(tmp_path).finished


def test_names_that_are_no_text_end_no_command(monkeypatch):
    """Folders of other encodings: a name of bytes that are no UTF-8, and letters that the terminal has not."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(main, "run_command", lambda *_: print("take them with --prepared donn\udce9es/\xe9t\xe9"))
    assert main.main(["states", "--particles", "a.star", "--out", "b"]) == 0
    terminal.flush()
    assert terminal.buffer.getvalue() == b"take them with --prepared donn\\udce9es/\\xe9t\\xe9\n"


def test_a_gpu_without_memory_is_said_in_one_sentence(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(main, "run_command", full)
    update_status(tmp_path, state="running")
    assert main.main(["states", "--particles", "a.star", "--out", str(tmp_path)]) == EXIT_OUT_OF_MEMORY
    assert "The GPU ran out of memory (CUDA out of memory" in capsys.readouterr().err
    assert read_status(tmp_path).state == "failed" and read_status(tmp_path).error.code == EXIT_OUT_OF_MEMORY


@pytest.mark.parametrize("error", [
    MemoryError("Unable to allocate 40.0 GiB for an array"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 42949672960 bytes.")])
def test_a_machine_without_memory_is_said_in_one_sentence(tmp_path, monkeypatch, capsys, error):
    def full(*_):
        raise error

    monkeypatch.setattr(main, "run_command", full)
    update_status(tmp_path, state="running")
    assert main.main(["states", "--particles", "a.star", "--out", str(tmp_path)]) == EXIT_OUT_OF_MEMORY
    said = capsys.readouterr().err
    assert "This machine, or the queue, has not enough memory" in said and "allocate 4" in said
    assert read_status(tmp_path).error.code == EXIT_OUT_OF_MEMORY


@pytest.mark.parametrize(("words", "said"), [
    (["train3d", "--particles", "p.star", "--out", "o", "--total-kimg=5"], "--set training.total_kimg=VALUE"),
    (["states", "--partikles", "p.star", "--out", "o"], "is --particles meant for --partikles?"),
    (["states", "--particles", "p.star", "--out", "o", "--xyzzy"], "unrecognized arguments: --xyzzy\n")])
def test_an_option_that_a_command_does_not_have_is_answered_with_what_was_meant(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err
