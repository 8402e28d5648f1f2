"""The networks of a run, with and without a trainer around them."""
import pytest
import torch
from vaegan_engine.contract import presets
from vaegan_engine.networks import latent_vector
from vaegan_engine.networks.critic_encoder import Critic, build_encoder
from vaegan_engine.networks.generators import build_generator
from vaegan_engine.networks.noise import NoiseGenerator
from vaegan_engine.networks.vae_gan import Frame, VaeGan
from vaegan_engine.training import checkpoints, trained_run
from vaegan_engine.training.trainer import Trainer

CPU = torch.device("cpu")
PRESETS = [(command, name) for command, named in presets.PRESETS.items() for name, preset in named.items()
           if not preset.poses]


def small(command, name):
    return presets.build_run(command, name, {
        "data": {"box_px": 16}, "model": {"critic_width": 4, "encoder_width": 4, "generator_width": 32}})


@pytest.mark.parametrize(("command", "name"), PRESETS)
def test_weights_are_drawn_generator_noise_critic_encoder(command, name):
    """The order in which the first random numbers are used: a seed means the same networks in every release."""
    run = small(command, name)
    trainer = Trainer(run, 16, 4.0, CPU)
    torch.manual_seed(run.compute.seed)
    rng = torch.Generator().manual_seed(run.compute.seed)
    expected = {"generator": build_generator(run.model, 16, run.data.particle_radius_frac, rng),
                "noise": NoiseGenerator(run.model.noise, 16, 8), "critic": Critic(run.model, 16)}
    if not run.model.homogeneous:
        expected["encoder"] = build_encoder(run.model, latent_vector.encoder_outputs(run.model), 16)
    for part, module in expected.items():
        found = trainer.modules()[part].state_dict()
        for key, value in module.state_dict().items():
            assert torch.equal(found[key], value), (part, key)


def test_reading_a_training_back_builds_no_critic_and_no_optimiser(tmp_path, monkeypatch):
    run = small("train3d", "fast")
    trainer = Trainer(run, 16, 4.0, CPU)
    state = {"box_px": 16, "pixel_size_ang": 4.0,
             "modules": {name: module.state_dict() for name, module in trainer.modules().items()}}
    images, table = torch.randn(1, 16, 16), torch.tensor([[15000.0, 14000, 10, 300, 2, 0.1, 0]])
    expected = trainer.vae_gan.encode_head(images, table)

    def refused(self, *args, **kwargs):
        raise AssertionError(f"{type(self).__name__} was built")

    monkeypatch.setattr(Critic, "__init__", refused)
    monkeypatch.setattr(torch.optim.Adam, "__init__", refused)
    monkeypatch.setattr(checkpoints, "newest", lambda folder: tmp_path)
    monkeypatch.setattr(checkpoints, "read", lambda path, device: state)
    monkeypatch.setattr(checkpoints, "read_training", lambda folder: run)
    trained = trained_run.TrainedRun.load(tmp_path)
    assert torch.equal(trained.encode_head(images, table), expected)
    assert isinstance(trained.vae_gan, VaeGan) and "critic" not in trained.vae_gan.modules()
    assert trained.decode(torch.eye(6)[:2]).shape == (2, 16, 16, 16)
    assert Frame(16, 4.0) == Frame(trained.box_px, trained.pixel_size_ang)
