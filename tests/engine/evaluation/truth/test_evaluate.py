"""Scores against closed forms, rows joined by id, maps against references."""
import json

import numpy as np
import pytest
from fake_run import FakeTrained, align_nothing, write_clusters, write_truth
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.record import read_record
from vaegan_engine.contract.records import Evaluation
from vaegan_engine.contract.settings import ComputeConfig, EvaluateRun
from vaegan_engine.contract.status import read_status, update_status
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.evaluation.truth import evaluate, reference_maps
from vaegan_engine.simulation.phantom import PHANTOM_BOX_ANG, phantom_states
from vaegan_engine.stats import label_agreement


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def entropy(counts):
    p = np.asarray(counts, float).ravel()
    p = p[p > 0] / p.sum()
    return -(p * np.log(p)).sum()


def test_nmi_is_its_definition(rng):
    truth, label = rng.integers(0, 3, 400), rng.integers(0, 4, 400)
    label[truth == 1] = 2
    table = np.array([[((truth == i) & (label == j)).sum() for j in range(4)] for i in range(3)])
    h_t, h_l = entropy(table.sum(1)), entropy(table.sum(0))
    expected = 2 * (h_t + h_l - entropy(table)) / (h_t + h_l)
    assert label_agreement.agreement(label, truth)["nmi"] == pytest.approx(expected, abs=1e-12)


def test_noise_is_a_group_of_its_own_and_left_out_of_the_second_score():
    truth = np.array([0, 0, 0, 1, 1, 1])
    values = label_agreement.clustering_scores(np.array([1, 1, -1, 0, 0, -1]), truth)
    assert values.clusters == 2
    assert values.unassigned_frac == pytest.approx(1 / 3)
    assert values.coverage == pytest.approx(2 / 3)
    assert values.nmi_assigned == values.ari_assigned == pytest.approx(1.0)
    # H(truth) = ln 2, H(label) = ln 3, I = 2/3 ln 2
    assert values.nmi == pytest.approx(2 * (2 / 3 * np.log(2)) / (np.log(2) + np.log(3)))


def test_nothing_but_noise_has_no_second_score():
    values = label_agreement.clustering_scores(np.full(4, -1), np.array([0, 1, 0, 1]))
    assert values.clusters == 0
    assert values.nmi == 0
    assert values.nmi_assigned is None


def test_junk_is_scored_by_what_was_set_aside():
    state = np.array([0] * 4 + [1] * 4 + [2] * 4)  # 2 is junk
    label = np.array([0, 0, 0, -1, 1, 1, 1, 1, -1, -1, -1, 0])
    values = evaluate.junk_scores(label, state, ["a.mrc", "b.mrc", "junk"])
    assert values["junk_recall"] == pytest.approx(3 / 4)
    assert values["junk_precision"] == pytest.approx(3 / 4)
    assert values["nmi_particles"] == pytest.approx(label_agreement.agreement(label[:8], state[:8])["nmi"])
    assert evaluate.junk_scores(label, state, ["a.mrc", "b.mrc", "c.mrc"]) == {}
    assert evaluate.junk_scores(np.abs(label), state, ["a.mrc", "b.mrc", "junk"])["junk_precision"] == 0.0


@pytest.fixture(autouse=True)
def aligned_already(request, monkeypatch):
    """No alignment, except where the test is about it."""
    if "turned" not in request.node.name:
        monkeypatch.setattr(evaluate, "align_map", align_nothing)


def asked(clusters, truth="", **values):
    return EvaluateRun(clusters_dir=str(clusters), truth_csv=str(truth), compute=ComputeConfig(device="cpu", threads=1),
                       **values)


@pytest.fixture
def analysis(tmp_path, rng):
    """Clusters 0, 1, 2 = states 2, 0, 1 with 6 % errors; ids in different orders; map k decodes state k."""
    label = rng.permutation(np.repeat([0, 1, 2], (80, 60, 60)))
    state = np.where(rng.uniform(size=200) < 0.06, rng.integers(0, 3, 200), label)
    ids = np.arange(1, 201)
    order = rng.permutation(200)
    clu = write_clusters(tmp_path / "clu", label[order], ids[order])
    truth = write_truth(tmp_path / "truth.csv", state)
    (tmp_path / "simulation.json").write_text(json.dumps(
        {"options": {"phantom": 3}, "map_files": ["phantom_0", "phantom_1", "phantom_2"]}))
    return clu, truth, label, state


def test_rows_are_joined_by_id_and_figures_are_printed(tmp_path, analysis, capsys):
    clu, truth, label, state = analysis
    (tmp_path / "ceiling.json").write_text(json.dumps({"accuracy": 0.9, "nmi": 0.8, "ami": 0.79}))
    options = asked(clu, truth, ceiling_json=str(tmp_path / "ceiling.json"))
    values = evaluate.run_evaluate(options, tmp_path / "eva")
    expected = label_agreement.agreement(label, state)
    assert values.labels.nmi == pytest.approx(expected["nmi"])
    assert expected["nmi"] > 0.6
    evaluate.report(values)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == ["clusters 3", f"NMI {expected['nmi']:.3f}", f"AMI {expected['ami']:.3f}",
                         f"ARI {expected['ari']:.3f}", "unassigned fraction 0.000"]
    assert "ceiling NMI 0.800 (supervised, accuracy 0.900)" in lines
    assert f"NMI / ceiling {expected['nmi'] / 0.8:.3f}" in lines
    assert read_record(Evaluation, tmp_path / "eva" / result_files.EVALUATION_JSON, "evaluate") == values


def test_maps_of_the_phantom_agree_with_it_to_nyquist(tmp_path, analysis):
    clu, truth, _, _ = analysis
    options = asked(clu, truth, all_references=True)
    values = evaluate.run_evaluate(options, tmp_path / "eva")
    assert [row.reference for row in values.maps] == ["phantom_0", "phantom_1", "phantom_2"]
    for row in values.maps:
        assert row.best_correlated == row.reference
        assert len(row.correlations) == 3
        assert row.correlation == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(row.compared.fsc, 1, atol=1e-4)
        assert row.compared.nyquist_frac_05 == 1
        assert not row.compared.crossed_0143
        assert row.purity > 0.85


def test_reference_files_are_matched_by_name_whatever_their_order(tmp_path, analysis):
    clu, _, _, state = analysis
    truth = write_truth(tmp_path / "truth.csv", state, names=["a.mrc", "b.mrc", "c.mrc"])
    fake = FakeTrained()
    for name, array in zip("abc", fake.states, strict=True):
        write_map(tmp_path / f"{name}.mrc", array, fake.pixel_size_ang)
    maps = tuple(str(tmp_path / f"{name}.mrc") for name in "cab")
    values = evaluate.run_evaluate(asked(clu, truth, maps=maps), tmp_path / "eva")
    assert [row.reference for row in values.maps] == ["a.mrc", "b.mrc", "c.mrc"]
    assert [list(row.correlations) for row in values.maps] == [["a.mrc"], ["b.mrc"], ["c.mrc"]]


@pytest.mark.slow
def test_a_turned_and_mirrored_map_is_aligned_first(tmp_path, analysis):
    from vaegan_engine.physics.map_alignment import move_map
    from vaegan_engine.physics.rotations import random_rotations

    clu, truth, _, _ = analysis
    fake = FakeTrained()
    turn = random_rotations(1)[0].numpy()
    moved = move_map(fake.states[0], turn, np.array([0.4, -0.7, 0.2]), mirrored=True)
    write_map(clu / "maps/cluster_00.mrc", moved, fake.pixel_size_ang)
    result_files.write_json(
        clu / result_files.CLUSTERS_JSON, result_files.read_json(clu / result_files.CLUSTERS_JSON)[:1]
    )
    row = evaluate.run_evaluate(asked(clu, truth), tmp_path / "eva").maps[0]
    assert row.correlation > 0.98
    assert row.mirrored


def test_missing_ids_are_an_error(tmp_path, analysis):
    clu, _, _, state = analysis
    short = write_truth(tmp_path / "truth.csv", state[:150])
    with pytest.raises(DataError, match=r"particle \d+ is not there \(50 of 200 are missing\)"):
        evaluate.run_evaluate(asked(clu, short), tmp_path / "eva")


def test_what_is_evaluated_in_its_own_folder_keeps_its_status(tmp_path, analysis):
    clu, truth, _, _ = analysis
    update_status(clu, state="stopped", command="states", error=None)
    before = (clu / result_files.STATUS_JSON).read_bytes()
    evaluate.run_evaluate(asked(clu, truth), clu)
    assert (clu / result_files.STATUS_JSON).read_bytes() == before
    evaluate.run_evaluate(asked(clu, truth), tmp_path / "eva")
    assert read_status(tmp_path / "eva").state == "finished"


def test_a_run_json_may_leave_particles_without_label_out(tmp_path, analysis):
    clu, _, label, state = analysis
    short = write_truth(tmp_path / "truth.csv", state[:150])
    run = asked(clu, short, partial_labels=True)
    values = evaluate.run_evaluate(run, tmp_path / "eva")
    assert values.labels.nmi == pytest.approx(label_agreement.agreement(label[:150], state[:150])["nmi"])
    assert values.labels.unlabelled == 50
    assert sum(map(sum, values.labels.contingency.values())) == 150
    strangers = write_truth(tmp_path / "strangers.csv", [0, 1], particle_id=[1001, 1002])
    with pytest.raises(DataError, match="0 of the 200 clustered particles are in it"):
        evaluate.run_evaluate(asked(clu, strangers, partial_labels=True),
                              tmp_path / "eva")


def test_maps_alone_are_compared_with_every_reference(tmp_path, analysis):
    clu = analysis[0]
    fake = FakeTrained()
    for name, array in zip("bca", fake.states, strict=True):
        write_map(tmp_path / "maps" / f"{name}.mrc", array, fake.pixel_size_ang)
    run = asked(clu, maps=tuple(str(tmp_path / "maps" / f"{name}.mrc") for name in "abc"))
    values = evaluate.run_evaluate(run, tmp_path / "eva")
    assert [row.reference for row in values.maps] == ["b.mrc", "c.mrc", "a.mrc"]
    assert all(list(row.correlations) == ["a.mrc", "b.mrc", "c.mrc"] for row in values.maps)
    assert values.labels is None and values.maps[0].purity is None
    assert "purity" not in evaluate.map_line(values.maps[0])


def test_a_run_json_with_nothing_to_compare_with_is_refused(tmp_path, analysis):
    with pytest.raises(DataError, match="both empty"):
        evaluate.run_evaluate(asked(analysis[0]), tmp_path)
    with pytest.raises(DataError, match="a ceiling is of use beside labels alone"):
        evaluate.run_evaluate(asked(analysis[0], maps=("a.mrc",), ceiling_json="ceiling.json"), tmp_path)
    with pytest.raises(DataError, match=r"none\.mrc"):
        evaluate.run_evaluate(asked(analysis[0], maps=(str(tmp_path / "none.mrc"),)), tmp_path)


def test_reference_maps_beside_images_are_said(tmp_path, analysis, capsys):
    clu, truth = analysis[:2]
    rows = result_files.read_json(clu / result_files.CLUSTERS_JSON)
    result_files.write_json(clu / result_files.CLUSTERS_JSON, [
        {**row, "file": "maps/images.mrcs", "index": k} for k, row in enumerate(rows)])
    with pytest.raises(DataError, match="it holds no maps to compare with the reference maps"):
        evaluate.run_evaluate(asked(clu, maps=("a.mrc",)), tmp_path / "eva")
    assert evaluate.run_evaluate(asked(clu, truth, maps=("a.mrc",)), tmp_path / "eva").maps == []
    assert "not compared: " in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", "[1]", '{"options": {"phantom": null}}', "not JSON", ""])
def test_labels_beside_another_programs_simulation_have_no_reference_maps(tmp_path, text):
    (tmp_path / "simulation.json").write_text(text)
    assert reference_maps.read_references([], tmp_path / "truth.csv", 16, 2.0) == []


def test_unusable_truth_and_ceiling_are_named(tmp_path, analysis):
    clu, truth, _, _ = analysis
    (tmp_path / "bad.csv").write_text("particle,state\n1,0\n")
    with pytest.raises(DataError, match=r"bad\.csv: it has the columns particle, state"):
        evaluate.run_evaluate(asked(clu, tmp_path / "bad.csv"), tmp_path)
    with pytest.raises(DataError, match="the ceiling cannot be read"):
        evaluate.run_evaluate(asked(clu, truth, ceiling_json="none.json"), tmp_path)


@pytest.mark.parametrize("old_px", [32, 33])
@pytest.mark.parametrize("frac", [1.0, 0.75])
def test_reference_is_resampled_about_its_centre(old_px, frac):
    """A smooth map (a Gaussian) is known in every box and voxel size."""
    new_px, old_voxel = 16, 2.0
    new_voxel = round(old_px * frac) * old_voxel / new_px

    def gaussian(d, voxel):
        x = (np.arange(d) - d // 2) * voxel
        return np.exp(-((x - 3.0)[:, None, None] ** 2 + (x + 2.0)[:, None] ** 2 + x ** 2) / (2 * 6.0 ** 2))

    found = reference_maps.resampled(gaussian(old_px, old_voxel), old_voxel, new_px, new_voxel)
    np.testing.assert_allclose(found, gaussian(new_px, new_voxel), atol=2e-3)


def test_reference_with_a_larger_field_is_cut_and_a_smaller_one_filled():
    state = phantom_states(1, 32, PHANTOM_BOX_ANG / 32)[0]
    wide = np.pad(state, 8)
    expected = reference_maps.resampled(state, 9.0, 16, 18.0)
    np.testing.assert_allclose(reference_maps.resampled(wide, 9.0, 16, 18.0), expected, atol=1e-5)
    np.testing.assert_allclose(reference_maps.resampled(state[2:-2, 2:-2, 2:-2], 9.0, 16, 18.0), expected, atol=0.05)


def test_coarse_reference_is_refused(tmp_path):
    write_map(tmp_path / "coarse.mrc", np.random.default_rng(0).normal(size=(8, 8, 8)), 40.0)
    with pytest.raises(DataError, match=r"coarse\.mrc: its voxels are 40 A wide, those of the run 18"):
        reference_maps.read_references([str(tmp_path / "coarse.mrc")], tmp_path / "truth.csv", 16, 18.0)


def references(*paths):
    return [reference_maps.Reference(name, np.zeros((2, 2, 2))) for name in reference_maps.distinct_names(paths)]


@pytest.mark.parametrize(("states", "maps", "expected"), [
    (["a.mrc", "b.mrc"], ["x/b.mrc", "x/a.mrc"], [1, 0]),  # by name
    (["run_class001.mrc"] * 2, ["job1/run_class001.mrc", "job2/run_class001.mrc"], [0, 1]),  # one name: by order
    (["run_class001.mrc"] * 2, ["job1/run_class001.mrc", "other.mrc"], [0, 1]),
    (["closed", "open", "tilted", "junk"], ["1.mrc", "2.mrc", "3.mrc"], [0, 1, 2, None]),
    (["closed", "open"], ["1.mrc"], [0, None])])
def test_each_state_has_its_own_reference(states, maps, expected):
    assert reference_maps.references_of_states(states, references(*maps)) == expected


def test_maps_of_one_file_name_keep_apart():
    assert reference_maps.distinct_names(["a/m.mrc", "b/m.mrc", "c.mrc"]) == ["1_m.mrc", "2_m.mrc", "c.mrc"]
