"""Several processes give the bits of one; the end of one ends all, with one sentence and an exit code."""
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import shared_sums
from vaegan_engine.cli.main import main
from vaegan_engine.contract.errors import EXIT_CONFIG, EXIT_DATA, EXIT_PROCESS_LOST, EXIT_SIGTERM, ProcessLostError
from vaegan_engine.physics import shards
from vaegan_engine.runtime import launch, place

pytestmark = pytest.mark.slow

HELPERS = Path(shared_sums.__file__).parent


def sums_by(count, out, how=""):
    """What ``count`` processes write, and their exit code."""
    return launch.run_processes([sys.executable, str(HELPERS / "shared_sums.py"), str(out), *([how] if how else [])],
                                count)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_get_what_one_makes(tmp_path, count):
    assert sums_by(count, tmp_path / "shared") == 0
    assert not (tmp_path / "shared_other.npz").exists()  # another process had something else
    alone = shared_sums.made()
    with np.load(tmp_path / "shared.npz") as found:
        assert set(found.files) == set(alone)
        for name in alone:
            np.testing.assert_array_equal(found[name], alone[name])


def test_a_process_that_fails_says_why_once(tmp_path, capfd):
    assert sums_by(2, tmp_path / "out", "fail") == EXIT_DATA
    assert capfd.readouterr().err.strip().splitlines() == ["Row 8 is bad. Take it out."]


def test_a_killed_process_ends_all(tmp_path, capfd):
    assert sums_by(2, tmp_path / "out", "die") == EXIT_PROCESS_LOST
    (said,) = capfd.readouterr().err.strip().splitlines()
    assert said.startswith("Another of the 2 processes of this run ended before it; the checkpoints are kept.")
    assert "--resume" in said


def test_a_killed_first_process_is_told_of(tmp_path):
    command = [sys.executable, "-c", "import os\nif os.environ['RANK'] == '0': os.kill(os.getpid(), 9)"]
    with pytest.raises(ProcessLostError, match=r"^Process 1 of 2 was ended by SIGKILL; the checkpoints are kept\."):
        launch.run_processes(command, 2)


def test_those_that_do_not_notice_are_ended(monkeypatch):
    monkeypatch.setattr(launch, "_ENDINGS", ((0.2, 15), (1.0, 9)))
    command = [sys.executable, "-c", "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(4)\ntime.sleep(60)"]
    assert launch.run_processes(command, 2) == 4


@pytest.mark.parametrize("ends", ["signal.SIG_DFL", "lambda *_: sys.exit(143)"])
def test_a_stop_reaches_all_and_is_no_loss(monkeypatch, ends):
    command = [sys.executable, "-c", f"import signal, sys, time\nsignal.signal(15, {ends})\ntime.sleep(60)"]
    watch = launch.watch

    def stopped_in_between(started):
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return watch(started)

    monkeypatch.setattr(launch, "watch", stopped_in_between)
    assert launch.run_processes(command, 2) == EXIT_SIGTERM


def test_a_place_is_read_from_the_environment(monkeypatch):
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        assert place.place() == place.Place(0, 1, 0, 1)
        monkeypatch.setenv(name, value)
    assert place.place() == place.Place(3, 4, 1, 2)
    assert not place.is_first()


def test_commands_that_share_nothing_refuse_several(monkeypatch, tmp_path, capsys):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    assert main(["presets"]) == EXIT_CONFIG
    assert "2 processes are asked for presets. Several share states, train3d, train2d alone." in capsys.readouterr().err


@pytest.mark.parametrize("command", ["states", "train3d", "train2d"])
def test_commands_that_share_work_are_started_as_several(monkeypatch, tmp_path, command):
    started = []
    monkeypatch.setattr(launch, "run_processes", lambda words, count: started.append((words[2:], count)) or 0)
    words = [command, "--particles", "a.star", "--processes", "2", "--out", str(tmp_path)]
    assert main(words) == 0
    assert started == [(["vaegan_engine", *words], 2)]


def test_processes_must_be_one_at_least(tmp_path, capsys):
    assert main(["states", "--particles", "a.star", "--processes", "0", "--out", str(tmp_path)]) == EXIT_CONFIG
    assert "processes is 0. Give 1 or more." in capsys.readouterr().err


def test_one_process_asks_for_no_others():
    assert shards.n_processes() == 1
    code = "import sys; import vaegan_engine.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
