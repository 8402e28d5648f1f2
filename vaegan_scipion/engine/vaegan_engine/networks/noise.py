"""The noise generator."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .image_decoder import DcGan

NOISE_LATENT = 100
START_SPREAD = 0.5  # standard deviation of what the sigma network makes at the start


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
