"""Peers of the scoreboard: told apart what an image alone shows, in the scoreboard's row, refused without RELION."""
from __future__ import annotations

import shutil
from functools import partial

import mrcfile
import numpy as np
import pytest
from particle_files import optics_columns, star_block
from refine_particles import PIXEL_SIZE_ANG
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.record import read_record, to_json
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, TrainRun
from vaegan_engine.data.mrc_files import write_map, write_stack
from vaegan_engine.evaluation.benchmark import benchmark, peers
from vaegan_engine.evaluation.checks import relion_class
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

WHERE = ComputeConfig(device="cpu", threads=1, seed=0)
pytestmark = pytest.mark.xdist_group("umap")  # which compiles for long, in each process
ROW = benchmark.TaskRow("sizes", 0, 200, 5.0, "2 states", 0.1, {}, figures={"states": 2})


def told(task, minutes=0.0):
    return peers.Told(2, tuple(str(task / f"state{k}.mrc") for k in (0, 1)), str(task / "data" / "truth.csv"), minutes)


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
    row = benchmark.with_peers(ROW, task, ["pca"], told(task), WHERE)
    assert row.peers["pca"].found == 2 and row.peers["pca"].scores["nmi"] > 0.9
    assert read_record(benchmark.TaskRow, task / benchmark.ROW_JSON, "benchmark").peers == row.peers
    monkeypatch.setattr(benchmark, "run_peer", lambda *args: pytest.fail("it was run again"))
    assert benchmark.with_peers(row, task, ["pca"], told(task), WHERE) == row
    text = benchmark.table([{"peer": "pca", **to_json(row.peers["pca"])}], benchmark.PEER_COLUMNS)
    assert text.splitlines()[0].split() == list(benchmark.PEER_COLUMNS)


def test_relion_is_asked_for_by_name(task, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="relion_refine"):
        benchmark.with_peers(ROW, task, ["relion2d"], told(task), WHERE)


def test_classes_of_relion_are_kept_as_those_of_classes2d(tmp_path):
    """Angles and classes as they are, shifts the other way round, the stack of averages."""
    columns = {"rlnImageName": ["000001@images.mrcs", "000002@images.mrcs"], "vaeParticleId": [7, 3],
               "rlnClassNumber": [2, 1], "rlnAnglePsi": [30.0, -170.5], "rlnOriginXAngst": [6.0, -1.5],
               "rlnOriginYAngst": [0.0, 2.0], "rlnOpticsGroup": [1, 1]}
    (tmp_path / "class_it005_data.star").write_text(star_block("optics", optics_columns(3.0))
                                                    + star_block("particles", columns))
    averages = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)
    write_stack(tmp_path / "class_it005_classes.mrcs", averages, 3.0)
    relion_class.write_classes(tmp_path, 5, 3.0)
    rows = result_files.read_csv(tmp_path / result_files.PARTICLES_CSV)
    assert [(row["particle_id"], row["label"], row["junk"]) for row in rows] == [("7", "1", "0"), ("3", "0", "0")]
    assert [float(rows[0][name]) for name in ("psi_deg", "shift_x_ang", "shift_y_ang")] == [30, -6, 0]
    assert [float(rows[1][name]) for name in ("psi_deg", "shift_x_ang", "shift_y_ang")] == [-170.5, 1.5, -2]
    assert np.array_equal(mrcfile.read(tmp_path / result_files.MAPS / result_files.CLASSES_MRCS), averages)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="RELION is not installed")
def test_relion_tells_sizes_apart(task, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "relion2d", partial(peers.by_relion_2d, iterations=5))
    row = benchmark.with_peers(ROW, task, ["relion2d"], told(task), WHERE)
    assert row.peers["relion2d"].scores["nmi"] > 0.9


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_refine") is None, reason="RELION is not installed")
def test_relion_in_3d_begins_with_the_mean_map_and_leaves_what_it_has_in_our_time(task, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "relion3d", partial(peers.by_relion_3d, iterations=2))
    row = benchmark.with_peers(ROW, task, ["relion3d"], told(task, 60.0), WHERE)
    scores = row.peers["relion3d"].scores
    assert 0 <= scores["nmi"] <= 1 and scores["in_our_time_nmi"] == scores["nmi"]
    numbers = relion_class.class_numbers(relion_class.tables(task / "peers" / "relion3d")[0])
    assert len(numbers) == 200 and set(numbers.values()) <= {0, 1}
    reference = mrcfile.read(task / "peers" / "relion3d" / "reference.mrc")
    mean = np.mean([mrcfile.read(task / f"state{k}.mrc") for k in (0, 1)], 0)
    assert np.corrcoef(reference.ravel(), mean.ravel())[0, 1] > 0.999
    result = benchmark.peer_result(row, "relion3d", benchmark.BenchmarkOptions(data_dir="MAPS", suite="quick"))
    assert result.task == "sizes-quick-by-relion3d" and result.figures["states_minutes"] == ROW.minutes
