"""The scoreboard's figures against a refinement whose answer is known, its table, and going on after a stop."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import align_nothing
from made_records import cluster_row, states_summary
from refine_particles import PIXEL_SIZE_ANG, blobs
from scipy.stats import spearmanr
from vaegan_engine.cli import main
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.record import to_json, write_records
from vaegan_engine.contract.records import StatesSummary
from vaegan_engine.contract.settings import ComputeConfig
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.evaluation.benchmark import benchmark, scores
from vaegan_engine.evaluation.benchmark.benchmark import Place, run_task, table
from vaegan_engine.evaluation.benchmark.tasks import TASKS, Task
from vaegan_engine.evaluation.truth import evaluate
from vaegan_engine.physics.map_comparison import compare

WHERE = ComputeConfig(device="cpu", threads=1, seed=0)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    for seed in (0, 1):
        write_map(folder / f"state{seed}.mrc", blobs(seed).numpy(), PIXEL_SIZE_ANG)
    return folder


@pytest.fixture(autouse=True)
def aligned_already(request, monkeypatch):
    """No alignment, as the stand-in leaves its maps where they are; except in the test of all figures."""
    if "perfect" not in request.node.name:
        monkeypatch.setattr(evaluate, "align_map", align_nothing)


TASK = Task(("state0.mrc", "state0.mrc", "state1.mrc"), 40, 2, box_px=24, crop_frac=1.0)


def truthful(wrong: int, tilt_deg: float):
    """A stand-in for states: the truth, with some labels wrong and all tilts off."""
    def refine(out: Path, clusters: str, where: ComputeConfig, symmetry: str) -> StatesSummary:
        rows = result_files.read_csv(out / "data" / "truth.csv")
        label = [int(row["map_file"] == "state1.mrc") for row in rows]
        label[:wrong] = [1 - x for x in label[:wrong]]
        folder = out / "states"
        label = [-1 if row["map_file"] == "junk" else k for row, k in zip(rows, label, strict=True)]
        result_files.write_csv(folder / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                          [[row["id"], k, 1.0] for row, k in zip(rows, label, strict=True)])
        result_files.write_csv(
            folder / result_files.PARTICLES_CSV,
            ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "motion"],
            [
                [
                    row["id"],
                    k,
                    row["rot_deg"],
                    float(row["tilt_deg"]) + tilt_deg * (-1) ** i,
                    row["psi_deg"],
                    -float(row["rot_deg"]),
                ]
                for i, (row, k) in enumerate(zip(rows, label, strict=True))
            ],
        )
        (folder / "maps").mkdir()
        for k in (0, 1):
            write_map(folder / "maps" / f"cluster_{k:02d}.mrc", blobs(k).numpy(), PIXEL_SIZE_ANG)
        write_records(folder / result_files.CLUSTERS_JSON, [cluster_row(k, label.count(k)) for k in (0, 1)])
        return states_summary()
    return refine


@pytest.mark.slow
def test_a_perfect_refinement_has_perfect_figures(data, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "run_states_of", truthful(0, 0.0))
    row = run_task("two", TASK, Place(data, tmp_path / "out", WHERE), train=False)
    assert (row.figures["found"], row.images) == (2, 120)
    for name in ("nmi", "ami"):
        assert row.figures[name] == pytest.approx(1.0)  # a map named twice is one state
    assert row.figures["pose_error_deg"] < 0.2
    assert row.figures["nyquist_frac_0.5"] > 0.9
    text = table([to_json(row)])
    assert text.splitlines()[0].split()[:3] == ["task", "seed", "images"] and "2 states" in text


def test_groups_are_the_states_where_they_are_given(data, tmp_path, monkeypatch):
    """Three maps in two groups, and a refinement that finds the groups."""
    write_map(data / "like0.mrc", blobs(0).numpy() + 0.3 * blobs(5).numpy(), PIXEL_SIZE_ANG)
    result_files.write_csv(data / "groups.csv", ["map", "group"], [["state0.mrc", "a"], ["like0.mrc", "a"],
                                                              ["state1.mrc", "b"]])
    monkeypatch.setattr(benchmark, "run_states_of", truthful(0, 0.0))
    task = replace(TASK, maps=("state0.mrc", "like0.mrc", "state1.mrc"))
    of_groups = replace(task, groups_csv="groups.csv")
    grouped = run_task("two", of_groups, Place(data, tmp_path / "grouped", WHERE), train=False)
    single = run_task("two", task, Place(data, tmp_path / "single", WHERE), train=False)
    assert grouped.figures["nmi"] == pytest.approx(1.0) and single.figures["nmi"] < 0.95
    assert grouped.figures["fsc_auc"] == pytest.approx(single.figures["fsc_auc"])
    with pytest.raises(DataError, match=r"none\.csv: there is no such file"):
        run_task("two", replace(task, groups_csv="none.csv"), Place(data, tmp_path / "none", WHERE), train=False)


def test_area_under_the_fsc_is_of_the_image_s_own_map(data, tmp_path, monkeypatch):
    areas = []
    for wrong in (0, 30):
        monkeypatch.setattr(benchmark, "run_states_of", truthful(wrong, 0.0))
        areas.append(run_task("two", TASK, Place(data, tmp_path / str(wrong), WHERE), train=False).figures["fsc_auc"])
    assert areas[0] > 0.98
    a, b = (blobs(k).numpy() for k in (0, 1))
    crossed = float(np.mean(compare(a, b, PIXEL_SIZE_ANG).fsc[1:]))
    assert areas[1] == pytest.approx(0.75 * areas[0] + 0.25 * crossed, abs=0.02)  # a quarter has the other map


def test_views_of_a_task_can_be_preferred(data, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "run_states_of", truthful(0, 0.0))
    run_task("two", replace(TASK, view_concentration=8.0), Place(data, tmp_path / "out", WHERE), train=False)
    tilt = [float(row["tilt_deg"]) for row in result_files.read_csv(tmp_path / "out" / "data" / "truth.csv")]
    assert np.abs(np.cos(np.radians(tilt))).mean() > 0.8  # 0.875 expected, 0.5 for uniform views


def test_errors_show_in_the_figures(data, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "run_states_of", truthful(30, 8.0))
    row = run_task("two", TASK, Place(data, tmp_path / "out", WHERE), train=False)
    assert row.figures["nmi"] < 0.6 and 4.0 < row.figures["pose_error_deg"] < 12.0


def test_junk_has_its_own_figures(data, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "run_states_of", truthful(0, 0.0))
    row = run_task("two", replace(TASK, junk_frac=0.2, junk_maps=("state1.mrc",)), Place(data, tmp_path / "out", WHERE),
                   train=False)
    assert row.images == 150
    assert row.figures["junk_recall"] == row.figures["junk_precision"] == 1.0
    assert row.figures["nmi"] == pytest.approx(1.0) and row.figures["pose_error_deg"] < 0.2


def test_rank_correlation_is_that_of_the_largest_state(tmp_path):
    rows = [[i, 0 if i < 8 else 1, f"{(-i if i < 8 else i) / 10}"] for i in range(10)]
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV, ["particle_id", "label", "motion"], rows)
    result_files.write_csv(tmp_path / "truth.csv", ["id", "map"], [[i, i // 2] for i in range(10)])
    assert scores.frame_correlation(tmp_path, tmp_path / "truth.csv") == pytest.approx(
        spearmanr(range(8), [i // 2 for i in range(8)])[0])
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV, ["particle_id", "label", "motion"], [[0, 0, ""]])
    assert scores.frame_correlation(tmp_path, tmp_path / "truth.csv") == 0.0


def test_finished_rows_are_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "run_states_of", truthful(0, 0.0))
    first = run_task("two", TASK, Place(data, tmp_path / "out", WHERE), train=False)
    monkeypatch.setattr(benchmark, "run_states_of", lambda *args: pytest.fail("it was run again"))
    assert run_task("two", TASK, Place(data, tmp_path / "out", WHERE), train=False) == first
    with pytest.raises(ConfigError, match="other settings"):
        run_task("two", TASK, Place(data, tmp_path / "out", WHERE), train=True)


def test_missing_map_is_named(tmp_path):
    with pytest.raises(DataError, match="state0"):
        run_task("two", TASK, Place(tmp_path, tmp_path / "out", WHERE), train=False)


def test_maps_of_the_tasks_exist(shared_data):
    missing = [path for task in TASKS.values() for path in (*task.maps, *task.junk_maps)
               if not (shared_data / path).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["dirty-30S", "junk-other"])
def test_tasks_that_nothing_was_set_on_share_no_molecule_with_their_junk(name):
    def molecules(paths):
        return {path.split("/")[0] for path in paths}
    task = TASKS[name]
    assert molecules(task.maps) == {"r30S_4ADV"} and len(set(task.maps)) == task.states
    assert task.junk_frac and not molecules(task.maps) & molecules(task.junk_maps)


def test_all_nuisances_at_once_are_the_same_for_every_molecule():
    dirty = [replace(task, maps=(), junk_maps=(), states=0) for name, task in TASKS.items()
             if name.startswith("dirty-")]
    assert len(dirty) == 3 and len(set(dirty)) == 1


def test_unequal_is_70_25_5():
    counts = np.unique(TASKS["unequal"].maps, return_counts=True)[1]
    assert sorted(counts / counts.sum()) == [0.05, 0.25, 0.7]


def test_seeds_of_the_suite_or_those_that_are_given(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "run_states_of", truthful(0, 0.0))
    run = benchmark.run_benchmark
    monkeypatch.setattr(benchmark, "run_benchmark", lambda options, out: run(
        options, out, {"two": replace(TASK, per_map=100)}, {}))
    common = ["benchmark", "--data", str(data), "--device", "cpu", "--threads", "1", "--out"]
    for option, seeds in (([], [0]), (["--suite", "standard", "--seed", "3", "--seed", "5"], [3, 5])):
        out = tmp_path / f"out{len(seeds)}"
        assert main.main([*common, str(out), *option]) == 0
        rows = result_files.read_json(out / benchmark.TABLE_JSON)
        assert [row["seed"] for row in rows] == seeds
        assert [row["images"] for row in rows] == [180 if not option else 300] * len(seeds)  # a fifth, 60 at least
        assert "2 states" in capsys.readouterr().out
