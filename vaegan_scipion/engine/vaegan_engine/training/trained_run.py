"""A finished (or stopped) run, read back: encode particles, decode latents."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..contract.errors import ConfigError, DataError
from ..contract.run_json import read_training
from ..networks import latent_vector
from ..networks.critic_encoder import input_channels
from . import checkpoints

if TYPE_CHECKING:
    from .trainer import Trainer


class TrainedRun:
    """The averaged generator and encoder of a run's newest checkpoint."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.run = trainer, trainer.run
        self.box_px, self.pixel_size_ang = trainer.box_px, trainer.pixel_size_ang
        self.is_3d = trainer.run.command == "train3d"
        self.z_dim = latent_vector.z_dim(trainer.model)
        for module in trainer.modules().values():
            module.eval().requires_grad_(False)

    @classmethod
    def load(cls, run_dir: str | Path, device: str | torch.device = "cpu") -> TrainedRun:
        """Read ``run.json`` and the newest checkpoint of ``run_dir``. Raises DataError."""
        from .trainer import Trainer

        run_dir, device = Path(run_dir), torch.device(device)
        stored = checkpoints.newest(run_dir)
        if stored is None or not stored.exists():
            raise DataError(f"{run_dir}: there is no checkpoint of a training.",
                            "Give the --out folder of train3d or train2d, after its first checkpoint.")
        run = read_training(run_dir)
        state = checkpoints.read(stored, device)
        trainer = Trainer(run, state["box_px"], state["pixel_size_ang"], device)
        checkpoints.restore_networks(trainer, state)
        return cls(trainer)

    @torch.no_grad()
    def encode_head(self, images: Tensor, ctf_table: Tensor) -> Tensor:
        """Raw encoder head ``(n, c + 2 k)`` of images ``(n, d, d)`` with CTF rows ``(n, 7)``."""
        trainer = self.trainer
        if trainer.encoder_ema is None:
            raise no_encoder("this run")
        images, ctf_table = images.to(trainer.device), ctf_table.to(trainer.device)
        channels = input_channels(images.float(), trainer.ctf(ctf_table), trainer.model)
        return trainer.encoder_ema(channels)

    def encode(self, images: Tensor, ctf_table: Tensor) -> Tensor:
        """Posterior mean of z ``(n, k)``."""
        return latent_vector.posterior_mean(self.encode_head(images, ctf_table), self.trainer.model)

    def decode(self, z: Tensor | np.ndarray) -> np.ndarray:
        """Maps ``(n, d, d, d)`` (3D) or images ``(n, d, d)`` (2D) at latents ``(n, k)``, float32."""
        return decode(self.trainer, z)


@torch.no_grad()
def decode(trainer: Trainer, z: Tensor | np.ndarray) -> np.ndarray:
    """What the averaged generator makes of latents ``(n, k)``, one at a time (bounded memory)."""
    trainer.generator_ema.eval()
    values = torch.as_tensor(np.asarray(z, np.float32), device=trainer.device)
    values = latent_vector.sharpened(values, trainer.model)
    return np.concatenate([trainer.generator_ema.decode(row[None]).float().cpu().numpy()
                           for row in values])


def no_encoder(where: str) -> ConfigError:
    """What to say where particles of a homogeneous run were to be encoded."""
    return ConfigError(f"{where}: the training is homogeneous (model.homogeneous): it has one structure and no "
                       "encoder, so particles cannot be embedded.",
                       "Its map is in the folder maps; train with an encoder, for example the preset thesis-3d.")
