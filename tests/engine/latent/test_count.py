"""Number-of-clusters criteria against closed forms and scikit-learn."""
import numpy as np
import pytest
from fake_run import write_clusters, write_embedding
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.latent import cluster_number, count
from vaegan_engine.latent.count import CountOptions


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9.5]])
    label = np.repeat(np.arange(4), 60)
    return centres[label] + rng.normal(size=(240, 2)), label


def test_every_criterion_finds_four_distant_blobs(blobs):
    points, label = blobs
    scores = cluster_number.number_scores(points, 1, 7, seed=0)
    assert scores.chosen() == dict.fromkeys(cluster_number.CRITERIA, 4)
    at_four = {name: values[3] for name, values in scores.values.items()}
    assert at_four["silhouette"] == pytest.approx(silhouette_score(points, label))
    assert at_four["calinski_harabasz"] == pytest.approx(calinski_harabasz_score(points, label))
    assert at_four["davies_bouldin"] == pytest.approx(davies_bouldin_score(points, label))
    assert np.isnan(scores.values["silhouette"][0]) and np.isfinite(scores.values["gap"]).all()


def test_one_blob_is_one_cluster_for_gap_and_bic():
    points = np.random.default_rng(0).normal(size=(300, 3))
    chosen = cluster_number.number_scores(points, 1, 4, seed=0).chosen()
    assert chosen["gap"] == chosen["bic"] == 1


def test_within_sum_and_bic_are_their_definitions(blobs):
    points, _ = blobs
    n, d = points.shape
    within = ((points - points.mean(0)) ** 2).sum()
    assert cluster_number.log_within(points, 1, 0)[0] == pytest.approx(np.log(within))
    covariance = np.cov(points.T, bias=True) + 1e-6 * np.eye(d)
    centred = points - points.mean(0)
    log_likelihood = -0.5 * (n * d * np.log(2 * np.pi) + n * np.linalg.slogdet(covariance)[1]
                             + np.einsum("ni,ij,nj->", centred, np.linalg.inv(covariance), centred))
    expected = -2 * log_likelihood + (d + d * (d + 1) / 2) * np.log(n)
    assert cluster_number.number_scores(points, 1, 2, 0).values["bic"][0] == pytest.approx(expected)


def test_reference_fills_the_principal_box():
    rng = np.random.default_rng(1)
    angle = np.pi / 6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-5, -1], [5, -1], [-5, 1], [5, 1]]) @ turn.T
    back = cluster_number.uniform_reference(np.repeat(corners, 300, 0), rng) @ turn
    assert np.abs(back).max(0) == pytest.approx([5, 1], rel=0.2)
    assert back.std(0) == pytest.approx([10 / 12 ** 0.5, 2 / 12 ** 0.5], rel=0.2)


def test_first_gap():
    gap, error = np.array([0.1, 0.5, 0.52, 0.9]), np.array([0.0, 0.01, 0.05, 0.01])
    assert cluster_number.first_gap(gap, error) == 1  # 0.5 >= 0.52 - 0.05
    assert cluster_number.first_gap(np.array([0.0, 1.0, 2.0]), np.zeros(3)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("space", ["z", "UMAP plane"])
def test_command_writes_table_and_plot(tmp_path, blobs, space):
    points, label = blobs
    if space == "z":
        source = {"embedding_dir": str(write_embedding(tmp_path / "emb", points))}
    else:
        source = {"clusters_dir": str(write_clusters(tmp_path / "clu", label, umap=points, with_maps=False))}
    found = count.run_count(CountOptions(**source, k_min=2, k_max=6, max_particles=200), tmp_path / "out")
    assert (found.space, found.n_particles) == (space, 200)
    assert found.chosen["silhouette"] == 4
    rows = result_files.read_csv(tmp_path / "out" / count.COUNT_CSV)
    assert [row["clusters"] for row in rows] == list("23456")
    best = max(rows, key=lambda row: float(row["silhouette"]))
    assert best["clusters"] == "4"
    assert (tmp_path / "out" / count.COUNT_PNG).stat().st_size > 5000


def test_impossible_range_is_refused(tmp_path, blobs):
    embedding = str(write_embedding(tmp_path / "emb", blobs[0][:5]))
    with pytest.raises(ConfigError, match="k_max 12 for 5 particles"):
        count.run_count(CountOptions(embedding_dir=embedding), tmp_path / "out")


def test_groups_without_umap_are_refused(tmp_path):
    """Those of states, classes and consensus have none."""
    result_files.write_csv(tmp_path / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                           [[i, i % 2, 1.0] for i in range(40)])
    with pytest.raises(DataError, match="has no UMAP"):
        count.run_count(CountOptions(clusters_dir=str(tmp_path)), tmp_path / "out")


def test_a_cluster_that_is_not_among_the_points_looked_at_has_no_silhouette(monkeypatch):
    """Two far outliers in 40 points, of which 10 are looked at: with k = 2 all of these are in one cluster."""
    monkeypatch.setattr(cluster_number, "SILHOUETTE_AT_MOST", 10)
    looked_at = np.random.RandomState(0).permutation(40)[:10]
    points = np.random.default_rng(0).normal(size=(40, 2))
    points[np.setdiff1d(np.arange(40), looked_at)[:2]] += 1000
    scores = cluster_number.number_scores(points, 2, 4, 0, 2)
    assert np.isnan(scores.values["silhouette"][0]) and np.isfinite(scores.values["gap"]).all()
    assert set(scores.chosen()) == set(cluster_number.CRITERIA)
