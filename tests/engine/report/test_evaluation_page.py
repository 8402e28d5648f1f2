"""An evaluation of states or of classes in the plane has its place in the report, beside them and alone."""
import json
from dataclasses import replace

import numpy as np
import pytest
from fake_run import BOX_PX, FakeTrained, align_nothing, write_clusters, write_truth
from made_records import state_row, states_summary
from test_page import read
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.analysis_records import Classes2dSummary
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.map_records import PlaneFigures
from vaegan_engine.contract.record import write_record, write_records
from vaegan_engine.contract.records import ClusterRow, Evaluation
from vaegan_engine.contract.settings import ComputeConfig, EvaluateRun, FullresRun, ReportRun, StatesRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.data.mrc_files import read_map, write_map, write_stack
from vaegan_engine.data.particle_tables import doubt_of, groups_in
from vaegan_engine.evaluation.truth import evaluate
from vaegan_engine.report import page, report
from vaegan_engine.report.evaluation_section import evaluated

N_FOUND = 2
POSES = ["rot_deg", "tilt_deg", "psi_deg"]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What evaluates groups of 120 particles, of which 10 are in none, against two states of the phantom."""
    monkeypatch.setattr(evaluate, "align_map", align_nothing)
    label = np.repeat([0, 1, -1], (60, 50, 10))
    write_clusters(tmp_path / "groups", label)
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 90, (len(label), 3))
    truth = write_truth(tmp_path / "truth.csv", np.where(label == 1, 1, 0))
    rows = result_files.read_csv(truth)
    result_files.write_csv(truth, [*rows[0], *POSES], [
        [*row.values(), *own] for row, own in zip(rows, angles, strict=True)])
    (tmp_path / "simulation.json").write_text(json.dumps(
        {"options": {"phantom": 3}, "map_files": ["phantom_0", "phantom_1", "phantom_2"]}))
    result_files.write_csv(tmp_path / "groups" / result_files.PARTICLES_CSV, ["particle_id", "label", *POSES], [
        [i + 1, label[i], *angles[i]] for i in range(len(label))])
    return EvaluateRun(clusters_dir=str(tmp_path / "groups"), truth_csv=str(truth),
                       compute=ComputeConfig(device="cpu", threads=1))


@pytest.fixture
def of_states(tmp_path, asked):
    """An evaluation of states; the report on both."""
    folder = tmp_path / "groups"
    rows = [state_row(label, n, n / 120) for label, n in enumerate((60, 50))]
    for row in rows:
        for file in row.of_state.files:
            write_map(folder / file, FakeTrained().states[row.label], 4.5)
    write_records(folder / result_files.CLUSTERS_JSON, rows)
    write_record(folder / result_files.STATES_JSON, states_summary(verdict="2 states"))
    update_status(folder, n_particles=120, states=2, state="finished")
    evaluate.run_evaluate(asked, tmp_path / "eva")
    return ReportRun(states_dir=str(folder), evaluation_dir=str(tmp_path / "eva"))


def test_states_against_the_truth_come_with_the_answer_first(tmp_path, of_states):
    plain, _ = read(page.write_report(replace(of_states, evaluation_dir=""), tmp_path / "plain.html"))
    reader, text = read(page.write_report(of_states, tmp_path / "report.html"))
    voxel_ang = FakeTrained().pixel_size_ang
    order = [text.index(words) for words in (
        "Against what is known: 2 states found, the labels have 2: the same groups, NMI 0.850",
        f"state 1 {2 * voxel_ang:.1f} Å (1.00 of Nyquist)", "Poses are off by, in the median: state 1 0.0°",
        "AMI 0.849 ARI", "particles of phantom_0 phantom_1 state 1 60 0 state 2 0 50 set aside 10 0",
        f"state 1 phantom_0 {2 * voxel_ang:.1f} Å 1.00", "The states were compared with labels")]
    assert order == sorted(order)
    assert "cluster 1" not in text
    assert len(reader.images) - len(plain.images) == 1 + N_FOUND * 2 * 6  # FSC; surfaces and sections of map, reference


def test_the_reference_lies_beside_the_map_in_its_box(tmp_path, of_states):
    for row in evaluated(of_states)[0].maps:
        array, size = read_map(tmp_path / "eva" / row.reference_file)
        np.testing.assert_allclose(array, FakeTrained().states[row.label], atol=1e-4)
        assert (len(array), size) == (BOX_PX, pytest.approx(row.voxel_size_ang))


def test_an_evaluation_alone_has_a_page_and_says_what_it_is_of(tmp_path, of_states):
    alone = ReportRun(evaluation_dir=of_states.evaluation_dir)
    _, text = read(page.write_report(alone, tmp_path / "alone.html"))
    assert "Evaluation 2 states against 2 labels, 2 maps against references" in text and "state 2 0 50" in text
    assert "Evaluation setting value default" in text
    report.run_report(alone, tmp_path / "folder")
    assert (tmp_path / "folder" / result_files.REPORT_HTML).exists()
    with pytest.raises(ConfigError, match="or evaluation_dir alone"):
        page.write_report(replace(alone, traverse_dir="x"), tmp_path / "alone.html")


def test_states_that_are_not_to_be_trusted_say_so_in_their_evaluation_alone(tmp_path, asked, of_states, capsys):
    verdict = "no structure beyond a blob: 0.1 per image"
    write_record(tmp_path / "groups" / result_files.STATES_JSON, states_summary(verdict=verdict, has_states=False))
    evaluate.run_evaluate(asked, tmp_path / "eva")
    doubt = f"These states say of themselves that there is nothing to trust yet: {verdict}."
    assert f"warning: {doubt}" in capsys.readouterr().out
    _, text = read(page.write_report(ReportRun(evaluation_dir=of_states.evaluation_dir), tmp_path / "alone.html"))
    assert f"Against what is known: {doubt} 2 states found" in text


def test_at_full_resolution_the_search_says_it(tmp_path):
    write_record(tmp_path / "search" / result_files.STATES_JSON, states_summary(has_states=False))
    folder = tmp_path / "full"
    run_json.write_run(FullresRun(states_dir=str(tmp_path / "search")), folder / result_files.RUN_JSON)
    assert doubt_of(folder) == ""
    result_files.write_json(folder / result_files.FULLRES_JSON, {})
    assert doubt_of(folder).endswith("nothing to trust yet: 2 states")


def test_what_groups_are_is_read_from_their_rows(tmp_path, asked):
    folder = tmp_path / "groups"
    assert groups_in(folder) == "clusters"
    row = ClusterRow(0, 1, 1.0, [], "a.mrcs", 0, in_plane=PlaneFigures("", 0, 4.5, [1.0], 2.0, 12.3, 20.0))
    write_records(folder / result_files.CLUSTERS_JSON, [row])
    assert groups_in(folder) == "classes"
    write_records(folder / result_files.CLUSTERS_JSON, [state_row(0, 1, 1.0)])
    assert groups_in(folder) == "states"


def test_an_older_file_is_of_what_lies_beside_it(tmp_path, of_states):
    values, groups = evaluated(of_states)
    assert groups == "states"
    older = Evaluation([replace(row, reference_file=None) for row in values.maps], values.labels)
    write_record(tmp_path / "eva" / result_files.EVALUATION_JSON, older)
    _, text = read(page.write_report(of_states, tmp_path / "report.html"))
    assert "state 2 0 50" in text and "reference, surface" not in text
    assert evaluated(ReportRun(evaluation_dir=of_states.evaluation_dir))[1] == "clusters"
    assert evaluated(ReportRun(evaluation_dir=of_states.evaluation_dir, classes_dir="x"))[1] == "classes"


def test_an_evaluation_in_the_folder_of_the_states_is_shown_with_their_settings_once(tmp_path, asked, of_states):
    run_json.write_run(StatesRun(), tmp_path / "groups" / result_files.RUN_JSON)
    evaluate.run_evaluate(asked, None)
    _, text = read(page.write_report(replace(of_states, evaluation_dir=of_states.states_dir), tmp_path / "report.html"))
    assert "Against what is known: 2 states found" in text
    assert "States setting value default" in text and "Evaluation setting value default" not in text


def test_classes_in_the_plane_are_shown_with_their_labels(tmp_path, asked):
    folder = tmp_path / "groups"
    write_stack(folder / "maps/classes.mrcs", np.random.default_rng(1).normal(size=(2, 16, 16)).astype(np.float32), 4.5)
    write_records(folder / result_files.CLUSTERS_JSON, [
        ClusterRow(label, n, n / 120, [], "maps/classes.mrcs", label, in_plane=PlaneFigures(
            "", 0, 4.5, [1.0, 0.5], 2.0, 12.3, 20.0)) for label, n in enumerate((60, 50))])
    write_record(folder / result_files.CLASSES2D_JSON,
                 Classes2dSummary("2 classes of 110 particles", 2, 2, 120, 10, 1.5, 6.0, 12.3))
    update_status(folder, n_particles=120, state="finished")
    evaluate.run_evaluate(asked, tmp_path / "eva")
    run = ReportRun(classes_dir=str(folder), evaluation_dir=str(tmp_path / "eva"))
    reader, text = read(page.write_report(run, tmp_path / "report.html"))
    order = [text.index(words) for words in (
        "Against what is known: 2 classes found", "100.0 % are in one whose majority has their label",
        "particles of phantom_0 phantom_1 class 1 60 0 class 2 0 50 junk 10 0", "class 1: 60, 100 % phantom_0",
        "class 2: 50, 100 % phantom_1", "The classes were compared with labels")]
    assert order == sorted(order)
    assert len(reader.images) == 2 + 2
