"""A training with poses, read back: posteriors of particles, maps of latents."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract.settings import TrainRun
from ..data.prepared_images import ParticleCache
from ..networks.posed_vae import PosedVaeGan
from ..networks.vae_gan import Frame
from ..reconstruction.map_family import FAMILY_CHUNK_IMAGES, Spreads, family, seen
from . import checkpoints
from .plane_images import in_frame
from .posed_images import PosedParticles, posed_particles


@dataclass(frozen=True)
class Posteriors:
    """Gaussian posteriors of the particles that have a pose."""

    particle_id: np.ndarray  # (n,) int64
    z: np.ndarray  # (n, k) float32, means; the coordinates that are active
    precision: np.ndarray  # (n, k, k) float32, inverse covariances
    half_set: np.ndarray  # (n,) uint8


class PosedRun:
    """The generator and encoder of a run's newest checkpoint."""

    def __init__(self, vae_gan: PosedVaeGan, folder: Path) -> None:
        self.vae_gan, self.run, self.folder = vae_gan, vae_gan.run, folder
        self.is_3d = vae_gan.space.ndim == 3
        self.box_px, self.pixel_size_ang, self.z_dim = vae_gan.box_px, vae_gan.pixel_size_ang, vae_gan.n_active
        for module in vae_gan.modules().values():
            module.eval().requires_grad_(False)

    @classmethod
    def load(cls, run_dir: str | Path, device: str | torch.device = "cpu") -> PosedRun:
        """Read ``run.json`` and the newest checkpoint of ``run_dir``. Raises DataError."""
        run, state = checkpoints.read_run(Path(run_dir), torch.device(device))
        vae_gan = PosedVaeGan(run, Frame(state["box_px"], state["pixel_size_ang"]), torch.device(device))
        checkpoints.restore_networks(vae_gan.modules(), state)
        return cls(vae_gan, Path(run_dir))

    def at_poses(self, run: TrainRun, cache: ParticleCache) -> PosedParticles:
        """The particles of a cache at the poses that ``run`` names, in the cache's order. Raises DataError."""
        device = self.vae_gan.device
        return posed_particles(run, cache, device) if self.is_3d else in_frame(run, cache, self.folder, device)

    @torch.no_grad()
    def posteriors(self, particles: PosedParticles) -> Posteriors:
        """Of particles at their poses, in their order."""
        g = self.vae_gan.generator
        read = family(g.mean, g.maps(), particles.band)
        precision = particles.band.weight / g.noise[particles.band.shell]
        spreads = Spreads(*g.spreads.tolist())
        z, inverse = [], []
        for rows in torch.arange(len(particles), device=self.vae_gan.device).split(FAMILY_CHUNK_IMAGES):
            seen_here = seen(read, particles.part(rows), precision, spreads)
            q = self.vae_gan.posterior(seen_here.gram, seen_here.pull)
            z.append(q.mean[:, :self.z_dim].cpu().numpy())
            inverse.append(torch.linalg.inv(q.covariance()[:, :self.z_dim, :self.z_dim]).cpu().numpy())
        return Posteriors(particles.particle_id, np.concatenate(z), np.concatenate(inverse), particles.half_set)

    def decode(self, z: Tensor | np.ndarray) -> np.ndarray:
        """Maps ``(n, d, d, d)``, or images ``(n, d, d)``, at latents ``(n, k)``, float32."""
        return self.vae_gan.decode(torch.as_tensor(np.asarray(z, np.float32))).numpy()
