"""The trained pose prior: rotations, a uniform start, gradients, and the report of its collapse."""
import json

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES
from vaegan_engine.cli import main
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import TrainRun
from vaegan_engine.contract.status import read_status
from vaegan_engine.networks import pose_network
from vaegan_engine.networks.pose_network import CAMERA_LATENT, CameraNetwork, gram_schmidt
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate
from vaegan_engine.training import train
from vaegan_engine.training.batch_parts import Whole
from vaegan_engine.training.pose_watch import camera_completeness
from vaegan_engine.training.trainer import Trainer


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=30, box_px=16), folder)
    return folder / "particles.star"


def tiny(particles, generator="siren"):
    return presets.build_run("train3d", "thesis-3d-camera", {
        "data": {"particles": str(particles), "box_px": 16},
        "model": {"critic_width": 8, "encoder_width": 8, "generator_width": 32, "generator": generator},
        "training": {"total_kimg": 0.032, "tick_kimg": 0.016, "batch_size": 8, "generator_lr": 1e-3},
        "compute": {"device": "cpu", "threads": 1}})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gram_schmidt_makes_rotations_of_any_six_numbers(dtype):
    rtol, atol = TOLERANCES[dtype]
    v = torch.randn(50, 6, generator=rng(), dtype=getattr(torch, dtype))
    rotations = gram_schmidt(v)
    eye = torch.eye(3, dtype=v.dtype).expand(50, 3, 3)
    assert torch.allclose(rotations @ rotations.mT, eye, rtol=rtol, atol=10 * atol)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(50, dtype=v.dtype), rtol=rtol, atol=10 * atol)
    for row, six in zip(rotations.double().numpy(), v.double().numpy(), strict=True):  # QR, positive diagonal
        q, r = np.linalg.qr(six.reshape(2, 3).T)
        u = (q * np.sign(np.diag(r))).T
        assert np.allclose(row, [*u, np.cross(*u)], atol=20 * atol)


def test_gram_schmidt_leaves_a_rotation_and_scales_alone():
    rotations = gram_schmidt(torch.randn(20, 6, generator=rng(), dtype=torch.float64))
    scaled = torch.cat((2.5 * rotations[:, 0], 0.1 * rotations[:, 1] - 3 * rotations[:, 0]), dim=1)
    assert torch.allclose(gram_schmidt(scaled), rotations, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    v = torch.randn(3, 6, generator=rng(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gram_schmidt, (v,))


def test_without_its_perturbation_the_camera_is_uniform():
    torch.manual_seed(0)
    net = CameraNetwork(16).requires_grad_(False)
    net.last.weight.zero_()
    rotations = net.sample(20000, rng()).double()
    # moments of the uniform distribution: E A = 0, E A_ij^2 = 1/3, E trace(A) = 0, E trace(A)^2 = 1
    assert float(rotations.mean(0).abs().max()) < 5 / np.sqrt(3 * 20000)
    assert float((rotations.square().mean(0) - 1 / 3).abs().max()) < 5 * np.sqrt(4 / 45 / 20000)
    trace = rotations.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(float(trace.square().mean()) - 1) < 5 * np.sqrt(2 / 20000)
    assert camera_completeness(net, 20000).scf > 0.98


def test_an_untrained_camera_is_nearly_complete():
    for seed in range(3):
        torch.manual_seed(seed)
        assert camera_completeness(CameraNetwork(128), 4000).scf > 0.9


@pytest.mark.parametrize("generator", ["siren", "voxel"])
def test_the_camera_is_trained_with_the_generator_and_by_nothing_else(particles, generator):
    run = tiny(particles, generator)
    trainer = Trainer(run, 16, 4.0, torch.device("cpu"))
    net = trainer.vae_gan.camera
    owned = {name for name, optimizer in trainer.optimizers.items() for group in optimizer.param_groups
             for parameter in group["params"] if parameter is net.last.weight}
    assert owned == {"generator"}
    real, ctf = torch.randn(8, 16, 16, generator=rng()), torch.ones(8, 16, 9)
    before = net.last.weight.clone()
    source = trainer.vae_gan.generator.source()
    shared, still = (None if x is None else Whole(x, by_image=False) for x in (
        source, None if source is None else source.detach()))
    trainer._critic_step(real, ctf, still)
    trainer._encoder_step_perceptual(real, ctf, still)
    assert torch.equal(net.last.weight, before) and net.last.weight.grad is None
    trainer._generator_step(real, ctf, shared)
    assert float(net.last.weight.grad.abs().max()) > 0 and not torch.equal(net.last.weight, before)


@pytest.mark.slow
def test_scf_is_logged_and_a_collapse_is_reported_once(particles, tmp_path, capsys, monkeypatch):
    run = tiny(particles)
    train.run_train(run, tmp_path / "good")
    assert [row["scf"] > 0.5 for row in result_files.read_jsonl(tmp_path / "good" / result_files.LOG_JSONL)] == [
        True,
        True,
    ]
    status = read_status(tmp_path / "good")
    assert status.scf > 0.5 and status.warning is None
    assert "collapsed" not in capsys.readouterr().err

    def stare(self, zc):
        return gram_schmidt(0 * zc[:, :6] + self.last.bias + torch.arange(6.0).roll(1) + 1)

    monkeypatch.setattr(pose_network.CameraNetwork, "forward", stare)
    train.run_train(run, tmp_path / "bad")
    assert [row["scf"] for row in result_files.read_jsonl(tmp_path / "bad" / result_files.LOG_JSONL)] == [0.0, 0.0]
    status = read_status(tmp_path / "bad")
    assert status.scf == 0.0 and "0.000, below 0.5" in status.warning
    assert capsys.readouterr().err.count("collapsed") == 1


@pytest.mark.slow
def test_scf_of_a_run_and_refusals(particles, tmp_path, capsys):
    run = tiny(particles)
    train.run_train(run, tmp_path / "run")
    assert main.main(["scf", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / result_files.SCF_JSON).read_text())
    assert found["n_views"] == 30000 and found["unsampled_frac"] == 0 and 0.9 < found["scf"] <= 1
    assert f"SCF {found['scf']:.3f} of 30000 views" in capsys.readouterr().out
    assert main.main(["scf"]) == ConfigError.exit_code
    with pytest.raises(ConfigError, match="2D"):
        presets.build_run("train2d", "fast", {"model": {"pose_prior": "camera"}})
    uniform = run_json.merged(run_json.to_dict(run), {"model": {"pose_prior": "uniform"}})
    train.run_train(run_json.from_dict(TrainRun, uniform), tmp_path / "uniform")
    assert main.main(["scf", "--run", str(tmp_path / "uniform")]) == ConfigError.exit_code
    assert CAMERA_LATENT == 64
