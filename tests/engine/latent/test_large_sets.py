"""Many particles: a sample is laid out, the others stand beside the nearest of it."""
import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score
from vaegan_engine.contract.settings import ClusterRun
from vaegan_engine.data.particle_tables import Clusters
from vaegan_engine.latent import cluster, density_clustering, large_sets
from vaegan_engine.latent.density_clustering import Grouping, sweep_sizes

SIZES = 500, 300, 200


@pytest.fixture
def blobs(monkeypatch):
    """Three groups in five dimensions, of which 400 are laid out, in their first two columns: (z, truth)."""
    monkeypatch.setattr(density_clustering, "embed_2d", lambda z, *_: np.asarray(z[:, :2], np.float64))
    rng, truth = np.random.default_rng(0), np.repeat(np.arange(3), SIZES)
    order = rng.permutation(len(truth))
    centres = 8 * np.eye(5)[:3]
    return (centres[truth] + rng.standard_normal((len(truth), 5)))[order], truth[order]


def test_few_particles_are_all_laid_out():
    assert large_sets.laid_out_rows(7, 3).tolist() == list(range(7))
    assert large_sets.laid_out_rows(large_sets.MOST_LAID_OUT, 3)[-1] == large_sets.MOST_LAID_OUT - 1


def test_an_even_draw_of_many_is_laid_out():
    rows = large_sets.laid_out_rows(200_000, 3)
    assert len(np.unique(rows)) == large_sets.MOST_LAID_OUT and (np.diff(rows) > 0).all()
    assert abs(rows.mean() / 100_000 - 1) < 0.01
    assert (rows == large_sets.laid_out_rows(200_000, 3)).all() and (rows != large_sets.laid_out_rows(200_000, 4)).any()


@pytest.mark.parametrize(("labels", "found"), [
    ([[0, 1, 1]], [1]), ([[2, 1, 0]], [2]), ([[1, 2, 2, 1]], [1]), ([[-1, -1, 0]], [-1])])
def test_the_commonest_label(labels, found):
    assert large_sets.commonest(np.array(labels)).tolist() == found


@pytest.mark.parametrize(("n", "asked", "size"), [
    (1_000_000, 0, 30_000), (40_000, 0, 1200), (30_000, 0, 900), (20_000, 0, 600), (1_000_000, 500, 500)])
def test_the_smallest_cluster_of_many_is_the_share_that_it_is_of_those_laid_out(n, asked, size):
    run = ClusterRun(min_cluster_size=asked)
    assert cluster.smallest_of(run, n) == size


def test_repeats_and_layout_ask_for_the_same_share_of_large_sets(monkeypatch):
    asked, n, rng = [], 1_000_000, np.random.default_rng(0)

    def noted(z, points, min_cluster_size, *_):
        asked.append(min_cluster_size / len(z))
        return Grouping(np.zeros(len(z), np.int64), np.ones(len(z)))

    monkeypatch.setattr(density_clustering, "group_by_density", noted)
    monkeypatch.setattr(density_clustering, "embed_2d", lambda z, *_, **__: z[:, :2])
    z = rng.standard_normal((30_000, 2))
    cluster.grouped(ClusterRun(), z, z, n)
    cluster.clustered_part(ClusterRun(), z[:20_000], n, 0)
    assert asked == pytest.approx([0.03, 0.03])


def test_all_particles_get_a_group_and_a_place(blobs):
    z, truth = blobs
    run = ClusterRun(min_cluster_size=100)
    noisy, laid_out, tries = cluster.most_typical(run, z, 400)
    points, group = large_sets.with_others(noisy, laid_out.rows, laid_out.points, laid_out.group)
    assert len(laid_out.rows) == 400 and len(tries) == 3
    assert adjusted_mutual_info_score(truth, group.labels) > 0.98
    assert points.shape == (1000, 2) and np.isfinite(points).all()
    assert np.bincount(group.labels[group.labels >= 0]).tolist() == pytest.approx(SIZES, abs=10)
    assert {one.label for one in group.hdbscan_groups} == {0, 1, 2}
    others = np.setdiff1d(np.arange(1000), laid_out.rows)
    for k in range(3):  # an other particle stands inside its group's island
        island, own = points[laid_out.rows][group.labels[laid_out.rows] == k], points[others][group.labels[others] == k]
        assert (own >= island.min(0) - 1e-9).all() and (own <= island.max(0) + 1e-9).all()
    details = cluster.describe(run, noisy, Clusters(np.arange(1000), group.labels, group.probability, points), laid_out)
    assert details.laid_out == 400 and details.min_cluster_size == 100  # of all particles, as it was asked for
    assert [row.min_cluster_size for row in details.sweep] == sweep_sizes(1000)
    assert max(row.ami for row in details.sweep) > 0.95


def test_groups_of_all_keep_their_labels(blobs):
    z, truth = blobs
    noisy, laid_out, _ = cluster.most_typical(ClusterRun(method="kmeans", n_clusters=3), z, 400)
    points, group = large_sets.with_others(noisy, laid_out.rows, laid_out.points, laid_out.group)
    assert adjusted_mutual_info_score(truth, group.labels) > 0.98 and len(points) == 1000
    assert group is laid_out.group


def test_groups_are_numbered_by_their_size_among_all():
    z = np.array([0.0, 0.1, 5, 5.1, 5.2, 5.3, 5.4, 0.2, 0.3])[:, None]
    rows = np.array([0, 1, 7, 2])
    group = Grouping(np.array([0, 0, 0, 1]), np.array([1.0, 0.8, 1, 0.5]), 2, [])
    points, found = large_sets.with_others(z, rows, np.arange(8.0).reshape(4, 2), group)
    assert found.labels[[2, 3, 4, 5, 6]].tolist() != [] and found.labels[2] == 1  # the one neighbour of 5 is outvoted
    assert found.labels[8] == found.labels[0] == 0
    assert points[8].tolist() == pytest.approx(np.mean([[0, 1], [2, 3], [4, 5]], axis=0))
