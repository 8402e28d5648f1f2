"""Settings of a training that an older engine began."""
import json

import pytest
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.presets import build_run
from vaegan_engine.contract.settings import TrainRun


@pytest.mark.parametrize(("posed", "penalty_every"), [(False, 1), (True, TrainRun().training.penalty_every)])
def test_before_there_was_penalty_every_a_penalty_was_in_every_step(tmp_path, posed, penalty_every):
    """Of trainings with poses, whose penalty is in every step anyhow, the setting says nothing."""
    changes = {"data": {"particles": "a.star", "poses_dir": "poses" if posed else ""}}
    run = build_run("train3d", "posed" if posed else "fast", changes)
    path = run_json.write_run(run, tmp_path / result_files.RUN_JSON)
    assert run_json.read_training(tmp_path).training == run.training
    values = json.loads(path.read_text())
    del values["training"]["penalty_every"]
    path.write_text(json.dumps(values))
    assert run_json.read_training(tmp_path).training.penalty_every == penalty_every
    assert run_json.read_run(path).training.penalty_every == TrainRun().training.penalty_every  # a new one
