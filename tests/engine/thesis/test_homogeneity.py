"""k-means groups, their particles, star files and RELION averages."""
import shutil

import numpy as np
import pytest
import starfile
from fake_run import write_clusters, write_embedding
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, TrainRun
from vaegan_engine.latent import centroids
from vaegan_engine.latent.centroids import CentroidOptions
from vaegan_engine.simulation import simulate
from vaegan_engine.thesis import homogeneity
from vaegan_engine.thesis.homogeneity import HomogeneityOptions

needs_relion = pytest.mark.skipif(shutil.which("relion_refine") is None,
                                  reason="needs relion_refine (Debian package relion)")


def test_nearest_particles_of_known_groups():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], (50, 30, 20))
    points = np.array([[0, 0], [10, 0], [0, 10]])[label] + 0.1 * rng.normal(size=(100, 2))
    found, groups = centroids.nearest_to_centroids(points, 3, seed=0)
    assert [c.n_particles for c in found] == [50, 30, 20]
    np.testing.assert_array_equal(groups, label)
    for group, centroid in enumerate(found):
        distance = np.linalg.norm(points - points[label == group].mean(0), axis=1)
        assert centroid.row == distance.argmin()
        assert centroid.distance == pytest.approx(distance.min())


def test_equal_points_are_one_centroid():
    found, _ = centroids.nearest_to_centroids(np.zeros((5, 2)), 16, seed=0)
    assert len(found) == 1


@pytest.mark.parametrize("is_3d", [True, False])
def test_centroids_are_decoded_from_real_particles(tmp_path, is_3d, fake_model):
    fake_model(is_3d=is_3d)
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1, -1], (40, 30, 10))
    z = np.eye(3, dtype=np.float32)[label % 3] + 0.01 * rng.normal(size=(80, 3)).astype(np.float32)
    ids = rng.permutation(80) + 1
    write_embedding(tmp_path / "emb", z, ids)
    clu = write_clusters(tmp_path / "clu", label, ids, umap=rng.normal(size=(80, 2)), embedding_dir=tmp_path / "emb")
    rows = centroids.run_centroids(CentroidOptions(str(clu), "run", 5), tmp_path / "out")
    assert [row.cluster for row in rows] == [0] * 5 + [1] * 5
    assert sum(row.n_particles for row in rows) == 70
    for row in rows:
        assert label[list(ids).index(row.particle_id)] == row.cluster
    stored = result_files.read_csv(tmp_path / "out" / centroids.CENTROIDS_CSV)
    assert [int(row["particle_id"]) for row in stored] == [row.particle_id for row in rows]
    assert (tmp_path / "out" / rows[-1].file).exists() and (tmp_path / "out/centroids.png").exists()


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A simulated set whose embedding parts two phantom states."""
    folder = tmp_path_factory.mktemp("groups")
    simulate.run_simulate(simulate.SimulateOptions(phantom=2, per_map=60, box_px=32, snr=4.0, max_shift_frac=0.02),
                          folder / "data")
    truth = result_files.read_csv(folder / "data/truth.csv")
    state = np.array([int(row["map"]) for row in truth])
    write_embedding(folder / "emb", np.eye(3)[state])
    write_clusters(folder / "clu", state, umap=np.column_stack((10.0 * state, np.zeros(120))),
                   embedding_dir=folder / "emb", with_maps=False)
    run_json.write_run(TrainRun(data=DataConfig(particles=str(folder / "data/particles.star"), box_px=32)),
                       folder / "run" / result_files.RUN_JSON)
    return folder, state


def test_a_star_file_per_group_with_every_column(grouped, tmp_path):
    folder, state = grouped
    options = HomogeneityOptions(str(folder / "clu"), str(folder / "run"), groups=2, align=False)
    found = homogeneity.run_homogeneity(options, tmp_path)
    assert found.sizes == [60, 60]
    source = starfile.read(folder / "data/particles.star")["particles"]
    groups = [starfile.read(tmp_path / f"stars/group_{i:02d}.star") for i in range(2)]
    for blocks in groups:
        particles = blocks["particles"]
        assert list(particles.columns) == list(source.columns)
        assert len(set(state[particles["vaeParticleId"].to_numpy() - 1])) == 1
        stack = particles["rlnImageName"].iloc[0].split("@")[1]
        assert (tmp_path / "stars" / stack).resolve() == (folder / "data/particles.mrcs").resolve()
    ids = np.concatenate([blocks["particles"]["vaeParticleId"] for blocks in groups])
    assert sorted(ids) == list(range(1, 121))


def test_without_relion_the_remedy_is_named(grouped, tmp_path, monkeypatch):
    folder, _ = grouped
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"relion_refine is not on PATH.*--no-align"):
        homogeneity.run_homogeneity(HomogeneityOptions(str(folder / "clu"), str(folder / "run"), groups=2), tmp_path)


@pytest.mark.slow
@needs_relion
def test_groups_of_one_view_have_the_higher_resolution(tmp_path):
    """Halves of one projection, in any orientation, agree to a finer detail than halves of noise."""
    from vaegan_engine.evaluation.checks.relion_class import Classification, one_class_average, write_images
    from vaegan_engine.physics.image_alignment import move_image
    from vaegan_engine.simulation.phantom import phantom_states

    rng = np.random.default_rng(0)
    view = phantom_states(1, 32)[0].sum(0)
    view = (view / view.std()).astype(np.float64)
    averages = []
    for half in (1, 2):
        images = np.stack([move_image(view, angle, (0, 0)) for angle in rng.uniform(0, 360, 40)])
        images += rng.normal(size=images.shape)
        folder = tmp_path / f"half{half}"
        folder.mkdir()
        write_images(folder, images.astype(np.float32), None, np.arange(40), 9.0)
        averages.append(one_class_average(folder, Classification(250.0, 8, 1, half)))
    curve, mean = homogeneity.compare_averages(*averages, 32)
    assert curve[1:8].min() > 0.8
    assert homogeneity.align_image(mean, view).correlation > 0.9
    assert not list(tmp_path.glob("half1/class_it007*"))


@pytest.mark.slow
@needs_relion
def test_command_aligns_each_group(grouped, tmp_path):
    folder, _ = grouped
    options = HomogeneityOptions(str(folder / "clu"), str(folder / "run"), groups=2, iterations=3,
                                 compute=ComputeConfig(threads=1))
    found = homogeneity.run_homogeneity(options, tmp_path)
    assert found.rings.groups_aligned == 2
    rows = result_files.read_csv(tmp_path / homogeneity.HOMOGENEITY_CSV)
    assert [int(r["n_half1"]) + int(r["n_half2"]) for r in rows] == [60, 60]
    assert all(18 <= float(r["resolution_0.143_ang"]) <= float(r["resolution_0.5_ang"]) <= 288 for r in rows)
    assert len(result_files.read_csv(tmp_path / homogeneity.RINGS_CSV)) == 2 * 17
