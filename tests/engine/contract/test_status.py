"""``status.json``: fields are set and taken away one by one, and no key is written that nobody reads."""
from __future__ import annotations

import json

import pytest
from vaegan_engine.cli.main import main
from vaegan_engine.contract import run_json
from vaegan_engine.contract.errors import EXIT_DATA, DataError, StoppedError
from vaegan_engine.contract.settings import DataConfig, StatesRun
from vaegan_engine.contract.status import Failure, Status, read_status, record_failure, update_status


def test_a_folder_without_a_status_has_an_empty_one(tmp_path):
    assert read_status(tmp_path) == Status() and not Status().finished


def test_fields_stay_until_they_are_set_anew_or_taken_away(tmp_path):
    update_status(tmp_path, state="running", seed=3, warning="Look.")
    said = update_status(tmp_path, state="finished", warning=None)
    assert said == read_status(tmp_path) == Status(state="finished", seed=3) and said.finished
    assert json.loads((tmp_path / "status.json").read_text()) == {"state": "finished", "seed": 3}


def test_a_name_that_no_reader_knows_is_refused_by_writer_and_reader(tmp_path):
    with pytest.raises(TypeError, match="seconds_left"):
        update_status(tmp_path, seconds_left=3.0)
    (tmp_path / "status.json").write_text('{"seconds_left": 3.0}')
    with pytest.raises(DataError, match="seconds_left"):
        read_status(tmp_path)


def test_a_failure_is_the_error_and_its_state(tmp_path):
    record_failure(tmp_path, DataError("a.star: it is gone.", "Bring it back."))
    status = read_status(tmp_path)
    assert (status.state, str(status.error)) == ("failed", "a.star: it is gone. Bring it back.")
    record_failure(tmp_path, StoppedError("Stopped.", "", 15))
    assert read_status(tmp_path) == Status(state="stopped", error=Failure(143, "Stopped.", ""))


def test_a_disk_that_is_full_does_not_hide_why_a_command_ended(tmp_path, capsys):
    """Nothing can be written, the status neither: the sentence and the exit code are there all the same."""
    run = run_json.write_run(StatesRun(data=DataConfig(particles=str(tmp_path / "gone.star"))), tmp_path / "run.json")
    update_status(tmp_path, state="running")
    (tmp_path / "status.json.tmp").mkdir()
    assert main(["run", str(run)]) == EXIT_DATA
    assert "gone.star: the star file cannot be read" in capsys.readouterr().err
    assert read_status(tmp_path).state == "running"
