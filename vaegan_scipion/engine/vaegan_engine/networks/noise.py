"""The noise generator."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .image_decoder import DcGan

NOISE_LATENT = 100
START_SPREAD = 0.5  # standard deviation of what the sigma network makes at the start


class NoiseNumbers(NamedTuple):
    """Random numbers that noise is made of; row i is image i's. None where the kind of noise needs none."""

    eps: Tensor | None  # (n, d, d) standard normal
    latent: Tensor | None  # (n, 100), of the sigma map


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
            self.sigma_net.start_at(START_SPREAD)

    def sigma_map(self, z_noise: Tensor) -> Tensor:
        """Sigma ``(n, d, d)`` of a noise vector ``(n, 100)``, positive, 1 on average at the start."""
        return torch.nn.functional.softplus(self.sigma_net(z_noise) + 0.5413)

    @property
    def has_sigma_map(self) -> bool:
        """Whether a network makes sigma, of a whole batch at once: it normalises over it."""
        return self.kind in ("gaussian_map", "poisson_map")

    def draw(self, n: int, rng: torch.Generator) -> NoiseNumbers:
        """Random numbers of the noise of n images, on the device of ``rng``."""
        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, generator=rng, device=rng.device, dtype=torch.get_default_dtype())

        if self.kind == "none":
            return NoiseNumbers(None, None)
        return NoiseNumbers(normal(self.box_px, self.box_px), normal(NOISE_LATENT) if self.has_sigma_map else None)

    def made(self, signal: Tensor, eps: Tensor | None, sigma: Tensor | None) -> Tensor:
        """Noise ``(n, d, d)`` for ``signal``, of normal numbers ``eps`` and, where the kind has them, sigma maps."""
        if eps is None:
            return torch.zeros_like(signal)
        if self.kind == "scalar":
            return eps * self.log_sigma.exp()
        if self.kind == "radial":
            return torch.fft.irfft2(torch.fft.rfft2(eps) * self.log_sigma.exp()[self.shell], s=signal.shape[-2:])
        assert sigma is not None
        if self.kind == "poisson_map":
            return eps * sigma * signal.abs().clamp_min(1e-6).sqrt()
        return eps * sigma


def diversity(latent: Tensor, sigma: Tensor) -> Tensor:
    """``|s(z1) - s(z2)| / |z1 - z2|``, mean over pairs (neighbours in the batch), to be made large.

    ``|.|`` is the mean absolute value over a sigma map ``(n, d, d)`` or its vector ``(n, 100)`` (thesis, equation 39).
    """
    distance = (latent - latent.roll(1, 0)).abs().mean(1).clamp_min(1e-6)
    return ((sigma - sigma.roll(1, 0)).abs().mean((1, 2)) / distance).mean()
