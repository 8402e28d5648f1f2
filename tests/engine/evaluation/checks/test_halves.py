"""Two halves: what is trained on what, and the FSC of maps that are known."""
from dataclasses import replace

import numpy as np
import pytest
from fake_run import BOX_PX, FakeTrained, align_nothing, write_clusters, write_embedding
from particle_files import noise_images, optics_columns, particle_columns, write_stack, write_star
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, HalvesRun, TrainingConfig, TrainRun
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.data.prepared_images import open_cache
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
        data = run_json.read_run(f"{run.run_dir}/run.json").data
        cache = open_cache(data, f"{run.run_dir}/cache")
        ids = cache.particle_id[::-1]
        write_embedding(folder, np.eye(3)[ids % 3], ids, cache.half_set)

    def load(self, run_dir, device):
        fake = FakeTrained()
        seed = run_json.read_run(f"{run_dir}/run.json").compute.seed
        rng = np.random.default_rng(seed)
        fake.states = fake.states + self.noise * rng.normal(size=fake.states.shape)
        return fake


@pytest.fixture
def fake_steps(monkeypatch, fake_model):
    """Put ``FakeSteps`` in place of training, embedding, model and alignment."""
    def use(noise=0.0):
        fake = FakeSteps(noise)
        monkeypatch.setattr(halves, "run_train", fake.train)
        monkeypatch.setattr(halves, "run_embed", fake.embed)
        monkeypatch.setattr(TrainedRun, "load", fake.load)
        monkeypatch.setattr(halves, "align_map", align_nothing)
        return fake

    return use


def star_with(folder, half_set):
    """The star file of 120 particles in half sets."""
    return write_star(folder / "p.star", {**particle_columns(120), "rlnRandomSubset": half_set}, optics_columns())


def ids_of(folder):
    """Particles that the two halves are trained on."""
    return [np.load(folder / f"half{half}" / "cache" / "table.npz")["particle_id"] for half in (1, 2)]


@pytest.fixture
def folders(tmp_path):
    """A training on all of 120 particles, and clusters id % 3 with two particles of cluster 3 and noise."""
    write_stack(tmp_path / "particles.mrcs", noise_images(120, BOX_PX))
    star_with(tmp_path, 1 + (np.arange(1, 121) + 1) % 2)
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


def posed(tmp_path, folders, half_set_of):
    """The training at poses of a folder of states, in which every particle has the half set ``half_set_of(id)``."""
    result_files.write_csv(tmp_path / "states" / result_files.PARTICLES_CSV,
                           ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang",
                            "half_set"],
                           [[i, -1 if i > 100 else 0, 1, 2, 3, 0, 0, half_set_of(i)] for i in range(1, 121)])
    path = tmp_path / "run" / result_files.RUN_JSON
    whole = run_json.read_run(path)
    run_json.write_run(replace(whole, data=replace(whole.data, poses_dir=str(tmp_path / "states"))), path)


def test_halves_are_those_that_the_poses_were_refined_in(tmp_path, folders, fake_steps):
    """``states`` drew them anew, as those of the star file went with a state; junk is in neither."""
    fake_steps()
    posed(tmp_path, folders, lambda i: 1 + (i - 1) // 4 % 2)
    halves.run_halves(folders, tmp_path / "hal")
    ids = np.arange(1, 101)
    for half, found in zip((1, 2), ids_of(tmp_path / "hal"), strict=True):
        np.testing.assert_array_equal(found, ids[1 + (ids - 1) // 4 % 2 == half])


def test_other_half_sets_of_the_poses_are_trained_anew(tmp_path, folders, fake_steps, capsys):
    fake = fake_steps()
    for period in (4, 4, 8):
        posed(tmp_path, folders, lambda i, period=period: 1 + (i - 1) // period % 2)
        halves.run_halves(folders, tmp_path / "hal")
    assert [resume for _, _, resume in fake.trained] == [False, False, True, True, False, False]
    assert capsys.readouterr().out.count("trained anew, as it was made with other particles") == 2


def test_copies_of_an_image_are_in_one_half(tmp_path, folders, fake_steps, capsys):
    """The star file has the copies of 12 images, pixel by pixel, in the other half set."""
    images = noise_images(120, BOX_PX)
    images[13:24:2] = images[12:24:2]
    write_stack(tmp_path / "particles.mrcs", images)
    fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    first, second = ids_of(tmp_path / "hal")
    assert np.isin(np.arange(13, 25), first).all() and not np.isin(np.arange(13, 25), second).any()
    assert len(first) + len(second) == 120
    assert "6 that have the image of another one are taken into that one's half set" in capsys.readouterr().out


def test_half_sets_of_which_one_is_tiny_are_drawn_anew(tmp_path, folders, fake_steps, capsys):
    star_with(tmp_path, [1] * 119 + [2])
    fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    assert min(map(len, ids_of(tmp_path / "hal"))) > 40
    assert "NOT USED, both halves are drawn anew" in capsys.readouterr().out


def test_an_empty_half_is_refused_before_anything_is_trained(tmp_path, folders, fake_steps):
    """All rows are copies of one image: whatever half it is in, the other one is empty."""
    write_stack(tmp_path / "particles.mrcs", np.repeat(noise_images(1, BOX_PX), 120, 0))
    fake = fake_steps()
    with pytest.raises(DataError, match=r"120 are of half set 1 and 0 of 2|0 are of half set 1 and 120 of 2"):
        halves.run_halves(folders, tmp_path / "hal")
    assert not fake.trained and not (tmp_path / "hal").exists()


def test_images_of_a_half_are_those_of_the_whole(tmp_path, folders, fake_steps):
    fake_steps()
    halves.run_halves(folders, tmp_path / "hal")
    whole = open_cache(run_json.read_run(tmp_path / "run" / result_files.RUN_JSON).data, tmp_path / "run" / "cache")
    for half in (1, 2):
        data = run_json.read_run(tmp_path / "hal" / f"half{half}" / result_files.RUN_JSON).data
        before = (tmp_path / "hal" / f"half{half}" / "cache" / "meta.json").stat().st_mtime_ns
        part = open_cache(data, tmp_path / "hal" / f"half{half}" / "cache")
        assert (tmp_path / "hal" / f"half{half}" / "cache" / "meta.json").stat().st_mtime_ns == before
        rows = np.flatnonzero(whole.half_set == half)
        np.testing.assert_array_equal(part.images, whole.images[rows])
        np.testing.assert_array_equal(part.particle_id, whole.particle_id[rows])
        np.testing.assert_array_equal(part.ctf, whole.ctf[rows])
