"""Peers of the scoreboard: told apart what an image alone shows, in the scoreboard's row, refused without RELION."""
from __future__ import annotations

import shutil

import numpy as np
import pytest
from refine_particles import PIXEL_SIZE_ANG
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, TrainRun
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.evaluation import benchmark
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

WHERE = ComputeConfig(device="cpu", threads=1, seed=0)


@pytest.fixture
def task(tmp_path):
    """A small blob and one of twice its width: no pose is needed to tell them apart."""
    axis = np.arange(24) - 12
    radius2 = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis ** 2)
    for k, width in enumerate((2.0, 4.5)):
        write_map(tmp_path / f"state{k}.mrc", np.exp(-radius2 / (2 * width ** 2)).astype(np.float32), PIXEL_SIZE_ANG)
    run_simulate(SimulateOptions(maps=tuple(str(tmp_path / f"state{k}.mrc") for k in (0, 1)), per_map=100, box_px=24,
                                 snr=5.0, seed=0, device="cpu"), tmp_path / "data")
    run_json.write_run(TrainRun(data=DataConfig(particles=str(tmp_path / "data" / "particles.star"), box_px=24),
                                compute=WHERE), tmp_path / "run" / result_files.RUN_JSON)
    return tmp_path


def test_pca_tells_sizes_apart_and_is_kept(task, monkeypatch):
    row = {"states": 2}
    benchmark.add_peers(row, task, ["pca"], WHERE)
    assert row["peers"]["pca"]["found"] == 2 and row["peers"]["pca"]["nmi"] > 0.9
    assert result_files.read_json(task / benchmark.ROW_JSON)["peers"] == row["peers"]
    monkeypatch.setattr(benchmark, "run_peer", lambda *args: pytest.fail("it was run again"))
    benchmark.add_peers(row, task, ["pca"], WHERE)
    text = benchmark.table([{"peer": "pca", **row["peers"]["pca"]}], benchmark.PEER_COLUMNS)
    assert text.splitlines()[0].split() == list(benchmark.PEER_COLUMNS)


def test_relion_is_asked_for_by_name(task, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="relion_refine"):
        benchmark.add_peers({"states": 2}, task, ["relion2d"], WHERE)


@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="RELION is not installed")
def test_relion_tells_sizes_apart(task, monkeypatch):
    from vaegan_engine.evaluation import peers

    monkeypatch.setattr(peers, "RELION_ITERATIONS", 5)
    row = {"states": 2}
    benchmark.add_peers(row, task, ["relion2d"], WHERE)
    assert row["peers"]["relion2d"]["nmi"] > 0.9
