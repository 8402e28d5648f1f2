"""What the critic of a training with poses sees: pairs of a residual and the mean map's projection, at one pose."""
from __future__ import annotations

import torch
from torch import Tensor

from ..networks.posed_vae import critic_box_px
from ..physics.fourier_band import make_band
from ..reconstruction.map_family import Seen
from .posed_images import PosedParticles


class Pairs:
    """Whitened coefficients ``(n, 2 p)`` to images ``(n, 2, c, c)``, turned so that psi is 0."""

    def __init__(self, particles: PosedParticles, band_shells: float) -> None:
        self.psi_rad, self.weight = particles.psi_rad, particles.band.weight
        self.box_px = critic_box_px(band_shells)
        self.index = make_band(self.box_px, band_shells, self.psi_rad.device).index

    def simulated(self, particles: Seen, coefficients: Tensor, rng: torch.Generator) -> Tensor:
        """Residuals ``(n, 2 p)`` of images at the poses of ``particles``: other maps, pose errors and white noise."""
        n, _, length = particles.columns.shape
        u = torch.randn(n, particles.n_nuisances, generator=rng, device=self.weight.device)
        noise = torch.randn(n, length // 2, 2, generator=rng, device=self.weight.device)
        noise = noise * (self.weight / 2).sqrt()[:, None]
        alone = self.weight == 1  # its own conjugate: real
        noise = torch.where(alone[:, None], noise * noise.new_tensor([2.0 ** 0.5, 0.0]), noise)
        signal = torch.cat((u, coefficients), 1)[:, None] @ particles.columns[:, :-1]
        return signal[:, 0] + noise.flatten(1)

    def expected(self, particles: Seen) -> Tensor:
        """The mean map's whitened projections ``(n, 2 p)``, up to one factor: the direction of the contrast."""
        column = particles.columns[:, 0].detach()
        return column / column.square().mean().sqrt().clamp_min(1e-12)

    def images(self, residual: Tensor, expected: Tensor, rows: Tensor) -> Tensor:
        """Pairs ``(n, 2, c, c)`` of the images ``rows``; noise has variance about 1."""
        both = torch.view_as_complex(torch.stack((residual, expected), 1).unflatten(-1, (-1, 2)).contiguous())
        c = self.box_px
        plane = both.new_zeros(*both.shape[:2], c * (c // 2 + 1)).index_copy(2, self.index, both)
        flat = torch.fft.irfft2(plane.unflatten(-1, (c, c // 2 + 1)), s=(c, c))
        flat = torch.fft.fftshift(flat, dim=(-2, -1)) * (c * c / self.weight.sum().sqrt())
        cosine, sine = self.psi_rad[rows].cos(), self.psi_rad[rows].sin()
        turn = torch.stack((cosine, sine, -sine, cosine), -1).view(-1, 2, 2)
        centre = torch.full((2, 1), 1 / c, device=turn.device)  # of pixel c // 2 in the grid's coordinates
        turn = torch.cat((turn, centre - turn @ centre), 2)
        grid = torch.nn.functional.affine_grid(turn, [len(rows), 2, c, c], align_corners=False)
        return torch.nn.functional.grid_sample(flat, grid, align_corners=False)

    @staticmethod
    def replaced(particles: Seen, residual: Tensor) -> Seen:
        """The same poses with other residuals."""
        columns = torch.cat((particles.columns[:, :-1], residual[:, None]), 1)
        return particles._replace(columns=columns, products=columns @ columns.mT)
