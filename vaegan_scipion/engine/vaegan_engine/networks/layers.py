"""Layers with exact symmetries: cyclic convolution, adaptive polyphase sampling, polar warp, Gabor."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .cyclic import AdaptivePolyphase, CyclicConv, cyclic_pad


def conv(in_channels: int, out_channels: int, kernel_px: int, cyclic: bool) -> nn.Conv2d:
    """Same-size convolution, cyclic or zero padding, He-normal weights."""
    layer = (CyclicConv(in_channels, out_channels, kernel_px) if cyclic
             else nn.Conv2d(in_channels, out_channels, kernel_px, padding=kernel_px // 2))
    nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def downsample(kind: str) -> nn.Module:
    """``blur_aps`` and ``aps`` (exactly invariant) or ``maxpool`` (the thesis's variant)."""
    if kind in ("aps", "blur_aps"):
        return AdaptivePolyphase(blur=kind == "blur_aps")
    if kind == "maxpool":
        return nn.MaxPool2d(2)
    raise ValueError(f"unknown downsampling {kind!r}")


class GaborConv(nn.Module):
    """Depthwise layer of trainable Gabor filters (thesis eq. 41).

    ``g(x, y) = exp(-(x'^2 + gamma^2 y'^2) / (2 sigma^2)) cos(2 pi x' / lambda + psi)`` with
    ``x' = x cos(theta) + y sin(theta)``, ``y' = -x sin(theta) + y cos(theta)``; theta, sigma,
    gamma, lambda (px) and psi are trained. ``(n, c, h, w)`` to ``(n, c * n_filters, h, w)``.
    """

    offsets: Tensor

    def __init__(self, channels: int, n_filters: int, kernel_px: int, cyclic: bool) -> None:
        super().__init__()
        self.channels, self.n_filters = channels, n_filters
        self.cyclic = cyclic
        count = channels * n_filters
        self.theta_rad = nn.Parameter(torch.arange(count) * math.pi / n_filters)
        self.sigma_px = nn.Parameter(torch.full((count,), kernel_px / 4.0))
        self.wavelength_px = nn.Parameter(torch.full((count,), kernel_px / 1.5))
        self.gamma = nn.Parameter(torch.ones(count))
        self.psi_rad = nn.Parameter(torch.zeros(count))
        half = kernel_px // 2
        y, x = torch.meshgrid(torch.arange(-half, half + 1.0), torch.arange(-half, half + 1.0),
                              indexing="ij")
        self.register_buffer("offsets", torch.stack((x, y)))

    def kernels(self) -> Tensor:
        """``(c * n_filters, 1, k, k)`` filters."""
        x, y = self.offsets
        cos, sin = self.theta_rad.cos()[:, None, None], self.theta_rad.sin()[:, None, None]
        along, across = x * cos + y * sin, -x * sin + y * cos
        sigma, gamma = self.sigma_px[:, None, None], self.gamma[:, None, None]
        envelope = torch.exp(-(along.square() + (gamma * across).square()) / (2 * sigma.square()))
        wave = torch.cos(2 * math.pi * along / self.wavelength_px[:, None, None]
                         + self.psi_rad[:, None, None])
        return (envelope * wave)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        half = self.offsets.shape[-1] // 2
        padded = cyclic_pad(x, half) if self.cyclic else functional.pad(x, (half,) * 4)
        return functional.conv2d(padded, self.kernels(), groups=self.channels)


class PolarWarp(nn.Module):
    """Resample an image to (radius, angle): a rotation becomes a cyclic shift of the last axis.

    ``(n, c, d, d)`` to ``(n, c, d, d)``; rows: radius 0 to d/2 px, columns: angle 0 to 2 pi.
    """

    grid: Tensor

    def __init__(self, box_px: int) -> None:
        super().__init__()
        radius = (torch.arange(box_px) + 0.5) / (2 * box_px)  # fraction of the box, 0 .. 1/2
        angle = torch.arange(box_px) * (2 * math.pi / box_px)
        centre = box_px // 2
        x = centre + box_px * radius[:, None] * angle.cos()
        y = centre + box_px * radius[:, None] * angle.sin()
        self.register_buffer("grid", torch.stack((2 * x + 1, 2 * y + 1), -1) / box_px - 1)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.grid.to(x.dtype).expand(len(x), -1, -1, -1)
        return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border",
                                      align_corners=False)
