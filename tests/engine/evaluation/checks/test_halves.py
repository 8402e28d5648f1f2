"""Two halves: what is trained on what, and the FSC of maps that are known."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_run import BOX_PX, FakeTrained, align_nothing, write_clusters, write_embedding
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, HalvesRun, TrainingConfig, TrainRun
from vaegan_engine.contract.status import read_status
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.evaluation.checks import halves
from vaegan_engine.training.trained_run import TrainedRun


class FakeSteps:
    """Trainings that only write their settings; embeddings by id; models that differ by ``noise``."""

    def __init__(self, noise=0.0):
        self.noise, self.trained, self.embedded = noise, [], []

    def train(self, run, folder, resume=False):
        self.trained.append((run, folder, resume))
        run_json.write_run(run, folder / result_files.RUN_JSON)

    def embed(self, run, folder):
        self.embedded.append((run.run_dir, folder))
        half = run_json.read_run(f"{run.run_dir}/run.json").data.half_set
        ids = np.arange(half, 121, 2)[::-1]
        write_embedding(folder, np.eye(3)[ids % 3], ids, np.full(len(ids), half))

    def load(self, run_dir, device):
        fake = FakeTrained()
        seed = run_json.read_run(f"{run_dir}/run.json").compute.seed
        rng = np.random.default_rng(seed)
        fake.states = fake.states + self.noise * rng.normal(size=fake.states.shape)
        return fake


@pytest.fixture
def fake_steps(monkeypatch, fake_model):
    """Put ``FakeSteps`` in place of training, embedding, model and alignment."""
    def use(noise=0.0, twin_id=None):
        fake = FakeSteps(noise)
        monkeypatch.setattr(halves, "run_train", fake.train)
        monkeypatch.setattr(halves, "run_embed", fake.embed)
        monkeypatch.setattr(TrainedRun, "load", fake.load)
        monkeypatch.setattr(halves, "align_map", align_nothing)
        monkeypatch.setattr(halves, "open_run_cache", lambda *_: SimpleNamespace(
            particle_id=np.arange(1, 121), twin_id=np.arange(1, 121) if twin_id is None else twin_id))
        return fake

    return use


@pytest.fixture
def folders(tmp_path):
    """A training on all of 120 particles, and clusters id % 3 with two particles of cluster 3 and noise."""
    whole = TrainRun(data=DataConfig(particles=str(tmp_path / "p.star"), box_px=BOX_PX),
                     training=TrainingConfig(total_kimg=64.0, encoder_kimg=16.0))
    run_json.write_run(whole, tmp_path / "run" / result_files.RUN_JSON)
    ids = np.arange(1, 121)
    labels = ids % 3
    labels[[10, 11]] = 3
    labels[[20, 40]] = -1
    write_clusters(tmp_path / "clu", labels, ids)
    return HalvesRun(clusters_dir=str(tmp_path / "clu"), run_dir=str(tmp_path / "run"))


def test_halves_share_neither_particles_nor_folders_nor_seeds(tmp_path, folders, fake_steps):
    fake = fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    (one, folder_1, _), (two, folder_2, _) = fake.trained
    assert (one.data.half_set, two.data.half_set) == (1, 2)
    assert folder_1 != folder_2
    assert one.compute.seed != two.compute.seed
    assert one.training == two.training == run_json.read_run(tmp_path / "run" / result_files.RUN_JSON).training
    assert [str(folder_1), str(folder_2)] == [run_dir for run_dir, _ in fake.embedded]


def test_images_that_are_in_both_halves_are_said(tmp_path, folders, capsys, fake_steps):
    twin_id = np.arange(1, 121)
    twin_id[[7, 9]] = 3  # of half 2, copies of one of half 1
    twin_id[6] = 5  # both of half 1
    fake_steps(twin_id=twin_id)
    halves.run_halves(folders, tmp_path / "hal")
    assert "warning: 2 images of half 2 are in half 1 too" in capsys.readouterr().out
    assert read_status(tmp_path / "hal").warning.startswith("2 images of half 2")
    fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    assert "warning" not in capsys.readouterr().out and read_status(tmp_path / "hal").warning is None


def test_same_maps_agree_to_nyquist_and_small_clusters_are_named(tmp_path, folders, capsys, fake_steps):
    fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    rows = result_files.read_json(tmp_path / "hal" / result_files.HALVES_JSON)
    assert [row["cluster"] for row in rows] == [0, 1, 2, 3]
    for row in rows[:3]:
        np.testing.assert_allclose(row["fsc"], 1, atol=1e-5)
        assert row["nyquist_frac_0.143"] == 1
        assert row["n_half1"] + row["n_half2"] >= 38
        for file in row["files"]:
            array, _ = read_map(tmp_path / "hal" / file)
            np.testing.assert_allclose(array, FakeTrained().states[row["cluster"]], atol=1e-5)
    assert "fsc" not in rows[3]
    assert "1 particles in one half, fewer than 5" in rows[3]["note"]
    assert "cluster 4: 1 particles in one half" in capsys.readouterr().out
    table = result_files.read_csv(tmp_path / "hal" / result_files.FSC_CSV)
    assert len(table) == 3 * (BOX_PX // 2 + 1)
    for row in table:
        if float(row["spatial_frequency_per_ang"]) > 0:
            assert float(row["resolution_ang"]) * float(row["spatial_frequency_per_ang"]) == pytest.approx(1, rel=1e-4)
    assert (tmp_path / "hal" / "fsc.png").stat().st_size > 1000


def test_noise_of_a_known_power_gives_its_fsc(tmp_path, folders, fake_steps):
    """Independent noise of the same power in both maps: FSC = S / (S + N) per shell."""
    noise = 0.05
    fake_steps(noise)
    halves.run_halves(folders, tmp_path / "hal")
    row = result_files.read_json(tmp_path / "hal" / result_files.HALVES_JSON)[0]
    fake = FakeTrained()
    from vaegan_engine.physics.fsc import shells_of, soft_sphere_mask
    from vaegan_engine.physics.map_comparison import MASK_EDGE_FRAC, MASK_RADIUS_FRAC

    mask = soft_sphere_mask(BOX_PX, MASK_RADIUS_FRAC * BOX_PX, MASK_EDGE_FRAC * BOX_PX)
    shell, weight = shells_of(BOX_PX, 3)
    power = np.bincount(shell, weight * np.abs(np.fft.rfftn(fake.states[0] * mask)).ravel() ** 2)
    power = (power / np.bincount(shell, weight))[:BOX_PX // 2 + 1]
    expected = power / (power + noise ** 2 * (mask ** 2).sum())
    np.testing.assert_allclose(row["fsc"][2:], expected[2:], atol=0.15)
    assert row["fsc"][-1] < row["fsc"][2]


def test_length_and_resume(tmp_path, folders, fake_steps):
    fake, run = fake_steps(), replace(folders, total_kimg=16.0)
    halves.run_halves(run, tmp_path / "hal")
    halves.run_halves(run, tmp_path / "hal")
    halves.run_halves(folders, tmp_path / "hal")
    assert (fake.trained[0][0].training.total_kimg, fake.trained[0][0].training.encoder_kimg) == (16.0, 4.0)
    assert [resume for _, _, resume in fake.trained] == [False, False, True, True, False, False]


def test_another_device_or_number_of_threads_goes_on(tmp_path, folders, fake_steps, capsys):
    fake = fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    halves.run_halves(replace(folders, compute=ComputeConfig(device="cpu", threads=1, memory_gb=20)), tmp_path / "hal")
    assert [resume for _, _, resume in fake.trained] == [False, False, True, True]
    assert "anew" not in capsys.readouterr().out
    halves.run_halves(replace(folders, total_kimg=16.0), tmp_path / "hal")
    assert capsys.readouterr().out.count("trained anew, as it was made with other settings") == 2


@pytest.mark.parametrize(("changes", "words"), [
    ({"command": "train2d"}, "halves compares maps"), ({"data": DataConfig(half_set=1)}, "data.half_set 1")])
def test_runs_without_halves_are_refused(tmp_path, folders, changes, words):
    path = tmp_path / "run" / result_files.RUN_JSON
    run_json.write_run(replace(run_json.read_run(path), **changes), path)
    with pytest.raises(ConfigError, match=words):
        halves.run_halves(folders, tmp_path / "hal")
