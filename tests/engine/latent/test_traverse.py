"""Points along principal components of clusters whose components are known."""
import contextlib

import numpy as np
import pytest
from fake_run import FakeTrained, soft_one_hot, write_clusters, write_embedding
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import TraverseRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.latent import traverse


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_points_of_a_line_are_its_percentiles_with_known_counts():
    """z on a line, evenly spaced: percentile p of the score is known, and so is every count."""
    s = np.linspace(-1, 1, 2001)
    direction = np.array([3.0, 0.0, 4.0]) / 5
    points = traverse.traverse_points(s[:, None] * direction + 2.0, 1, 4, (5, 95), 0)
    position = np.array([p.position for p in points])
    np.testing.assert_allclose(np.abs(position), [0.9, 0.3, 0.3, 0.9], atol=1e-9)
    for p in points:
        np.testing.assert_allclose(np.abs((p.z - 2.0) @ direction), abs(p.position), atol=1e-9)
        assert p.distance_z < 1e-3
    # half a step is 0.3, the density 1000 per unit; the line ends 0.1 past the outer points
    np.testing.assert_allclose([p.n_near for p in points], [400, 600, 600, 400], atol=2)


def test_score_gap_has_few_particles_near(rng):
    s = np.concatenate((rng.normal(-5, 0.2, 300), rng.normal(5, 0.2, 300)))
    points = traverse.traverse_points(np.column_stack((s, rng.normal(0, 0.1, 600))), 1, 5, (5, 95), 0)
    assert [p.n_near > 100 for p in points] == [True, False, False, False, True]
    assert points[2].n_near == 0
    assert points[2].distance_z > 3


def test_points_stay_probabilities(rng):
    z = soft_one_hot(rng.integers(0, 2, 500), rng, 6.0)
    for p in traverse.traverse_points(z, 2, 7, (0, 100), 3):
        assert (p.z >= 0).all()
        assert p.z.sum() == pytest.approx(1.0)


def test_simplex_projection_leaves_the_other_coordinates_and_its_argument():
    z = np.array([[0.6, 0.6, -0.2, 7.0], [-1.0, -1.0, -1.0, -2.0]])
    before = z.copy()
    np.testing.assert_allclose(traverse.to_simplex(z, 3), [[0.5, 0.5, 0, 7], [1 / 3, 1 / 3, 1 / 3, -2]])
    np.testing.assert_allclose(traverse.to_simplex(z, 0), z)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize(("n", "expected"), [(1, 0), (2, 1), (3, 2), (50, 3)])
def test_small_clusters_have_fewer_components(rng, n, expected):
    points = traverse.traverse_points(rng.normal(size=(n, 3)), 5, 4, (5, 95), 0)
    assert len({p.component for p in points}) == expected


def test_equal_particles_give_equal_points_near_all_of_them():
    for p in traverse.traverse_points(np.tile([0.0, 1.0, 0.0], (40, 1)), 1, 3, (5, 95), 3):
        np.testing.assert_allclose(p.z, [0, 1, 0], atol=1e-12)
        assert p.n_near == 40


@pytest.mark.parametrize("is_3d", [True, False])
def test_run_traverse_writes_table_and_pictures(tmp_path, rng, is_3d, capsys, fake_model):
    fake_model(is_3d=is_3d)
    state = np.repeat([0, 1], (60, 40))
    labels = state.copy()
    labels[:5] = -1
    ids = rng.permutation(np.arange(100)) + 50
    z = soft_one_hot(state, rng)
    emb = write_embedding(tmp_path / "emb", z, ids)
    shuffled = rng.permutation(100)  # the tables have different orders
    clu = write_clusters(tmp_path / "clu", labels[shuffled], ids[shuffled], embedding_dir=emb)
    out = tmp_path / "tra"
    traverse.run_traverse(TraverseRun(clusters_dir=str(clu), n_components=2, n_points=3), out)

    rows = result_files.read_csv(out / result_files.TRAVERSAL_CSV)
    assert [(int(r["cluster"]), int(r["component"]), int(r["point"])) for r in rows] == [
        (c, k, p) for c in (0, 1) for k in (0, 1) for p in (0, 1, 2)]
    fake = FakeTrained(is_3d=is_3d)
    for number, row in enumerate(rows):
        z_point = np.array([[float(row[f"z_{i}"]) for i in (1, 2, 3)]])
        if is_3d:
            array, size = read_map(out / row["file"])
            np.testing.assert_allclose(array, fake.decode(z_point)[0], atol=1e-4)
            assert size == pytest.approx(fake.pixel_size_ang, rel=1e-5)
        else:
            assert (row["file"], int(row["index"])) == ("maps/images.mrcs", number)
    expected = traverse.traverse_points(z[labels == 1], 2, 3, (5, 95), 3)
    assert [int(r["n_near"]) for r in rows if r["cluster"] == "1"] == [p.n_near for p in expected]
    assert (out / "traversal.png").stat().st_size > 1000
    assert "unassigned: 5 particles are no cluster" in capsys.readouterr().out
    traverse.run_traverse(TraverseRun(clusters_dir=str(clu), n_components=1, n_points=2), out)
    maps = {path.name for path in (out / "maps").iterdir()}
    assert maps == ({f"cluster_{c:02d}_pc1_{p:02d}.mrc" for c in (0, 1) for p in (0, 1)} if is_3d else {"images.mrcs"})


@pytest.mark.parametrize(("changes", "words"), [
    ({"n_points": 0}, "n_points is 0"), ({"low_percentile": 95.0, "high_percentile": 5.0}, "low_percentile is 95")])
@pytest.mark.usefixtures("fake_model")
def test_bad_settings_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        traverse.run_traverse(TraverseRun(clusters_dir=str(tmp_path), **changes), tmp_path / "tra")


@pytest.mark.usefixtures("fake_model")
def test_clusters_of_other_networks_are_refused(tmp_path, rng):
    """A training with z of as many numbers, or this one before it was trained on, made other latents."""
    emb = write_embedding(tmp_path / "emb", rng.normal(size=(10, 3)))
    clu = write_clusters(tmp_path / "clu", np.zeros(10, int), embedding_dir=emb)
    run = TraverseRun(clusters_dir=str(clu), run_dir=str(tmp_path / "run"))
    for made_by, now, words in (("a", "b", f"{clu} was made by other networks than those of {tmp_path / 'run'}"),
                                ("a", "a", ""), (None, "b", ""), ("a", None, "")):  # older files do not say
        update_status(clu, networks=made_by)
        update_status(tmp_path / "run", networks=now)
        with pytest.raises(DataError, match=words) if words else contextlib.nullcontext():
            traverse.run_traverse(run, tmp_path / "tra")


@pytest.mark.usefixtures("fake_model")
def test_clusters_of_other_particles_are_refused(tmp_path, rng):
    emb = write_embedding(tmp_path / "emb", rng.normal(size=(10, 3)))
    clu = write_clusters(tmp_path / "clu", np.zeros(10, int), np.arange(5, 15), embedding_dir=emb)
    with pytest.raises(DataError, match="particle 11 is not there \\(4 of 10 are missing\\)"):
        traverse.run_traverse(TraverseRun(clusters_dir=str(clu)), tmp_path / "tra")
