"""Presets: their numbers, that each of them trains, resumes and is listed."""
import numpy as np
import pytest
import torch
from vaegan_engine.cli import main
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import EmbedRun
from vaegan_engine.contract.status import read_status
from vaegan_engine.latent.embed import run_embed
from vaegan_engine.networks.cyclic import AdaptivePolyphase
from vaegan_engine.networks.layers import GaborConv, PolarWarp
from vaegan_engine.networks.noise import NoiseGenerator, diversity
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate
from vaegan_engine.training import checkpoints, train
from vaegan_engine.training.trained_run import TrainedRun
from vaegan_engine.training.trainer import Trainer

NAMES = [(command, name) for command, named in presets.PRESETS.items() for name, preset in named.items()
         if not preset.poses]
THESIS = [pair for pair in NAMES if pair[1] != "fast"]
ISSUE = {"thesis-2d", "thesis-2d-no-noise", "thesis-2d-variant", "thesis-3d", "thesis-3d-camera",
         "thesis-3d-no-noise", "thesis-3d-variant", "thesis-3d-homogeneous", "fast"}


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=30, box_px=16), folder)
    return folder / "particles.star"


def small(command, name, particles, **changes):
    values = {"data": {"particles": str(particles), "box_px": 16},
              "model": {"critic_width": 8, "encoder_width": 8, "generator_width": 32},
              "training": {"total_kimg": 0.032, "tick_kimg": 0.016, "checkpoint_kimg": 0.016, "batch_size": 8},
              "compute": {"device": "cpu", "threads": 1}}
    return presets.build_run(command, name, run_json.merged(values, changes))


def test_every_configuration_of_the_thesis_has_a_preset_and_a_line(capsys):
    assert {name for _, name in NAMES} == ISSUE
    assert main.main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [tuple(line.split()[:2]) for line in lines] == [
        (name, command) for command, named in presets.PRESETS.items() for name in named]
    assert all(len(line.split(None, 2)[2]) > 20 for line in lines)


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'thesis'.*thesis-3d-camera"):
        presets.build_run("train3d", "thesis", {})


@pytest.mark.parametrize(("command", "name"), THESIS)
def test_thesis_presets_hold_the_thesis_numbers(command, name):
    run = presets.build_run(command, name, {})
    c, model = run.training, run.model
    assert (run.data.box_px, run.data.resize, model.n_categories, model.n_normal) == (64, "lanczos5", 0, 10)
    assert c.total_kimg * 1000 / c.batch_size == (200_000 if command == "train2d" else 250_000)
    assert (c.batch_size, c.loss, c.gradient_penalty) == (16, "wgan_gp", 10.0)
    assert {c.critic_lr, c.generator_lr, c.encoder_lr} == {1e-5} and (c.adam_beta1, c.adam_beta2) == (0.9, 0.999)
    assert (c.perceptual_weight, c.diversity_weight, c.kl_weight) == (0.2, 0.02, 1.0)
    assert (c.lr_schedule, c.lr_decay, c.lr_decay_kimg * 1000 / c.batch_size) == ("exponential", 0.96, 10_000)
    assert c.tick_kimg * 1000 / c.batch_size == 1000
    assert abs(0.5 ** (c.batch_size / (c.ema_half_life_kimg * 1000)) - 0.96) < 1e-4


@pytest.mark.parametrize(("command", "name"), THESIS)
def test_presets_are_built_of_the_parts_they_name(command, name):
    trainer = Trainer(small(command, name, "x.star"), 16, 4.0, torch.device("cpu"))
    modules = [m for part in (trainer.critic, trainer.vae_gan.encoder) if part is not None for m in part.modules()]
    kinds = {type(m) for m in modules}
    convolutions = [m for m in modules if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)]
    variant = "variant" in name
    assert (AdaptivePolyphase in kinds) != variant and (torch.nn.MaxPool2d in kinds) == variant
    assert {m.padding_mode for m in convolutions} == {"zeros" if variant else "circular"}
    assert (GaborConv in kinds) == (command == "train3d" and not variant)
    assert (PolarWarp in kinds) == (command == "train2d" and not variant)
    assert ((5, 5) in {m.kernel_size for m in convolutions}) == (GaborConv not in kinds)
    assert trainer.vae_gan.noise.kind == ("none" if "no-noise" in name else "gaussian_map")
    assert (trainer.vae_gan.camera is not None) == ("camera" in name)
    assert (trainer.vae_gan.encoder is None) == ("homogeneous" in name)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name"), THESIS)
def test_thesis_presets_train_and_resume_bitwise(particles, tmp_path, command, name):
    """Dropout included: its masks follow the seed and the step."""
    run = small(command, name, particles)
    train.run_train(run, tmp_path / "whole")
    row = result_files.read_jsonl(tmp_path / "whole" / result_files.LOG_JSONL)[-1]
    wanted = {"critic_loss", "gradient_penalty", "generator_loss"}
    wanted |= set() if "homogeneous" in name else {"kl", "perceptual"}
    wanted |= set() if "no-noise" in name else {"diversity"}
    wanted |= {"scf"} if "camera" in name else set()
    assert wanted <= row.keys()
    half = small(command, name, particles, training={"total_kimg": 0.016})
    train.run_train(half, tmp_path / "parts")
    torch.rand(3)  # the global generator is not what a run depends on
    train.run_train(run, tmp_path / "parts", resume=True)
    a, b = (checkpoints.read(checkpoints.newest(tmp_path / x))["modules"] for x in ("whole", "parts"))
    assert a.keys() == b.keys()
    for module in a:
        for key, value in a[module].items():
            assert torch.equal(value, b[module][key]), (module, key)


def test_homogeneous_run_leaves_its_one_map_and_no_encoder(particles, tmp_path):
    train.run_train(small("train3d", "thesis-3d-homogeneous", particles), tmp_path)
    (row,) = result_files.read_json(tmp_path / "components.json")
    assert row["z"] == [1.0] * 10 and (tmp_path / row["file"]).exists()
    assert len(list((tmp_path / result_files.MAPS).glob("*.mrc"))) == 1
    trained = TrainedRun.load(tmp_path)
    made = trained.decode(np.ones((1, 10), np.float32))
    assert made.shape == (1, 16, 16, 16) and made.std() > 0
    with pytest.raises(ConfigError, match="homogeneous") as refusal:
        run_embed(EmbedRun(run_dir=str(tmp_path)), tmp_path / "z")
    assert "thesis-3d" in refusal.value.hint
    with pytest.raises(ConfigError, match="homogeneous"):
        trained.encode(torch.zeros(1, 16, 16), torch.zeros(1, 7))


@pytest.mark.parametrize("noise", ["scalar", "radial", "poisson_map"])
def test_every_noise_goes_with_the_thesis_model(particles, tmp_path, noise):
    run = small("train3d", "thesis-3d", particles, model={"noise": noise}, training={"total_kimg": 0.016})
    train.run_train(run, tmp_path)
    assert read_status(tmp_path).state == "finished"


@pytest.mark.parametrize("changes", [
    {"loss": "hinge", "gradient_penalty": 1.0}, {"loss": "rpgan", "gradient_penalty": 1.0},
    {"critic_reconstructions": True}])
def test_every_loss_goes_with_the_thesis_model(particles, tmp_path, changes):
    run = small("train3d", "thesis-3d", particles, training={"total_kimg": 0.016, **changes})
    train.run_train(run, tmp_path)
    assert read_status(tmp_path).state == "finished"


@pytest.mark.parametrize("noise", ["gaussian_map", "poisson_map"])
def test_diversity_is_the_ratio_of_mean_absolute_differences(noise):
    torch.manual_seed(0)
    net = NoiseGenerator(noise, 16, 8).eval()
    state = torch.Generator().manual_seed(5)
    drawn = net.draw(4, torch.Generator().manual_seed(5))
    assert torch.equal(drawn.eps, torch.randn(4, 16, 16, generator=state))
    z = torch.randn(4, 100, generator=state)
    sigma = net.sigma_map(z)
    pairs = [((sigma[i] - sigma[i - 1]).abs().mean() / (z[i] - z[i - 1]).abs().mean()) for i in range(4)]
    assert torch.allclose(diversity(drawn.latent, sigma), sum(pairs) / 4)


@pytest.mark.parametrize(("loss", "objective"), [("hinge", "perceptual"), ("rpgan", "perceptual"),
                                                 ("wgan_gp", "regression")])
def test_reconstructions_for_the_critic_are_refused_where_they_mean_nothing(loss, objective):
    with pytest.raises(ConfigError, match="critic_reconstructions"):
        presets.build_run("train3d", "thesis-3d", {"training": {
            "loss": loss, "encoder_objective": objective, "critic_reconstructions": True}})
