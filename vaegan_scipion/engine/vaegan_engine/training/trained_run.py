"""A finished (or stopped) run, read back: encode particles, decode latents."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract.errors import ConfigError
from ..networks import latent_vector
from ..networks.vae_gan import Frame, VaeGan
from . import checkpoints


class TrainedRun:
    """The averaged generator and encoder of a run's newest checkpoint."""

    def __init__(self, vae_gan: VaeGan) -> None:
        self.vae_gan, self.run = vae_gan, vae_gan.run
        self.box_px, self.pixel_size_ang = vae_gan.box_px, vae_gan.pixel_size_ang
        self.is_3d = vae_gan.run.command == "train3d"
        self.z_dim = latent_vector.z_dim(vae_gan.model)
        for module in vae_gan.modules().values():
            module.eval().requires_grad_(False)

    @classmethod
    def load(cls, run_dir: str | Path, device: str | torch.device = "cpu") -> TrainedRun:
        """Read ``run.json`` and the newest checkpoint of ``run_dir``. Raises DataError."""
        run, state = checkpoints.read_run(Path(run_dir), torch.device(device))
        vae_gan = VaeGan(run, Frame(state["box_px"], state["pixel_size_ang"]), torch.device(device))
        checkpoints.restore_networks(vae_gan.modules(), state)
        return cls(vae_gan)

    def encode_head(self, images: Tensor, ctf_table: Tensor) -> Tensor:
        """Raw encoder head ``(n, c + 2 k)`` of images ``(n, d, d)`` with CTF rows ``(n, 8)``."""
        if self.vae_gan.encoder_ema is None:
            raise no_encoder("this run")
        return self.vae_gan.encode_head(images, ctf_table)

    def encode(self, images: Tensor, ctf_table: Tensor) -> Tensor:
        """Posterior mean of z ``(n, k)``."""
        return latent_vector.posterior_mean(self.encode_head(images, ctf_table), self.run.model)

    def decode(self, z: Tensor | np.ndarray) -> np.ndarray:
        """Maps ``(n, d, d, d)`` (3D) or images ``(n, d, d)`` (2D) at latents ``(n, k)``, float32."""
        return self.vae_gan.decode(torch.as_tensor(np.asarray(z, np.float32))).numpy()


def no_encoder(where: str) -> ConfigError:
    """What to say where particles of a homogeneous run were to be encoded."""
    return ConfigError(f"{where}: the training is homogeneous (model.homogeneous): it has one structure and no "
                       "encoder, so particles cannot be embedded.",
                       "Its map is in the folder maps; train with an encoder, for example the preset thesis-3d.")
