"""Scores of the landscape that is trained with the poses of the states: what it is given, and what it is held to."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_records import clustering
from vaegan_engine.contract import result_files
from vaegan_engine.contract.record import write_record
from vaegan_engine.contract.records import Stability
from vaegan_engine.contract.settings import ComputeConfig
from vaegan_engine.evaluation.benchmark import benchmark
from vaegan_engine.evaluation.benchmark.benchmark import TaskRow, with_landscape
from vaegan_engine.evaluation.benchmark.landscape_scores import first_coordinate_correlation, landscape_scores
from vaegan_engine.latent import cluster, embed
from vaegan_engine.simulation.options import SimulateOptions, Simulation
from vaegan_engine.training import train

WHERE = ComputeConfig(device="cpu", threads=1, seed=7)
N = 40


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task's folder of 40 particles of two maps, with stand-ins that put 4 of them into the wrong cluster."""
    given = []
    map_index = np.arange(N) % 2
    result_files.write_csv(tmp_path / "data" / "truth.csv", ["id", "map", "map_file"],
                           [[i + 1, k, f"state{k}.mrc"] for i, k in enumerate(map_index)])
    monkeypatch.setattr(train, "run_train", lambda run, out: given.append(run))
    z = np.stack([np.random.default_rng(0).standard_normal(N), 5.0 * map_index], 1)

    def embedded(run, out):
        result_files.write_npz(out / result_files.LATENTS_NPZ, particle_id=np.arange(N) + 1, z=z,
                               half_set=np.ones(N, int))

    def clustered(run, out):
        label = np.where(np.arange(N) < 4, 1 - map_index, map_index)
        result_files.write_csv(out / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                               [[i + 1, k, 1.0] for i, k in enumerate(label)])
        return clustering(clusters=2)

    monkeypatch.setattr(embed, "run_embed", embedded)
    monkeypatch.setattr(cluster, "run_cluster", clustered)
    return tmp_path, given


def simulated(folder):
    """The record of the task's images, as far as a training asks for it."""
    write_record(folder / "data" / "simulation.json", Simulation(
        SimulateOptions(phantom=2, per_map=20, box_px=32), N, 0, [], 4.0, 1.0, 1.0, 1.0, "", "cpu", ""))


def test_a_training_at_the_states_poses_is_held_to_the_truth(task):
    folder, given = task
    simulated(folder)
    scores = landscape_scores(folder, WHERE)
    assert given[0].data.poses_dir == str(folder / "states") and given[0].preset == "posed"
    assert given[0].data.box_px == 32 and given[0].compute == WHERE
    assert scores["landscape_clusters"] == 2 and scores["landscape_minutes"] >= 0
    assert 0.4 < scores["landscape_nmi"] < 0.8  # 36 of 40 are right
    assert "landscape_least_stability" not in scores and "landscape_spearman" not in scores


def test_the_least_stable_cluster_and_the_order_along_a_motion(task, monkeypatch):
    folder, _ = task
    simulated(folder)
    monkeypatch.setattr(cluster, "run_cluster", lambda run, out: (
        result_files.write_csv(out / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                               [[i + 1, 0, 1.0] for i in range(N)]),
        clustering(clusters=1, stability=Stability(4, 30, 0.5, [0.9, 0.7], [1, 1, 1, 1])))[1])
    scores = landscape_scores(folder, WHERE, ordered=True)
    assert scores["landscape_least_stability"] == 0.7
    assert scores["landscape_spearman"] == first_coordinate_correlation(folder / "landscape_embedding",
                                                                        folder / "data" / "truth.csv")
    assert scores["landscape_spearman"] > 0.8  # the first component is that by which the two maps differ


def test_a_task_s_row_gets_its_landscape_once(task, monkeypatch):
    folder, given = task
    simulated(folder)
    row = TaskRow("two", 7, N, 1.0, "2 states", 0.1, {}, figures={"found": 2})
    row = with_landscape(row, folder, WHERE, {}, False)
    assert row.figures["landscape_clusters"] == 2
    assert with_landscape(row, folder, WHERE, {}, False) is row and len(given) == 1
    nothing = replace(row, figures={"found": 0})  # there are no poses to train with
    assert with_landscape(nothing, folder, WHERE, {}, False) is nothing
    options = benchmark.BenchmarkOptions(data_dir="maps", landscape=True)
    made = benchmark.result_row(row, options)
    assert made.command.endswith(" --landscape")
    assert made.figures["landscape_nmi"] == row.figures["landscape_nmi"]
