"""Layers against the symmetries they claim."""
import math

import pytest
import torch
from vaegan_engine.contract.settings import ModelConfig
from vaegan_engine.networks import cyclic
from vaegan_engine.networks.critic_encoder import Critic, Encoder, input_channels, pooled
from vaegan_engine.networks.cyclic import AdaptivePolyphase
from vaegan_engine.networks.image_decoder import DcGan
from vaegan_engine.networks.layers import GaborConv, PolarWarp, conv
from vaegan_engine.networks.noise import NOISE_LATENT, NoiseGenerator, diversity


def random_images(n: int, d: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("downsampling", ["aps", "blur_aps"])
@pytest.mark.parametrize("first_layer", ["conv", "gabor"])
def test_features_are_unchanged_by_every_cyclic_shift(first_layer, downsampling):
    model = ModelConfig(ctf_channels=False, first_layer=first_layer, downsampling=downsampling,
                        critic_width=4)
    torch.manual_seed(0)
    critic = Critic(model, 16).double().eval()
    image = random_images(1, 16, torch.float64)
    shifted = torch.cat([image.roll((i, j), (1, 2)) for i in range(16) for j in range(16)])
    with torch.no_grad():
        scores, features = critic(shifted[:, None])
    found = pooled(features, "mean_max")
    assert found.std() > 1e-3
    assert (found - found[0]).abs().max() < 1e-12
    assert (scores - scores[0]).abs().max() < 1e-12


@pytest.mark.slow
def test_all_4096_shifts_of_a_64_px_image_give_one_feature_vector():
    """The encoder's trunk, which is the critic's; float64: equal to rounding."""
    model = ModelConfig(ctf_channels=False, downsampling="aps", pooling="mean", encoder_width=1)
    torch.manual_seed(0)
    encoder = Encoder(model, 20, 64).double().eval()
    image = random_images(1, 64, torch.float64)[0]
    with torch.no_grad():
        vectors = torch.cat([encoder(torch.stack([image.roll((i, j), (0, 1)) for j in range(64)])[:, None])
                             for i in range(64)])
    assert vectors.shape == (4096, 20) and float(vectors.abs().max()) > 0.01
    assert float((vectors - vectors[0]).abs().max()) < 1e-13


def test_max_pooling_is_not_shift_invariant():
    """The variant must show a difference, or the test above could not fail."""
    torch.manual_seed(0)
    critic = Critic(ModelConfig(ctf_channels=False, downsampling="maxpool", critic_width=4), 16).double()
    image = random_images(1, 16, torch.float64)
    with torch.no_grad():
        a = critic(image[:, None])[1].mean((2, 3))
        b = critic(image.roll((1, 3), (1, 2))[:, None])[1].mean((2, 3))
    assert (a - b).abs().max() > 1e-3


def test_polyphase_keeps_the_strongest_component():
    x = torch.zeros(2, 1, 4, 4)
    x[0, 0, 1::2, 0::2] = 3.0
    x[1, 0, 0::2, 1::2] = 2.0
    out = AdaptivePolyphase(blur=False)(x)
    assert torch.equal(out[0, 0], torch.full((2, 2), 3.0))
    assert torch.equal(out[1, 0], torch.full((2, 2), 2.0))


def test_gabor_filter_is_its_closed_form():
    layer = GaborConv(1, 2, 5, cyclic=True)
    with torch.no_grad():
        layer.theta_rad.copy_(torch.tensor([0.0, math.pi / 2]))
        layer.sigma_px.fill_(1.5)
        layer.wavelength_px.fill_(4.0)
        layer.gamma.fill_(0.5)
    kernels = layer.kernels()[:, 0].detach()
    for x in range(-2, 3):
        for y in range(-2, 3):
            expected = math.exp(-(x * x + 0.25 * y * y) / 4.5) * math.cos(math.pi * x / 2)
            assert abs(float(kernels[0, y + 2, x + 2]) - expected) < 1e-6
    assert torch.allclose(kernels[1], kernels[0].T, atol=1e-6)


def test_polar_warp_turns_a_rotation_into_a_cyclic_shift():
    d = 32
    grid = torch.arange(d) - d // 2
    y, x = torch.meshgrid(grid.double(), grid.double(), indexing="ij")

    def blob(angle_rad: float) -> torch.Tensor:
        cx, cy = 7 * math.cos(angle_rad), 7 * math.sin(angle_rad)
        return torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 2.5**2))

    warp = PolarWarp(d)
    step = 2 * math.pi / d
    a, b = warp(blob(0.3)[None, None]), warp(blob(0.3 + 5 * step)[None, None])
    assert (a.roll(5, -1) - b).abs().max() < 0.03 * a.max()


@pytest.mark.parametrize("box_px", [24, 30, 32])
def test_dcgan_makes_images_of_the_box(box_px):
    assert DcGan(5, 8, box_px)(torch.randn(3, 5)).shape == (3, box_px, box_px)


def test_networks_take_every_batch_and_box():
    for box_px, n in ((16, 1), (24, 3)):
        model = ModelConfig(critic_width=4, encoder_width=4)
        x = torch.randn(n, 2, box_px, box_px)
        score, features = Critic(model, box_px)(x)
        assert score.shape == (n,) and features.shape == (n, 32, box_px // 8, box_px // 8)
        assert Encoder(model, 7, box_px)(x).shape == (n, 7)


def test_filtered_channel_is_the_stated_filter():
    images = random_images(2, 16, torch.float64)
    ctf = torch.full((2, 16, 9), -0.5, dtype=torch.float64)
    channels = input_channels(images, ctf, ModelConfig())
    assert torch.equal(channels[:, 0], images)
    assert torch.allclose(channels[:, 1], images * (-0.5 / 0.75))


def test_radial_noise_has_the_spectrum_asked_for():
    d, n = 32, 400
    noise = NoiseGenerator("radial", d, 8)
    sigma = torch.linspace(0.5, 2.0, d // 2 + 1)
    with torch.no_grad():
        noise.log_sigma.copy_(sigma.log())
    eps, latent = noise.draw(n, torch.Generator().manual_seed(0))
    assert latent is None
    made = noise.made(torch.zeros(n, d, d), eps, None)
    power = torch.fft.rfft2(made).abs().square().mean(0) / d**2
    for shell in (1, 5, 10, 15):
        found = power[noise.shell == shell].mean().sqrt()
        count = int((noise.shell == shell).sum()) * n
        assert abs(float(found / sigma[shell]) - 1) < 5 / math.sqrt(count)


@pytest.mark.parametrize("kind", ["gaussian_map", "poisson_map"])
def test_noise_maps_are_positive_and_diverse(kind):
    torch.manual_seed(0)
    noise = NoiseGenerator(kind, 16, 8)
    eps, latent = noise.draw(6, torch.Generator().manual_seed(0))
    sigma = noise.sigma_map(latent)
    assert noise.made(torch.ones(6, 16, 16), eps, sigma).shape == (6, 16, 16)
    assert float(diversity(latent, sigma).detach()) > 0
    assert float(noise.sigma_map(torch.randn(4, 100)).min()) > 0


def test_convolutions_start_with_he_normal_weights():
    """Variance 2 / (1 + slope^2) / fan-in before a leaky ReLU; transposed: 2 / fan-out, before a ReLU."""
    torch.manual_seed(0)
    layer = conv(32, 64, 3, cyclic=True)
    assert abs(float(layer.weight.detach().std()) / math.sqrt(2 / (1 + 0.2**2) / (32 * 9)) - 1) < 0.03
    weight = layer.weight.detach()
    assert abs(float(weight.mean())) < 4 * float(weight.std()) / math.sqrt(layer.weight.numel())
    transposed = [m for m in DcGan(10, 64, 32).modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert transposed
    for m in transposed[:-1]:
        fan = m.weight.shape[1] * m.weight[0, 0].numel()
        assert abs(float(m.weight.detach().std()) / math.sqrt(2 / fan) - 1) < 0.1


@pytest.mark.parametrize(("width", "n"), [(8, 16), (64, 1), (64, 16)])
def test_noise_starts_at_the_noise_of_normalised_images(width, n):
    """Sigma is 1 up to what varies over its maps; with He-normal weights alone its root mean square was 1.4 to 4."""
    torch.manual_seed(0)
    noise = NoiseGenerator("gaussian_map", 32, width)
    with torch.no_grad():
        sigma = noise.sigma_map(torch.randn(n, NOISE_LATENT))
    assert abs(float(sigma.mean()) - 1) < 0.1 and 0.1 < float(sigma.std()) < 0.5


CYCLIC_LAYERS = {
    "polyphase": (cyclic.AdaptivePolyphase(blur=False), lambda x: _chosen(x, False)),
    "polyphase, blurred": (cyclic.AdaptivePolyphase(blur=True), lambda x: _chosen(x, True)),
    "pad": (lambda x: cyclic.cyclic_pad(x, 2), lambda x: torch.nn.functional.pad(x, (2,) * 4, mode="circular")),
}


def _chosen(x, blurred):
    parts = cyclic.components(x, blurred)
    return parts[torch.arange(len(x)), parts.square().sum((2, 3, 4)).argmax(1)]


@pytest.mark.parametrize("shape", [(5, 3, 12, 10), (2, 1, 2, 4), (9, 2, 24, 24)])
@pytest.mark.parametrize("name", CYCLIC_LAYERS)
def test_compiled_layers_equal_their_definitions_up_to_the_second_derivative(name, shape):
    """As a gradient penalty needs them."""
    layer, definition = CYCLIC_LAYERS[name]
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=rng).requires_grad_(True)
    weights = torch.randn(definition(x).shape, generator=rng)

    def all_orders(function):
        y = function(x)
        (slope,) = torch.autograd.grad((y.square() * weights).sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.pow(3).sum(), x)
        return y, slope, bend

    for made, expected in zip(all_orders(layer), all_orders(definition), strict=True):
        assert torch.allclose(made, expected, rtol=1e-5, atol=1e-6 * float(expected.detach().abs().max()))
