"""The report and the drawings show the numbers they are given."""
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from fake_run import align_nothing, write_clusters, write_embedding, write_truth
from matplotlib.colors import to_hex
from vaegan_engine.contract import labels as cluster_labels
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.drawings import draw_umap
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import ComputeConfig, EvaluateRun, ReportRun, TrainRun, TraverseRun
from vaegan_engine.evaluation.truth import evaluate
from vaegan_engine.figures import drawing
from vaegan_engine.latent import traverse
from vaegan_engine.report import summary_picture

CPU = ComputeConfig(device="cpu", threads=1)


@pytest.fixture
def analysis(tmp_path, monkeypatch, fake_model):
    """Every folder of an analysis of 200 particles."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat([0, 1, 2, -1], (80, 60, 50, 10)))
    state = np.where(label < 0, 0, label)
    z = np.eye(3)[state] + 0.05 * rng.normal(size=(200, 3))
    emb = write_embedding(tmp_path / "emb", z)
    clu = write_clusters(tmp_path / "clu", label, umap=z[:, :2], embedding_dir=emb)
    truth = write_truth(tmp_path / "truth.csv", state)
    (tmp_path / "simulation.json").write_text(json.dumps(
        {"options": {"phantom": 3}, "map_files": ["phantom_0", "phantom_1", "phantom_2"]}))
    monkeypatch.setattr(evaluate, "align_map", align_nothing)
    evaluate.run_evaluate(EvaluateRun(clusters_dir=str(clu), truth_csv=str(truth), compute=CPU), tmp_path / "eva")
    traverse.run_traverse(TraverseRun(clusters_dir=str(clu)), tmp_path / "tra")
    run_json.write_run(TrainRun(), tmp_path / "run" / result_files.RUN_JSON)
    return ReportRun(run_dir=str(tmp_path / "run"), clusters_dir=str(clu), traverse_dir=str(tmp_path / "tra"),
                     evaluation_dir=str(tmp_path / "eva"), truth_csv=str(truth))


def all_texts(figure):
    return "\n".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


@pytest.mark.slow
def test_report_shows_the_figures_of_the_evaluation(tmp_path, analysis):
    values = result_files.read_json(tmp_path / "eva" / result_files.EVALUATION_JSON)
    figure = summary_picture.demo_report(analysis)
    texts = all_texts(figure)
    for words in ("clusters 3", f"NMI {values['nmi']:.3f}", "cluster 1: 80 (40.0 %)", "unassigned: 10 (5.0 %)",
                  f"{values['maps'][0]['resolution_0.5_ang']:.1f} Å (FSC 0.5)", "phantom_2", "200 particles"):
        assert words in texts, words
    path = drawing.save_png(figure, tmp_path / "demo_report.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20000
    assert not path.with_name(path.name + ".tmp").exists()


def test_report_of_the_least_there_can_be(tmp_path, analysis):
    figure = summary_picture.demo_report(ReportRun(run_dir=analysis.run_dir, clusters_dir=analysis.clusters_dir))
    assert "clusters 3" in all_texts(figure)
    assert "NMI" not in all_texts(figure)


def test_missing_results_are_named(tmp_path, analysis):
    with pytest.raises(DataError, match=r"evaluation.json: it cannot be read .* Run vaegan evaluate first"):
        summary_picture.demo_report(
            replace(analysis, evaluation_dir=str(tmp_path))
        )
    with pytest.raises(DataError, match="Run vaegan traverse first"):
        summary_picture.demo_report(replace(analysis, traverse_dir=str(tmp_path)))


def test_umap_has_one_dot_per_particle_in_its_cluster_colour():
    points, labels = np.random.default_rng(0).normal(size=(50, 2)), np.repeat([0, 3, -1], (20, 20, 10))
    figure = drawing.new_figure(3, 3)
    ax = figure.subplots()
    draw_umap(ax, points, labels)
    where = {tuple(p): to_hex(dots.get_facecolor()[0]) for dots in ax.collections for p in dots.get_offsets().tolist()}
    assert where == {tuple(p): cluster_labels.cluster_colour(label)
                     for p, label in zip(points.tolist(), labels, strict=True)}
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "cluster 1: 20", "cluster 4: 20", "unassigned: 10"]


def test_slices_are_the_central_ones():
    array = np.arange(4 ** 3, dtype=float).reshape(4, 4, 4)
    np.testing.assert_array_equal(drawing.as_picture(array), np.hstack((array[2], array[:, 2], array[:, :, 2])))


def test_colours_are_one_each_and_the_unassigned_are_grey():
    colours = [cluster_labels.cluster_colour(label) for label in range(-1, 20)]
    assert len(set(colours)) == 21
    of_states = {cluster_labels.state_colour(state) for state in range(18)}
    assert len(of_states) == 18 and not set(colours) & of_states
    assert colours[0] == cluster_labels.UNASSIGNED_COLOUR
    assert cluster_labels.cluster_colour(20) == cluster_labels.cluster_colour(0)
    assert (cluster_labels.cluster_name(0), cluster_labels.cluster_name(-1)) == ("cluster 1", "unassigned")


def test_palette_needs_the_standard_library_alone():
    """The Scipion side imports it, with another Python."""
    code = f"import runpy; runpy.run_path({cluster_labels.__file__!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
