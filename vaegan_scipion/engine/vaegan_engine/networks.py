"""Critic, encoder and noise generator. No input or output of files here."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .contract import ModelConfig
from .layers import GaborConv, PolarWarp, conv, downsample

N_LEVELS = 3  # the box is halved three times


def image_channels(model: ModelConfig) -> int:
    """Channels the critic and the encoder see."""
    return 2 if model.ctf_channels else 1


def band_pass(box_px: int, band_frac: float, device: torch.device) -> Tensor:
    """Low-pass ``(d, d//2 + 1)``: 1 inside ``band_frac`` of Nyquist, a cosine edge of 2 shells, 0."""
    ky = torch.fft.fftfreq(box_px, 1.0 / box_px, device=device)
    kx = torch.arange(box_px // 2 + 1.0, device=device)
    beyond = (torch.hypot(kx[None, :], ky[:, None]) - band_frac * box_px / 2) / 2
    return 0.5 * (1 + torch.cos(torch.pi * beyond.clamp(0, 1)))


def input_channels(images: Tensor, ctf: Tensor, model: ModelConfig, band_frac: float = 1.0) -> Tensor:
    """What the networks see: the image and, if asked for, its Wiener-filtered copy.

    ``images (n, d, d)``, ``ctf (n, d, d//2 + 1)`` to ``(n, c, d, d)``. The filter is
    ``CTF / (CTF^2 + 1/2)``: it flips phases and weighs frequencies by what the CTF left of
    them, so that images of one object look alike whatever their defocus. Below ``band_frac = 1``
    both are low-passed to that fraction of Nyquist. Differentiable.
    """
    if band_frac >= 1 and not model.ctf_channels:
        return images[:, None]
    spectrum = torch.fft.rfft2(images)
    if band_frac < 1:
        spectrum = spectrum * band_pass(images.shape[-1], band_frac, images.device)
        images = torch.fft.irfft2(spectrum, s=images.shape[-2:])
    if not model.ctf_channels:
        return images[:, None]
    filtered = torch.fft.irfft2(spectrum * (ctf / (ctf.square() + 0.5)), s=images.shape[-2:])
    return torch.stack((images, filtered), dim=1)


class Trunk(nn.Module):
    """Convolutions with downsampling: ``(n, c, d, d)`` to features ``(n, 8 w, d/8, d/8)``."""

    def __init__(self, model: ModelConfig, width: int, polar: bool, box_px: int) -> None:
        super().__init__()
        cyclic = model.downsampling != "maxpool"
        channels = image_channels(model)
        first: nn.Module
        if model.first_layer == "gabor":
            n_filters = width // channels
            first = nn.Sequential(GaborConv(channels, n_filters, 7, cyclic),
                                  conv(channels * n_filters, width, 1, cyclic))
        else:
            first = conv(channels, width, 5, cyclic)
        layers: list[nn.Module] = [PolarWarp(box_px)] if polar else []
        layers += [first, nn.LeakyReLU(0.2), downsample(model.downsampling)]
        for level in range(1, N_LEVELS):
            layers += [conv(width << (level - 1), width << level, 3, cyclic), nn.LeakyReLU(0.2),
                       downsample(model.downsampling)]
            if model.dropout > 0:
                layers.append(nn.Dropout2d(model.dropout))
        layers += [conv(width << (N_LEVELS - 1), width << N_LEVELS, 3, cyclic), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.n_features = width << N_LEVELS

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def pooled(features: Tensor, pooling: str) -> Tensor:
    """Global average, or average and maximum, of feature maps: ``(n, f, h, w)`` to ``(n, f or 2 f)``."""
    mean = features.mean((2, 3))
    return mean if pooling == "mean" else torch.cat((mean, features.amax((2, 3))), dim=1)


def pooled_size(n_features: int, pooling: str) -> int:
    """Length of ``pooled``."""
    return n_features * (1 if pooling == "mean" else 2)


class Critic(nn.Module):
    """Score of an image and the feature maps before the global average."""

    def __init__(self, model: ModelConfig, box_px: int) -> None:
        super().__init__()
        self.trunk = Trunk(model, model.critic_width, False, box_px)
        self.pooling = model.pooling
        self.head = nn.Linear(pooled_size(self.trunk.n_features, self.pooling), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, c, d, d)`` to scores ``(n,)`` and features ``(n, f, d/8, d/8)``."""
        features = self.trunk(x)
        return self.head(pooled(features, self.pooling)).squeeze(1), features


class Encoder(nn.Module):
    """Trunk, global pooling, one hidden layer, ``n_outputs`` numbers per image."""

    def __init__(self, model: ModelConfig, n_outputs: int, box_px: int) -> None:
        super().__init__()
        self.trunk = Trunk(model, model.encoder_width, model.polar_encoder, box_px)
        self.pooling = model.pooling
        n_hidden = 128
        self.head = nn.Sequential(
            nn.Linear(pooled_size(self.trunk.n_features, self.pooling), n_hidden),
            nn.LeakyReLU(0.2), nn.Linear(n_hidden, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(pooled(self.trunk(x), self.pooling))


def build_encoder(model: ModelConfig, n_outputs: int, box_px: int) -> Encoder:
    """The encoder's shape with any number of outputs (the supervised ceiling uses it too)."""
    return Encoder(model, n_outputs, box_px)


class DcGan(nn.Module):
    """DC-GAN: a vector to an image by transposed convolutions, batch norm and ReLU.

    ``(n, k)`` to ``(n, d, d)`` for every even ``d``: the first block is ``ceil(d/8)`` px wide and the
    last image is cut to ``d``. Source: Radford, Metz and Chintala, ICLR 2016.
    """

    def __init__(self, n_inputs: int, width: int, box_px: int) -> None:
        super().__init__()
        self.box_px, self.start_px, self.width = box_px, -(-box_px // 8), width
        self.project = nn.Linear(n_inputs, 4 * width * self.start_px**2)
        blocks: list[nn.Module] = [nn.BatchNorm2d(4 * width), nn.ReLU()]
        for i, o in ((4 * width, 2 * width), (2 * width, width)):
            blocks += [nn.ConvTranspose2d(i, o, 4, 2, 1), nn.BatchNorm2d(o), nn.ReLU()]
        blocks.append(nn.ConvTranspose2d(width, 1, 4, 2, 1))
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, (nn.ConvTranspose2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z).reshape(len(z), 4 * self.width, self.start_px, self.start_px)
        return self.blocks(x)[:, 0, :self.box_px, :self.box_px]


NOISE_LATENT = 100


class NoiseGenerator(nn.Module):
    """Noise added to generated images; it never sees z.

    ``scalar``: white, one learned sigma. ``radial``: learned spectrum, one sigma per Fourier
    shell. ``gaussian_map``: sigma map from a DC-GAN of a 100-D vector (thesis); ``poisson_map``:
    the same times ``sqrt(|S|)``, S the image before the CTF (equation 37). ``none``: no noise.
    eps is standard normal throughout.
    """

    shell: Tensor

    def __init__(self, kind: str, box_px: int, width: int) -> None:
        super().__init__()
        self.kind, self.box_px = kind, box_px
        if kind == "scalar":
            self.log_sigma = nn.Parameter(torch.zeros(()))
        elif kind == "radial":
            ky = torch.fft.fftfreq(box_px, 1.0 / box_px)
            kx = torch.arange(box_px // 2 + 1.0)
            radius = torch.hypot(kx[None, :], ky[:, None])
            self.register_buffer("shell", radius.round().long().clamp_(max=box_px // 2))
            self.log_sigma = nn.Parameter(torch.zeros(box_px // 2 + 1))
        elif kind in ("gaussian_map", "poisson_map"):
            self.sigma_net = DcGan(NOISE_LATENT, width, box_px)

    def sigma_map(self, z_noise: Tensor) -> Tensor:
        """Sigma ``(n, d, d)`` of a noise vector ``(n, 100)``, positive, 1 on average at the start."""
        return torch.nn.functional.softplus(self.sigma_net(z_noise) + 0.5413)

    def forward(self, signal: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Noise ``(n, d, d)`` for ``signal`` and the diversity loss (None where there is none).

        Diversity: ``|s(z1) - s(z2)| / |z1 - z2|``, mean over pairs (neighbours in the batch), to be made
        large (thesis, equation 39); ``|.|`` is the mean absolute value over a map or a vector.
        """
        if self.kind == "none":
            return torch.zeros_like(signal), None
        eps = torch.randn(signal.shape, generator=rng, device=signal.device, dtype=signal.dtype)
        if self.kind == "scalar":
            return eps * self.log_sigma.exp(), None
        if self.kind == "radial":
            sigma = self.log_sigma.exp()[self.shell]
            return torch.fft.irfft2(torch.fft.rfft2(eps) * sigma, s=signal.shape[-2:]), None
        z = torch.randn(len(signal), NOISE_LATENT, generator=rng, device=signal.device,
                        dtype=signal.dtype)
        sigma = self.sigma_map(z)
        distance = (z - z.roll(1, 0)).abs().mean(1).clamp_min(1e-6)
        diversity = ((sigma - sigma.roll(1, 0)).abs().mean((1, 2)) / distance).mean()
        if self.kind == "poisson_map":
            return eps * sigma * signal.abs().clamp_min(1e-6).sqrt(), diversity
        return eps * sigma, diversity
