"""Critic, encoder and noise generator. No input or output of files here."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contract.settings import ModelConfig
from .layers import GaborConv, PolarWarp, conv, downsample

N_LEVELS = 3  # the box is halved three times


def image_channels(model: ModelConfig) -> int:
    """Channels the critic and the encoder see."""
    return 2 if model.ctf_channels else 1


def input_channels(images: Tensor, ctf: Tensor, model: ModelConfig) -> Tensor:
    """What the networks see: the image and, if asked for, its Wiener-filtered copy.

    ``images (n, d, d)``, ``ctf (n, d, d//2 + 1)`` to ``(n, c, d, d)``. The filter is
    ``CTF / (CTF^2 + 1/2)``: it flips phases and weighs frequencies by what the CTF left of
    them, so that images of one object look alike whatever their defocus. Differentiable.
    """
    if not model.ctf_channels:
        return images[:, None]
    filtered = torch.fft.irfft2(torch.fft.rfft2(images) * (ctf / (ctf.square() + 0.5)), s=images.shape[-2:])
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
