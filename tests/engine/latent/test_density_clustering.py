"""Groups in latent spaces whose number of groups is known."""
import numpy as np
import pytest
from fake_run import FakeTrained, soft_one_hot, write_embedding
from scipy.stats import norm
from sklearn.metrics import adjusted_mutual_info_score
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.records import Try
from vaegan_engine.contract.settings import ClusterRun, ComputeConfig
from vaegan_engine.contract.status import read_status
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.latent import cluster, density_clustering
from vaegan_engine.stats import density_valley

pytestmark = pytest.mark.xdist_group("umap")  # which compiles for long, in each process


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def density_groups(z, frac=0.05, valley=0.5, seed=0):
    """The whole way from z to a Grouping with the defaults, and the plane."""
    z = density_clustering.jittered(z, seed)
    points = density_clustering.embed_2d(z, 30, 0.0, seed)
    size = density_clustering.smallest_cluster(len(z), 0, frac)
    return density_clustering.group_by_density(z, points, size, 10, valley), points


def mixture(rng, sizes, separation, dim):
    centres = separation * np.eye(len(sizes), dim) / np.sqrt(2)
    state = np.repeat(np.arange(len(sizes)), sizes)
    return centres[state] + rng.normal(size=(len(state), dim)), state


def test_mixture_gives_its_groups_and_the_same_seed_the_same_labels(rng):
    z, state = mixture(rng, (300, 180, 120), 7.0, 5)
    group, points = density_groups(z)
    assert group.labels.max() + 1 == 3
    assert adjusted_mutual_info_score(state, group.labels) > 0.95
    assert np.bincount(group.labels[group.labels >= 0]).argmax() == 0  # 0 is the largest
    again, same_points = density_groups(z)
    np.testing.assert_array_equal(points, same_points)
    np.testing.assert_array_equal(group.labels, again.labels)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 6])
def test_homogeneous_blob_is_one_cluster(rng, dim):
    z = rng.normal(size=(700, dim))
    joined, points = density_groups(z)
    assert set(joined.labels.tolist()) == {0}
    if dim == 2:  # without the look at z, UMAP's islands would count
        raw = density_clustering.group_by_density(density_clustering.jittered(z, 0), points, 35, 10, 0.0)
        assert raw.labels.max() > 0


def test_one_hot_latents_give_their_groups_although_all_rows_tie():
    z = np.eye(6)[np.repeat([0, 2, 5], (300, 200, 100))]
    group, _ = density_groups(z)
    np.testing.assert_array_equal(group.labels, np.repeat([0, 1, 2], (300, 200, 100)))


def test_equal_rows_are_one_cluster():
    group, points = density_groups(np.tile([1.0, 0.0, 0.0], (400, 1)))
    assert np.isfinite(points).all()
    assert set(group.labels.tolist()) == {0}


def test_saturated_probabilities_give_three_groups(rng):
    state = np.repeat([0, 1, 2], 250)
    logits = 12.0 * np.eye(6)[state] + 4.0 * rng.normal(size=(750, 6))
    share = np.exp(logits - logits.max(1, keepdims=True))
    group, _ = density_groups(share / share.sum(1, keepdims=True))
    assert group.labels.max() + 1 == 3
    assert adjusted_mutual_info_score(state, group.labels) > 0.8


@pytest.mark.parametrize("n", [1, 2, 3, 17])
def test_few_particles_are_one_cluster(rng, n):
    group, points = density_groups(rng.normal(size=(n, 4)))
    assert points.shape == (n, 2)
    np.testing.assert_array_equal(group.labels, np.zeros(n))


def test_latent_of_one_column_can_be_embedded(rng):
    group, points = density_groups(np.concatenate((rng.normal(size=100), rng.normal(20, 1, 100)))[:, None])
    assert points.shape == (200, 2)
    assert group.labels.max() + 1 == 2


@pytest.mark.parametrize("separation", [3.0, 3.5, 4.0, 6.0])
def test_valley_of_two_normal_groups_is_the_closed_form(rng, separation):
    """f(t) = (phi(t) + phi(t - s)) / 2 at the middle over its peak; the kernel widens phi a little."""
    n = 40000
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(n, 3)) + [separation, 0, 0]
    x = np.linspace(-1, separation + 1, 4001)
    density = norm.pdf(x) + norm.pdf(x - separation)
    expected = (2 * norm.pdf(separation / 2)) / density.max()
    assert density_valley.valley_ratio(a, b) == pytest.approx(expected, abs=0.05)


def test_what_scatters_alike_in_both_groups_does_not_fill_their_valley(rng):
    """Two sheets, wider than they are apart, that lie aslant: no valley on the line between their means."""
    wide = rng.normal(size=(1000, 2)) * [8.0, 1.0]
    side = np.repeat([0, 1], 500)
    sheets = (wide + side[:, None] * [4.0, 6.0]) @ np.linalg.qr(rng.normal(size=(2, 2)))[0]
    a, b = sheets[side == 0], sheets[side == 1]
    line = b.mean(axis=0) - a.mean(axis=0)
    assert density_valley.valley_ratio((a @ line)[:, None], (b @ line)[:, None]) > 0.9
    assert density_valley.valley_ratio(a, b) < 0.2


def test_equal_rows_are_one_group_or_two(rng):
    """Groups without any scatter: no matrix to invert."""
    assert density_valley.valley_ratio(np.zeros((20, 3)), np.zeros((20, 3))) == 1.0
    assert density_valley.valley_ratio(np.zeros((20, 3)), np.ones((20, 3))) < 0.01


def test_two_parts_of_one_blob_have_no_valley(rng):
    z = rng.normal(size=(1000, 3))
    part = z[:, 0] + 0.3 * z[:, 1] > 0.5
    assert density_valley.valley_ratio(z[part], z[~part]) > 0.9
    assert density_valley.valley_ratio(z[~part], z[part]) > 0.9


def test_join_keeps_groups_apart_through_a_bridge(rng):
    """A thin bridge joins one side only: the valley stays in the density of all."""
    a, b = rng.normal(size=(400, 2)), rng.normal(size=(400, 2)) + [12, 0]
    bridge = np.column_stack((rng.uniform(3, 9, 30), rng.normal(size=30)))
    labels = np.repeat([0, 1, 2], (400, 30, 400))
    joined = density_clustering.join_unseparated(np.concatenate((a, bridge, b)), labels, 0.5)
    assert joined[0] != joined[-1]
    np.testing.assert_array_equal(np.repeat([0, 1, 2], (400, 30, 400)), labels)  # the argument is unchanged


def test_labels_are_renumbered_by_size():
    np.testing.assert_array_equal(
        density_clustering.renumbered(np.array([5, 5, -1, 2, 2, 2, 9])), [1, 1, -1, 0, 0, 0, 2]
    )
    np.testing.assert_array_equal(density_clustering.renumbered(np.array([3, 1, 3, 1])), [0, 1, 0, 1])


@pytest.mark.parametrize(("n", "asked", "frac", "size"), [
    (1000, 0, 0.05, 50), (100000, 0, 0.05, 900), (100, 0, 0.05, 15), (100, 40, 0.05, 40), (100, 1, 0.05, 2)])
def test_smallest_cluster(n, asked, frac, size):
    assert density_clustering.smallest_cluster(n, asked, frac) == size


def test_jitter_is_three_percent_of_the_spread_and_leaves_its_argument(rng):
    z = rng.normal(size=(5000, 4)).astype(np.float32) * 8
    before = z.copy()
    difference = density_clustering.jittered(z, 0) - z
    np.testing.assert_array_equal(z, before)
    spread = np.sqrt(z.var(0).sum())
    assert np.sqrt(difference.var(0).sum()) / spread == pytest.approx(0.03, rel=0.05)
    assert (density_clustering.jittered(z, 0) == density_clustering.jittered(z, 0)).all()
    assert not (density_clustering.jittered(z, 0) == density_clustering.jittered(z, 1)).all()


@pytest.fixture
def embedding(tmp_path, rng):
    """300 particles of three states, rows in a random order of ids; and the state of each row."""
    state = rng.permutation(np.repeat([0, 1, 2], (140, 100, 60)))
    ids = rng.permutation(np.arange(1000, 1300))
    return write_embedding(tmp_path / "emb", soft_one_hot(state, rng, 7.0), ids), ids, state


@pytest.mark.parametrize(("method", "is_3d"), [
    pytest.param("hdbscan", True, marks=pytest.mark.slow), ("kmeans", False), ("gmm", True)])
def test_run_cluster_writes_what_the_results_table_says(tmp_path, embedding, method, is_3d, fake_model):
    fake_model(is_3d=is_3d)
    folder, ids, state = embedding
    out = tmp_path / "clu"
    run = ClusterRun(embedding_dir=str(folder), run_dir=str(tmp_path), method=method, n_clusters=3,
                     min_cluster_frac=0.1, stability_repeats=1, compute=ComputeConfig(device="cpu", threads=1))
    cluster.run_cluster(run, out)

    table = {
        int(row["particle_id"]): int(row["label"]) for row in result_files.read_csv(out / result_files.CLUSTERS_CSV)
    }
    assert set(table) == set(ids.tolist())
    labels = np.array([table[i] for i in ids.tolist()])
    assert adjusted_mutual_info_score(state, labels) > 0.9
    rows = result_files.read_json(out / result_files.CLUSTERS_JSON)
    assert [row["label"] for row in rows if row["label"] >= 0] == [0, 1, 2]
    assert sum(row["n_particles"] for row in rows) == len(ids)
    z = result_files.read_npz(folder / result_files.LATENTS_NPZ)["z"]
    fake = FakeTrained(is_3d=is_3d)
    for row in rows:
        np.testing.assert_allclose(row["z"], z[labels == row["label"]].mean(0), atol=1e-6)
        if is_3d:
            array, size = read_map(out / row["file"])
            assert size == pytest.approx(fake.pixel_size_ang, rel=1e-5)
            np.testing.assert_allclose(array, fake.decode(np.array([row["z"]]))[0], atol=1e-5)
        else:
            assert row["file"] == "maps/images.mrcs"
            assert row["index"] == rows.index(row)
    details = result_files.read_json(out / result_files.CLUSTERING_JSON)
    assert details["clusters"] == 3
    assert ("sweep" in details) == (method == "hdbscan")
    assert details["verdict"].startswith("3 clusters")
    assert read_status(out).verdict == details["verdict"]
    assert [row.get("stability") for row in rows if row["label"] >= 0] == details["stability"]["per_cluster"]
    assert min(details["stability"]["per_cluster"]) > 0.9
    assert all("stability" not in row for row in rows if row["label"] < 0)
    assert run_json.read_run(out / result_files.RUN_JSON).embedding_dir == str(folder)
    assert read_status(out).state == "finished"
    assert (out / "umap.png").stat().st_size > 1000
    assert (out / "maps.png").stat().st_size > 1000


@pytest.mark.usefixtures("fake_model")
def test_seventeen_particles_are_one_cluster_and_say_why(tmp_path, rng, capsys):
    folder = write_embedding(tmp_path / "emb", rng.normal(size=(17, 3)))
    details = cluster.run_cluster(ClusterRun(embedding_dir=str(folder)), tmp_path / "clu")
    assert details.clusters == 1
    assert "17 particles cannot hold two clusters of min_cluster_size 15" in capsys.readouterr().out
    assert details.verdict == "one group: 17 particles cannot hold two clusters of 15"


@pytest.mark.usefixtures("fake_model")
def test_without_repeats_there_is_no_verdict(tmp_path, rng):
    folder = write_embedding(tmp_path / "emb", rng.normal(size=(17, 3)))
    run = ClusterRun(embedding_dir=str(folder), stability_repeats=0)
    details = cluster.run_cluster(run, tmp_path / "clu")
    assert details.verdict is None
    assert details.stability is None


@pytest.mark.usefixtures("fake_model")
def test_clusters_of_a_run_before_do_not_stand_beside_other_settings(tmp_path, rng, monkeypatch):
    """One that ends in the middle leaves none: run.json would say that they are of another embedding."""
    folder, out = write_embedding(tmp_path / "emb", rng.normal(size=(17, 3))), tmp_path / "clu"
    cluster.run_cluster(ClusterRun(embedding_dir=str(folder), stability_repeats=0), out)
    result_files.write_json(out / "evaluation.json", {})
    assert (out / "maps" / "cluster_00.mrc").exists()
    monkeypatch.setattr(cluster, "most_typical", lambda *args: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        cluster.run_cluster(ClusterRun(embedding_dir=str(folder), stability_repeats=0, n_neighbors=5), out)
    assert not [name for name in ("clusters.csv", "clusters.json", "clustering.json", "evaluation.json",
                                  "maps/cluster_00.mrc") if (out / name).exists()]


@pytest.mark.parametrize(("changes", "kind", "words"), [
    ({"method": "kmeans", "n_clusters": 18}, DataError, "n_clusters is 18, the embedding has 17"),
    ({"method": "gmm", "n_clusters": 0}, ConfigError, "n_clusters is 0"),
    ({"n_neighbors": 1}, ConfigError, "n_neighbors is 1"),
    ({"min_cluster_frac": 0.0}, ConfigError, "min_cluster_frac is 0"),
    ({"stability_repeats": -1}, ConfigError, "stability_repeats is -1"),
    ({"join_valley": 2.0}, ConfigError, "join_valley is 2")])
@pytest.mark.usefixtures("fake_model")
def test_settings_that_cannot_be_run_are_refused_before_anything_is_written(tmp_path, rng, changes, kind, words):
    folder = write_embedding(tmp_path / "emb", rng.normal(size=(17, 3)))
    with pytest.raises(kind, match=words):
        cluster.run_cluster(ClusterRun(embedding_dir=str(folder), **changes), tmp_path / "clu")
    assert not (tmp_path / "clu").exists()


@pytest.mark.parametrize(("z", "ids", "words"), [
    (np.full((4, 3), np.nan), None, "z of particle 1 is not finite"),
    (np.zeros((4, 3)), [1, 2, 2, 3], "particle 2 is there 2 times"),
    (np.zeros((0, 3)), None, "there are 0 particles"),
    (np.zeros((20, 5)), None, "z has 5 numbers per particle, the model 3")])
@pytest.mark.usefixtures("fake_model")
def test_bad_latents_are_refused(tmp_path, z, ids, words):
    folder = write_embedding(tmp_path / "emb", z, ids)
    with pytest.raises(DataError, match=words):
        cluster.run_cluster(ClusterRun(embedding_dir=str(folder)), tmp_path / "clu")


@pytest.mark.usefixtures("fake_model")
def test_missing_embedding_is_refused(tmp_path):
    with pytest.raises(DataError, match="the latents cannot be read"):
        cluster.run_cluster(ClusterRun(embedding_dir=str(tmp_path)), tmp_path / "clu")


def test_the_try_that_agrees_best_with_the_others_is_kept(monkeypatch, rng):
    """One of three joins everything, by chance: it is not taken, wherever it comes."""
    raw, state = soft_one_hot(np.repeat([0, 1, 2], 60), rng), np.repeat([0, 1, 2], 60)
    monkeypatch.setattr(density_clustering, "embed_2d", lambda z, *args: z[:, :2])
    one = np.zeros(180, int)
    for given, kept in (([one, state, state], 1), ([state, one, state], 0), ([state, state, one], 0)):
        labels = iter(given)
        monkeypatch.setattr(cluster, "grouped", lambda *_, labels=labels: density_clustering.Grouping(
            next(labels), np.ones(180)))
        _, laid_out, tries = cluster.most_typical(ClusterRun(), raw)
        group = laid_out.group
        assert np.array_equal(group.labels, state)
        assert [row.clusters for row in tries] == [int(one.max()) + 1 for one in given]
        assert [row.kept for row in tries].index(True) == kept and tries[kept].ami > 0.4


def test_methods_without_chance_in_the_plane_are_tried_once(rng):
    raw = soft_one_hot(np.repeat([0, 1], 60), rng)
    _, laid_out, tries = cluster.most_typical(ClusterRun(method="kmeans", n_clusters=2), raw)
    group = laid_out.group
    assert tries == [Try(2, 1.0, True)] and group.labels.max() == 1
