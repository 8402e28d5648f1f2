"""The networks of one run that make and read images: generator, noise, encoder, pose network, and their averages."""
from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract.settings import TrainRun
from ..physics.ctf import ctf_2d
from ..physics.projection import shift_slices, slices_to_images
from ..physics.rotations import euler_to_matrix, random_rotations
from . import latent_vector
from .critic_encoder import Critic, Encoder, build_encoder, input_channels
from .generators import Generator, build_generator
from .noise import NoiseGenerator, NoiseNumbers
from .pose_network import CameraNetwork


@dataclass(frozen=True)
class Frame:
    """What images the networks are for."""

    box_px: int
    pixel_size_ang: float


@dataclass(frozen=True)
class ImageNumbers:
    """Random numbers that images are made of, beside their z; row i of each is image i's."""

    shifts_px: Tensor  # (n, 2)
    poses: Tensor | None  # rotations (n, 3, 3), or (n, 64) what the camera makes them of; None where there are none
    noise: NoiseNumbers

    def of(self, rows: Tensor) -> ImageNumbers:
        """Those of some images."""
        return ImageNumbers(self.shifts_px[rows], None if self.poses is None else self.poses[rows],
                            NoiseNumbers(*(None if x is None else x[rows] for x in self.noise)))


@dataclass(frozen=True)
class Given:
    """What is known of images that are to be made: the generator's source, sigma maps of the noise, kind of z."""

    source: Tensor | None = None
    sigma: Tensor | None = None
    one_hot: bool = True  # whether z has one category each, as the prior's


class VaeGan:
    """Everything that outlives a training; the critic and the optimisers are the trainer's.

    ``encoder`` is None in a homogeneous run, ``camera`` where poses are uniform or there are none. ``rng`` draws
    latents, poses and noise, and lives on the device.
    """

    encoder: Encoder | None
    encoder_ema: Encoder | None
    camera: CameraNetwork | None

    def __init__(self, run: TrainRun, frame: Frame, device: torch.device,
                 after_noise: Callable[[], None] = lambda: None) -> None:
        """Networks with the weights that the run's seed gives.

        ``after_noise`` is called between the noise generator and the encoder: who builds a critic builds it there,
        third, because all draw their weights from one sequence of random numbers.
        """
        self.run, self.model = run, run.model
        self.box_px, self.pixel_size_ang, self.device = frame.box_px, frame.pixel_size_ang, device
        seed_rng = torch.Generator().manual_seed(run.compute.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.compute.seed)
            self.generator: Generator = build_generator(
                self.model, self.box_px, run.data.particle_radius_frac, seed_rng).to(device)
            self.noise = NoiseGenerator(self.model.noise, self.box_px,
                                        max(8, self.model.generator_width // 4)).to(device)
            after_noise()
            self.encoder = None if self.model.homogeneous else build_encoder(
                self.model, latent_vector.encoder_outputs(self.model), self.box_px).to(device)
            self.camera = (CameraNetwork(self.model.generator_width).to(device)
                           if self.model.pose_prior == "camera" else None)
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.encoder_ema = copy.deepcopy(self.encoder)
        if self.encoder_ema is not None:
            self.encoder_ema.requires_grad_(False)
        self.noise_ema = copy.deepcopy(self.noise).requires_grad_(False).eval()
        self.rng = torch.Generator(device).manual_seed(run.compute.seed + 1)

    def modules(self) -> dict[str, nn.Module]:
        """The networks that there are, by the names that a checkpoint gives them."""
        values: dict[str, nn.Module | None] = {
            "generator": self.generator, "noise": self.noise, "encoder": self.encoder,
            "generator_ema": self.generator_ema, "encoder_ema": self.encoder_ema, "noise_ema": self.noise_ema,
            "camera": self.camera}
        return {name: module for name, module in values.items() if module is not None}

    def draw_poses(self, n: int) -> tuple[Tensor | None, Tensor]:
        """Random numbers of poses (``ImageNumbers.poses``) and in-plane shifts (px)."""
        shifts = (torch.rand(n, 2, generator=self.rng, device=self.device) * 2 - 1)
        shifts = shifts * (self.model.max_shift_frac * self.box_px)
        if self.run.command == "train2d":
            return self._angles_in_plane(n) if self.model.pose_prior == "uniform" else None, shifts
        if self.camera is not None:
            return self.camera.draw(n, self.rng), shifts
        return random_rotations(n, generator=self.rng, device=self.device, dtype=shifts.dtype), shifts

    def rotations(self, poses: Tensor | None) -> Tensor | None:
        """Rotations ``(n, 3, 3)`` of the random numbers of poses; None where there are none."""
        return poses if self.camera is None or poses is None else self.camera(poses)

    def sample_poses(self, n: int) -> tuple[Tensor | None, Tensor]:
        """Rotations from the uniform prior or the camera and in-plane shifts (px).

        In 2D the rotations are those of a uniform angle in the plane, or None where the prior is ``none``.
        """
        poses, shifts = self.draw_poses(n)
        return self.rotations(poses), shifts

    def _angles_in_plane(self, n: int) -> Tensor:
        psi_deg = 360 * torch.rand(n, generator=self.rng, device=self.device)
        zero = torch.zeros_like(psi_deg)
        return euler_to_matrix(zero, zero, psi_deg)

    def draw(self, n: int) -> ImageNumbers:
        """Random numbers of n images."""
        poses, shifts_px = self.draw_poses(n)
        return ImageNumbers(shifts_px, poses, self.noise.draw(n, self.rng))

    def sample_prior(self, n: int) -> Tensor:
        """``(n, k)`` latents of the prior."""
        return latent_vector.sample_prior(n, self.model, self.rng, self.device)

    def ctf(self, table: Tensor) -> Tensor:
        """CTF half planes of table rows ``(n, 8)``; ones where no CTF is applied."""
        return ctf_2d(table, self.box_px, self.pixel_size_ang)

    def render(self, z: Tensor, ctf: Tensor, averaged: bool = False) -> Tensor:
        """Noisy images ``(n, d, d)`` of one-hot z at random poses; of the averaged networks if so asked."""
        return self.images(z, ctf, self.draw(len(z)), averaged=averaged)

    def images(self, z: Tensor, ctf: Tensor, numbers: ImageNumbers, given: Given = Given(), averaged: bool = False,
               ) -> Tensor:
        """Noisy images: ``noise + IFT[ CTF shift G(z, R) ]``; ``given`` is what was made of them before.

        Poisson-like noise follows the image before the CTF (thesis, equation 37).
        """
        generator, noise = (self.generator_ema, self.noise_ema) if averaged else (self.generator, self.noise)
        rotations, shifts = self.rotations(numbers.poses), numbers.shifts_px
        clean = generator.slices(z, rotations, given.one_hot, given.source)  # type: ignore[arg-type]
        signal = slices_to_images(shift_slices(clean * ctf, shifts))
        before_ctf = (slices_to_images(shift_slices(clean, shifts)) if noise.kind == "poisson_map" else signal)
        sigma = given.sigma
        if sigma is None and numbers.noise.latent is not None:
            sigma = noise.sigma_map(numbers.noise.latent)
        return signal + noise.made(before_ctf, numbers.noise.eps, sigma)

    @torch.no_grad()
    def encode_head(self, images: Tensor, ctf_table: Tensor) -> Tensor:
        """Raw head ``(n, c + 2 k)`` of the averaged encoder for images ``(n, d, d)`` with CTF rows ``(n, 8)``."""
        if self.encoder_ema is None:
            raise ValueError("a homogeneous model has no encoder")
        images, ctf_table = images.to(self.device), ctf_table.to(self.device)
        return self.encoder_ema(input_channels(images.float(), self.ctf(ctf_table), self.model))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """What the averaged generator makes of latents ``(n, k)``, one at a time (bounded memory)."""
        self.generator_ema.eval()
        values = latent_vector.sharpened(z.to(self.device), self.model)
        return torch.cat([self.generator_ema.decode(row[None]).float().cpu() for row in values])


def build_with_critic(run: TrainRun, frame: Frame, device: torch.device) -> tuple[VaeGan, Critic]:
    """The networks of a training and its critic, whose weights are drawn third."""
    made: list[Critic] = []
    vae_gan = VaeGan(run, frame, device,
                     after_noise=lambda: made.append(Critic(run.model, frame.box_px).to(device)))
    return vae_gan, made[0]
