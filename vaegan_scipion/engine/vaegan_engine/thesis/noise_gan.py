"""The GAN of ``reproduce noise-generator``: one clean image, noise that is known or trained along (thesis, 10).

One step is the thesis's algorithm 4 or 5: one generated image ``X = G(z) + noise`` is made, and both losses are
taken of it and of the same critic, before either is updated:

    critic      mean C(X) - mean C(clean + eps) + 10 (|dC/dx| - 1)^2, the penalty at interpolates
    generators  -mean C(X) - 0.02 |s(z1) - s(z2)| / |z1 - z2|, s the noise generator's sigma map

So the generators run once per step, and one pass back through the critic gives the gradients of its weights and that
of ``X``.
"""
from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.settings import TrainRun
from ..networks.critic_encoder import Critic
from ..networks.image_decoder import DcGan
from ..networks.noise import NOISE_LATENT, NoiseGenerator
from ..training import losses

TRUE_SIGMA = 1.0
Z_DIM = 10
EMA = 0.96  # of the generator, per step
N_MEASURED = 16  # images of a point of the curve


class Measured(NamedTuple):
    """A point of the learning curve, in units of the noise's standard deviation."""

    step: int
    sigma: float  # root mean square of the noise that is added to generated images
    psnr_db: float  # of the averaged generator's images, each at its best cyclic shift
    error: float  # root mean square of those images less the clean one: what noise the generator makes itself, at most
    spread: float  # root mean square of those images less their mean: what z changes


class NoiseGan:
    """Networks, optimisers and random numbers of one training; ``known_sigma`` None trains the noise generator.

    With ``one_image`` the image generator's z is constant: it makes one image, and no noise of its own. Its last layer
    starts as wide as makes the variance of its images that of the clean one (of other trainings ``match_amplitude``
    does that); He-normal weights alone make it ``width / 4``.
    """

    def __init__(self, clean: np.ndarray, known_sigma: float | None, run: TrainRun, batch: int,
                 one_image: bool = False) -> None:
        self.run, self.config = run, run.training
        self.known_sigma, self.batch, self.one_image = known_sigma, batch, one_image
        self.device = device = torch.device(run.compute.device)
        seed, box_px, width = run.compute.seed, clean.shape[-1], 2 * run.model.critic_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = DcGan(Z_DIM, width, box_px).to(device)
            self.generator.start_at(float(clean.std()))
            kind = "gaussian_map" if known_sigma is None else "none"
            self.noise = NoiseGenerator(kind, box_px, width).to(device)
            self.critic = Critic(replace(run.model, dropout=0.0), box_px).to(device)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.rng = torch.Generator(device).manual_seed(seed + 1)
        betas = (self.config.adam_beta1, self.config.adam_beta2)
        makers = [*self.generator.parameters(), *self.noise.parameters()]
        self.optimizers = {
            "makers": torch.optim.Adam(makers, lr=self.config.generator_lr, betas=betas, fused=True),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=self.config.critic_lr, betas=betas, fused=True)}
        self.clean = clean
        self.truth = torch.from_numpy(clean).to(device).expand(batch, -1, -1)
        self.steps_done = 0

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.rng, device=self.device)

    def _image_latents(self, n: int, rng: torch.Generator) -> Tensor:
        return (torch.ones(n, Z_DIM, device=self.device) if self.one_image
                else torch.randn(n, Z_DIM, generator=rng, device=self.device))

    def _generated(self) -> tuple[Tensor, Tensor | None]:
        """Images ``(batch, d, d)`` and the diversity of the noise generator's sigma maps."""
        made = self.generator(self._image_latents(self.batch, self.rng))
        if self.known_sigma is not None:
            return made + self.known_sigma * self._normal(*made.shape), None
        z, other = self._normal(self.batch, NOISE_LATENT), self._normal(self.batch, NOISE_LATENT)
        sigma = self.noise.sigma_map(z)
        apart = (sigma - self.noise.sigma_map(other)).abs().mean((1, 2)) / (z - other).abs().mean(1)
        return made + sigma * self._normal(*made.shape), apart.mean()

    def step(self) -> None:
        """One update of all networks."""
        n = self.batch
        real = self.truth + TRUE_SIGMA * self._normal(*self.truth.shape)
        generated, diversity = self._generated()
        seen = generated.detach().requires_grad_(True)
        t = torch.rand(n, 1, 1, generator=self.rng, device=real.device, dtype=real.dtype)
        between = losses.interpolate(real, seen.detach(), t).requires_grad_(True)
        scores = self.critic(torch.cat((real, seen))[:, None])[0]
        penalty = losses.wasserstein_penalty(self.critic(between[:, None])[0], between)
        loss = scores[n:].mean() - scores[:n].mean() + self.config.gradient_penalty * penalty
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        assert seen.grad is not None  # of + mean C(X); the generators' loss has the other sign
        maker_loss = -(generated * seen.grad).sum()
        if diversity is not None:
            maker_loss = maker_loss - self.config.diversity_weight * diversity
        maker_loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        average(self.averaged, self.generator)
        self.steps_done += 1

    @torch.no_grad()
    def images(self, n: int, seed: int) -> np.ndarray:
        """``(n, d, d)`` of the averaged generator, made in batches of the training's size.

        Batch normalisation ties the images of a batch together: of another size they are other images.
        """
        rng = torch.Generator(self.device).manual_seed(seed)
        return self._in_batches(self.averaged, self._image_latents(n, rng))

    @torch.no_grad()
    def sigma_maps(self, n: int, seed: int) -> np.ndarray:
        """``(n, d, d)`` of the noise generator, in batches of the training's size."""
        rng = torch.Generator(self.device).manual_seed(seed)
        return self._in_batches(self.noise.sigma_map, torch.randn(n, NOISE_LATENT, generator=rng, device=self.device))

    def _in_batches(self, network: Any, z: Tensor) -> np.ndarray:
        return torch.cat([network(part) for part in z.split(self.batch)]).cpu().numpy()

    def measured(self, n: int = N_MEASURED) -> Measured:
        """A point of the curve."""
        aligned = np.stack([shifted_onto(image, self.clean) for image in self.images(n, seed=1)])
        sigma = self.known_sigma if self.known_sigma is not None else rms(self.sigma_maps(n, seed=2))
        psnr = float(np.mean([psnr_db(image, self.clean) for image in aligned]))
        return Measured(self.steps_done, sigma, psnr, rms(aligned - self.clean), rms(aligned - aligned.mean(0)))

    def modules(self) -> dict[str, nn.Module]:
        """All networks, by name."""
        return {"generator": self.generator, "averaged": self.averaged, "noise": self.noise, "critic": self.critic}

    def save(self, path: Path) -> None:
        """Everything that ``restore`` needs; tensors and plain values."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".tmp")
        torch.save({"steps_done": self.steps_done, "rng": self.rng.get_state(),
                    "modules": {name: network.state_dict() for name, network in self.modules().items()},
                    "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()}}, part)
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from what ``save`` wrote; code in the file is never run."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, network in self.modules().items():
            network.load_state_dict(state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.rng.set_state(state["rng"].cpu())
        self.steps_done = state["steps_done"]


def shifted_onto(image: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """``image`` ``(d, d)`` at the whole-pixel cyclic shift that is nearest to ``clean``."""
    overlap = np.fft.irfft2(np.fft.rfft2(clean) * np.fft.rfft2(image).conj(), s=clean.shape)
    place = np.unravel_index(int(overlap.argmax()), overlap.shape)
    return np.roll(image, (int(place[0]), int(place[1])), (0, 1))


def psnr_db(image: np.ndarray, clean: np.ndarray) -> float:
    """``10 log10(range^2 / MSE)`` with the clean image's range."""
    error = float(np.mean((np.asarray(image, np.float64) - clean) ** 2))
    return float(10 * np.log10(float(np.ptp(clean)) ** 2 / max(error, 1e-30)))


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module) -> None:
    """``a <- 0.96 a + 0.04 p`` for weights; buffers are copied."""
    for a, p in zip(averaged.parameters(), network.parameters(), strict=True):
        a.lerp_(p, 1 - EMA)
    for kept, buffer in zip(averaged.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
