"""Training with poses, from particles and a pose table to posteriors; small, and on one thread."""
import numpy as np
import pytest
import torch
from vaegan_engine.contract import presets, result_files
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import EmbedRun
from vaegan_engine.data.particle_tables import read_latents
from vaegan_engine.data.prepared_images import open_cache
from vaegan_engine.latent.embed import run_embed
from vaegan_engine.physics.rotations import euler_to_matrix
from vaegan_engine.reconstruction.map_family import Spreads, seen
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate
from vaegan_engine.training import checkpoints, train
from vaegan_engine.training.decoded import load_trained
from vaegan_engine.training.posed_images import posed_particles
from vaegan_engine.training.posed_run import PosedRun
from vaegan_engine.training.posed_trainer import PosedTrainer

BOX, PER_MAP = 24, 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two states of the phantom; the true poses as a folder of refine, one particle junk and one missing."""
    where = tmp_path_factory.mktemp("posed")
    run_simulate(SimulateOptions(phantom=2, per_map=PER_MAP, box_px=BOX, snr=0.5), where)
    truth = result_files.read_csv(where / "truth.csv")
    pixel_ang = 18.0 * 16 / BOX
    header = ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang", "contrast"]
    result_files.write_csv(where / "poses" / result_files.PARTICLES_CSV, header, (
        [row["id"], -1 if row["id"] == "3" else 0, row["rot_deg"], row["tilt_deg"], row["psi_deg"],
         pixel_ang * float(row["shift_x_px"]), pixel_ang * float(row["shift_y_px"]), 1]
        for row in truth[::-1] if row["id"] != "5"))
    return where


def tiny(folder, **changes):
    values = {"data": {"particles": str(folder / "particles.star"), "poses_dir": str(folder / "poses"), "box_px": BOX},
              "model": {"n_normal": 2, "n_basis": 2, "generator_width": 16, "critic_width": 4},
              "training": {"total_kimg": 3.0, "round_kimg": 1.0, "batch_size": 64, "tick_kimg": 1.0,
                           "checkpoint_kimg": 1.0, "band_shells": 8.0, "start_rounds": 3, "adversarial_batch": 8},
              "compute": {"device": "cpu", "threads": 1}}
    for part, some in changes.items():
        values[part] = {**values[part], **some}
    return presets.build_run("train3d", "posed", values)


def embedded(run, out):
    train.run_train(run, out)
    run_embed(EmbedRun(run_dir=str(out), compute=run.compute), out / "z")
    return read_latents(out / "z")


def test_two_states_lie_apart_and_particles_without_a_pose_are_left_out(folder, tmp_path):
    latents = embedded(tiny(folder), tmp_path / "run")
    truth = {int(row["id"]): int(row["map"]) for row in result_files.read_csv(folder / "truth.csv")}
    assert set(truth) - set(latents.particle_id.tolist()) == {3, 5}
    label, z = np.array([truth[i] for i in latents.particle_id]), latents.z
    one, other = z[label == 0], z[label == 1]
    assert (np.abs(one.mean(0) - other.mean(0)) / np.sqrt(0.5 * (one.var(0) + other.var(0)))).max() > 4
    precision = result_files.read_npz(tmp_path / "run" / "z" / result_files.LATENTS_NPZ)["precision"]
    assert precision.shape == (len(z), 2, 2) and np.linalg.eigvalsh(precision).min() > 0.5
    trained = load_trained(str(tmp_path / "run"), tiny(folder).compute)
    assert isinstance(trained, PosedRun)
    maps = trained.decode(np.stack([z[label == k].mean(0) for k in (0, 1)]))
    assert maps.shape == (2, BOX, BOX, BOX) and np.abs(maps[0] - maps[1]).max() > 0.1 * maps.std()
    log = result_files.read_jsonl(tmp_path / "run" / result_files.LOG_JSONL)[-1]
    assert {"negative_log_likelihood", "kl", "rotation_spread_deg"} <= log.keys() and "critic_loss" not in log


def test_a_resumed_training_is_the_same_to_the_bit(folder, tmp_path, monkeypatch):
    """Stopped between two steps of the maps; likelihood and critic both at work."""
    run = tiny(folder, training={"adversarial_weight": 1.0, "total_kimg": 1.5, "round_kimg": 0.5, "tick_kimg": 0.4,
                                 "checkpoint_kimg": 0.4})
    train.run_train(run, tmp_path / "whole")
    step = PosedTrainer.step

    def stumbling(self, rows):
        if self.images_seen >= 1000:
            raise KeyboardInterrupt
        return step(self, rows)

    monkeypatch.setattr(PosedTrainer, "step", stumbling)
    with pytest.raises(KeyboardInterrupt):
        train.run_train(run, tmp_path / "parts")
    monkeypatch.setattr(PosedTrainer, "step", step)
    train.run_train(run, tmp_path / "parts", resume=True)
    a, b = (checkpoints.read(checkpoints.newest(tmp_path / x))["modules"] for x in ("whole", "parts"))
    assert {"generator", "encoder", "critic"} == a.keys()
    for module in a:
        for key, value in a[module].items():
            assert torch.equal(value, b[module][key]), (module, key)


def test_the_adversarial_part_alone_trains_maps_and_encoder(folder, tmp_path):
    run = tiny(folder, training={"likelihood_weight": 0.0, "adversarial_weight": 1.0, "start_rounds": 0,
                                 "total_kimg": 0.2, "batch_size": 8, "tick_kimg": 0.1})
    train.run_train(run, tmp_path)
    log = result_files.read_jsonl(tmp_path / result_files.LOG_JSONL)[-1]
    assert {"critic_loss", "generator_loss", "encoder_loss"} <= log.keys() and "kl" not in log


def test_pairs_are_turned_to_one_in_plane_angle(folder, tmp_path):
    """The mean map's projection is the same picture at every psi of one view."""
    run = tiny(folder)
    cache = open_cache(run.data, tmp_path / "cache", progress=False)
    particles = posed_particles(run, cache, torch.device("cpu"))
    trainer = PosedTrainer(run, train.Frame(BOX, 12.0), particles, torch.device("cpu"))
    n = 6
    psi = torch.linspace(0, 300, n)
    A = euler_to_matrix(torch.full((n,), 40.0), torch.full((n,), 60.0), psi)
    trainer.pairs.psi_rad = torch.deg2rad(psi)
    trainer.begin()
    images = particles.part(torch.arange(n))
    images = images._replace(A=A, ctf=torch.ones_like(images.ctf))
    found = seen(trainer._family(), images, torch.ones_like(particles.band.weight), Spreads())
    expected = trainer.pairs.expected(found)
    made = trainer.pairs.images(expected, expected, torch.arange(n))[:, 0]
    middle = made[:, 6:-6, 6:-6].flatten(1)
    assert float(torch.corrcoef(middle).min()) > 0.95
    noise = trainer.pairs.simulated(found, torch.zeros(n, 2), torch.Generator().manual_seed(0))
    assert noise.shape == expected.shape


@pytest.mark.parametrize(("changes", "word"), [
    ({"model": {"generator": "voxel"}}, "generator"), ({"model": {"n_normal": 3}}, "n_basis"),
    ({"training": {"likelihood_weight": 0.0}}, "nothing to train"), ({"data": {"input_poses": True}}, "one place"),
    ({"data": {"poses_dir": ""}}, "without poses"), ({"training": {"band_shells": 12.0}}, "band_shells"),
])
def test_settings_that_do_not_go_together_are_refused(folder, changes, word):
    with pytest.raises(ConfigError, match=word):
        tiny(folder, **changes)
