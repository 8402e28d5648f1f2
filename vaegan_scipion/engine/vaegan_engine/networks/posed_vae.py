"""Networks of a training with poses: z to maps, in 2D to images, and what the particles say about these to z.

Generator: ``V(z) = V + sum_m c_m(z) U_m`` with ``c(z) = E z + f(z)``, E the first columns of the unit matrix and f a
small network that starts at 0: at the start, and with f = 0, probabilistic principal components.
Encoder: all that an image says of a map of this family is ``b`` (m) and ``G`` (m, m) of its log likelihood
``b.c - c.Gc/2`` (``reconstruction.map_family``), taken at its own pose, CTF, contrast and noise. So the encoder reads
these in place of pixels. Its posterior is Gaussian, ``q(z) = N(mean, L L^T)``: that of the linear model,
``(G + 1)^-1 b`` and ``(G + 1)^-1``, moved and scaled by a network that starts at 0.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..contract.settings import ModelConfig, TrainRun
from ..physics.map_resize import working_box_px
from ..physics.space import MAPS, PLANES, Space
from .critic_encoder import Critic
from .vae_gan import Frame


class Posterior(NamedTuple):
    """Gaussian posteriors of n images."""

    mean: Tensor  # (n, k)
    factor: Tensor  # (n, k, k) lower triangle L, covariance L L^T

    def sample(self, n_samples: int, rng: torch.Generator) -> Tensor:
        """``(s, n, k)`` latents."""
        eps = torch.randn(n_samples, *self.mean.shape, generator=rng, device=self.mean.device)
        return self.mean + torch.einsum("nkl,snl->snk", self.factor, eps)

    def covariance(self) -> Tensor:
        """``(n, k, k)``."""
        return self.factor @ self.factor.mT

    def log_density(self, z: Tensor) -> Tensor:
        """``log q(z)`` up to a constant, per image ``(n,)``, z ``(n, k)``."""
        off = torch.linalg.solve_triangular(self.factor, (z - self.mean)[..., None], upper=False)
        return -0.5 * off.square().sum((1, 2)) - self.factor.diagonal(dim1=1, dim2=2).log().sum(1)

    def kl(self) -> Tensor:
        """KL(q, N(0, 1)) per image ``(n,)``."""
        log_det = 2 * self.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        trace = self.factor.square().sum((1, 2))
        return 0.5 * (trace + self.mean.square().sum(1) - self.mean.shape[1] - log_det)


def _network(n_inputs: int, width: int, n_outputs: int) -> nn.Sequential:
    """Two hidden layers; the last layer starts at 0."""
    last = nn.Linear(width, n_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)


class BasisGenerator(nn.Module):
    """Mean map, basis maps and the coefficients of z; maps live in a working box that holds the band.

    Beside them what rendering needs: noise per shell and the spreads of contrast, rotation and shift.
    """

    mean: Tensor
    scale: Tensor
    noise: Tensor
    spreads: Tensor
    active: Tensor
    agreement: Tensor

    def __init__(self, model: ModelConfig, working_px: int, space: Space = MAPS) -> None:
        super().__init__()
        d, self.n_latent, self.n_basis, self.space = working_px, model.n_normal, model.n_basis, space
        self.register_buffer("mean", torch.zeros([d] * space.ndim))
        self.register_buffer("scale", torch.ones(()))  # basis maps are counted in it
        self.basis = nn.Parameter(torch.zeros([self.n_basis, *[d] * space.ndim]))
        self.register_buffer("noise", torch.ones(d // 2 + 1))  # variance of a coefficient, per shell
        self.register_buffer("spreads", torch.zeros(3))  # contrast, rotation (rad), shift (fraction of the box)
        self.register_buffer("active", torch.ones(self.n_basis))  # 0: a direction that halves do not agree on
        self.register_buffer("agreement", torch.zeros(self.n_basis))  # cosines between the halves' directions
        self.bend = _network(self.n_latent, model.generator_width, self.n_basis)

    def coefficients(self, z: Tensor) -> Tensor:
        """``c(z)`` ``(..., m)`` of latents ``(..., k)``; coordinates that are not active have no say."""
        z = z * self.active[:self.n_latent]
        return nn.functional.pad(z, (0, self.n_basis - self.n_latent)) + self.bend(z) * self.active

    def maps(self) -> Tensor:
        """Basis maps ``(m, d, d, d)``, or images ``(m, d, d)``."""
        return self.scale * self.of_active(self.basis)

    def of_active(self, arrays: Tensor) -> Tensor:
        """Arrays ``(m, d, ..)``, 0 for directions that are not active."""
        return self.active.view(-1, *[1] * self.space.ndim) * arrays

    def decode(self, z: Tensor, box_px: int) -> Tensor:
        """Maps ``(n, b, b, b)``, or images, of latents ``(n, k)`` in a box of ``box_px``."""
        made = self.mean + torch.einsum("nm,m...->n...", self.coefficients(z), self.maps())
        return self.space.resized(made, box_px)


class PosteriorEncoder(nn.Module):
    """What an image says, ``b`` and ``G``, to the posterior of z."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.n_latent = model.n_normal
        self.change = _network(2 * model.n_basis, model.generator_width, 2 * model.n_normal)

    def forward(self, gram: Tensor, pull: Tensor, active: Tensor) -> Posterior:
        """G ``(n, m, m)`` and b ``(n, m)`` to a posterior over ``(n, k)``; the prior where ``active`` (k,) is 0."""
        k = self.n_latent
        eye = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
        covariance = torch.linalg.inv(gram + eye)
        linear = (covariance @ pull[..., None])[..., 0]
        features = torch.cat((linear, covariance.diagonal(dim1=1, dim2=2).log()), 1)
        moved, log_scale = ((part * active) for part in self.change(features).chunk(2, dim=1))
        factor = torch.linalg.cholesky(covariance[:, :k, :k])
        return Posterior(linear[:, :k] + moved, factor * log_scale.clamp(-4, 4).exp()[..., None])


def negative_log_likelihood(gram: Tensor, pull: Tensor, coefficients: Tensor) -> Tensor:
    """``c.Gc/2 - b.c`` per image ``(n,)``, mean over samples; coefficients ``(s, n, m)``."""
    quadratic = torch.einsum("snm,nml,snl->n", coefficients, gram, coefficients)
    return (0.5 * quadratic - torch.einsum("snm,nm->n", coefficients, pull)) / len(coefficients)


class PosedVaeGan:
    """Everything of a training with poses that outlives it; ``rng`` draws latents and noise."""

    def __init__(self, run: TrainRun, frame: Frame, device: torch.device) -> None:
        self.run, self.model, self.device = run, run.model, device
        self.box_px, self.pixel_size_ang = frame.box_px, frame.pixel_size_ang
        self.working_px = working_box_px(run.training.band_shells, frame.box_px)
        self.space = PLANES if run.command == "train2d" else MAPS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.compute.seed)
            self.generator = BasisGenerator(self.model, self.working_px, self.space).to(device)
            self.encoder = PosteriorEncoder(self.model).to(device)
        self.rng = torch.Generator(device).manual_seed(run.compute.seed + 1)

    def modules(self) -> dict[str, nn.Module]:
        """The networks, by the names that a checkpoint gives them."""
        return {"generator": self.generator, "encoder": self.encoder}

    @property
    def n_active(self) -> int:
        """Coordinates of z that say something: the first ones."""
        return min(int(self.generator.active.sum()), self.model.n_normal)

    def posterior(self, gram: Tensor, pull: Tensor) -> Posterior:
        """Of all k coordinates, from G ``(n, m, m)`` and b ``(n, m)``."""
        return self.encoder(gram, pull, self.generator.active[:self.model.n_normal])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Maps ``(n, d, d, d)`` (2D: images) of latents ``(n, j)`` in the training box, up to the band.

        Later coordinates are 0.
        """
        z = nn.functional.pad(z.to(self.device), (0, self.model.n_normal - z.shape[1]))
        return torch.cat([self.generator.decode(row[None], self.box_px).float().cpu() for row in z])


def critic_box_px(band_shells: float) -> int:
    """Side of the images that the critic sees: a multiple of 8 that holds the band."""
    return 8 * -(-2 * (int(band_shells) + 1) // 8)


def build_critic(run: TrainRun) -> Critic:
    """A critic of pairs: the image's residual and the mean map's projection at its pose."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.compute.seed + 2)
        return Critic(run.model, critic_box_px(run.training.band_shells))
