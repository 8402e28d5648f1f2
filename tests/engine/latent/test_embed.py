"""Latents keep the ids of the particles they were made from."""
import numpy as np
import pytest
from fake_run import BOX_PX, FakeTrained
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import ClusterRun, DataConfig, EmbedRun
from vaegan_engine.contract.status import read_status, update_status
from vaegan_engine.latent import cluster, embed
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

N = 30


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=N // 2, box_px=BOX_PX, device="cpu"), folder)
    return folder / "particles.star"


@pytest.fixture
def trained(particles, fake_model):
    from dataclasses import replace

    fake = FakeTrained()
    fake.run = replace(fake.run, data=DataConfig(particles=str(particles), box_px=BOX_PX))
    fake_model(lambda: fake)
    return fake


def test_latents_have_the_ids_and_the_values_of_their_images(tmp_path, trained, capsys):
    from vaegan_engine.data.prepared_images import open_cache

    run = EmbedRun(run_dir=str(tmp_path / "run"), batch_size=7)  # 7 does not divide 30
    update_status(tmp_path / "run", networks="of these", snr=0.2)
    embed.run_embed(run, tmp_path / "emb")
    assert "Estimated SNR 0.2: " in capsys.readouterr().out
    status = read_status(tmp_path / "emb")
    stored = result_files.read_npz(tmp_path / "emb" / result_files.LATENTS_NPZ)
    assert sorted(stored["particle_id"].tolist()) == list(range(1, N + 1))
    cache = open_cache(trained.run.data, tmp_path / "run" / result_files.CACHE)
    np.testing.assert_array_equal(stored["particle_id"], cache.particle_id)
    np.testing.assert_array_equal(stored["half_set"], cache.half_set)
    np.testing.assert_allclose(stored["z"][:, 0], np.asarray(cache.images, np.float32).mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(stored["z"][:, 2], cache.ctf[:, 0])
    assert stored["z"].dtype == np.float32
    assert (status.state, status.n_particles, status.z_dim, status.networks) == ("finished", N, 3, "of these")
    update_status(tmp_path / "run", networks="of others")  # trained on since
    with pytest.raises(DataError, match="emb was made by other networks"):
        cluster.run_cluster(ClusterRun(embedding_dir=str(tmp_path / "emb"), run_dir=run.run_dir), tmp_path / "clu")


def test_other_particles_get_a_cache_of_their_own(tmp_path, trained, particles):
    other = tmp_path / "other"
    run_simulate(SimulateOptions(phantom=1, per_map=9, box_px=BOX_PX, device="cpu", seed=4), other)
    embed.run_embed(EmbedRun(run_dir=str(tmp_path / "run"), particles=str(other / "particles.star")),
                    tmp_path / "emb")
    assert len(result_files.read_npz(tmp_path / "emb" / result_files.LATENTS_NPZ)["z"]) == 9
    assert (tmp_path / "emb" / result_files.CACHE).is_dir()
    assert not (tmp_path / "run").exists()


def test_particles_of_another_pixel_size_are_refused(tmp_path, trained):
    other = tmp_path / "other"
    run_simulate(SimulateOptions(phantom=1, per_map=3, box_px=BOX_PX, crop_frac=0.5, device="cpu"), other)
    with pytest.raises(DataError, match=r"the prepared images have 9.000 A/px, the model 18.000"):
        embed.run_embed(EmbedRun(run_dir=str(tmp_path / "run"), particles=str(other / "particles.star")),
                        tmp_path / "emb")
    assert not (tmp_path / "emb" / result_files.LATENTS_NPZ).exists()


def test_latents_that_are_not_finite_are_refused(tmp_path, trained):
    trained.encode = lambda images, ctf: FakeTrained.encode(trained, images, ctf) * float("nan")
    with pytest.raises(DataError, match="z of particle 1 is not finite"):
        embed.run_embed(EmbedRun(run_dir=str(tmp_path / "run")), tmp_path / "emb")
    assert not (tmp_path / "emb" / result_files.LATENTS_NPZ).exists()


@pytest.mark.usefixtures("trained")
def test_latents_of_a_run_before_do_not_stand_beside_other_settings(tmp_path, monkeypatch):
    """One that ends in the middle leaves none: run.json would say that they are of other particles."""
    embed.run_embed(EmbedRun(run_dir=str(tmp_path / "run")), tmp_path / "emb")
    monkeypatch.setattr(embed, "latents_of", lambda *args: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        embed.run_embed(EmbedRun(run_dir=str(tmp_path / "run"), batch_size=2), tmp_path / "emb")
    assert not (tmp_path / "emb" / result_files.LATENTS_NPZ).exists()
    assert read_status(tmp_path / "emb").state == "running"
