"""Preview pictures while training: real images, generated images, maps."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..networks import latent_vector
from ..networks.posed_vae import PosedVaeGan
from ..networks.vae_gan import VaeGan
from ..physics.projection import slices_to_images

ZOOM = 3
GAP = 4
LABEL_PX = 14
N_PLACES, N_COORDINATES = 5, 4  # of the preview of a training with poses


def grey(images: np.ndarray) -> np.ndarray:
    """Each image to 0..255 between its 1st and 99th percentile."""
    low, high = np.percentile(images, (1, 99), axis=(-2, -1), keepdims=True)
    return (np.clip((images - low) / np.maximum(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def row_of(images: np.ndarray) -> np.ndarray:
    """Images ``(n, d, d)`` side by side, enlarged, with white gaps."""
    tiles = grey(images).repeat(ZOOM, 1).repeat(ZOOM, 2)
    return np.concatenate([np.pad(t, ((0, 0), (0, GAP)), constant_values=255) for t in tiles], 1)


def picture(rows: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Labelled rows of images, one below the other."""
    strips = [(name, row_of(images)) for name, images in rows]
    width = max(strip.shape[1] for _, strip in strips)
    height = sum(strip.shape[0] + LABEL_PX + GAP for _, strip in strips)
    canvas = Image.new("L", (width, height), 255)
    draw, top = ImageDraw.Draw(canvas), 0
    for name, strip in strips:
        draw.text((2, top), name, fill=0)
        canvas.paste(Image.fromarray(strip), (0, top + LABEL_PX))
        top += strip.shape[0] + LABEL_PX + GAP
    return canvas


class Preview:
    """The same real images and latents from start to end, so that pictures can be compared."""

    def __init__(self, vae_gan: VaeGan, real: Tensor, ctf_table: Tensor) -> None:
        self.vae_gan, self.real, self.ctf_table = vae_gan, real, ctf_table
        rng, model = torch.Generator(vae_gan.device).manual_seed(0), vae_gan.model
        self.z = latent_vector.sample_prior(len(real), model, rng, vae_gan.device)
        c = model.n_categories
        self.map_z = (torch.eye(c, latent_vector.z_dim(model), device=vae_gan.device) if c
                      else self.z[:1 if model.homogeneous else 6])

    @torch.no_grad()
    def write(self, path: Path) -> None:
        """Write the picture; the training's random numbers are left as they were."""
        vae_gan = self.vae_gan
        state = vae_gan.rng.get_state()
        vae_gan.rng.manual_seed(0)
        for module in (vae_gan.generator_ema, vae_gan.noise_ema):
            module.eval()
        fakes = vae_gan.render(self.z, vae_gan.ctf(self.ctf_table), averaged=True)
        vae_gan.rng.manual_seed(0)
        rotations, _ = vae_gan.sample_poses(len(self.z))
        clean = slices_to_images(vae_gan.generator_ema.slices(self.z, rotations))  # type: ignore[arg-type]
        made = vae_gan.generator_ema.decode(self.map_z)
        vae_gan.rng.set_state(state)
        rows = [("particles", self.real), ("generated", fakes),
                ("the same, clean", clean),
                ("map projections" if made.ndim == 4 else "class images",
                 made.sum(1) if made.ndim == 4 else made)]
        save(rows, path)


class PosedPreview:
    """Projections of the maps, or images, along each coordinate of z, from -2 to 2."""

    def __init__(self, vae_gan: PosedVaeGan) -> None:
        self.vae_gan = vae_gan

    def write(self, path: Path) -> None:
        """Write the picture."""
        k = self.vae_gan.model.n_normal
        places = torch.linspace(-2, 2, N_PLACES)
        made = [self.vae_gan.decode(places[:, None] * torch.eye(k)[i]) for i in range(min(k, N_COORDINATES))]
        save([(f"z_{i + 1} from -2 to 2", one.sum(1) if one.ndim == 4 else one) for i, one in enumerate(made)], path)


def save(rows: list[tuple[str, Tensor]], path: Path) -> None:
    """Write labelled rows of images ``(n, d, d)`` as a picture, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".tmp")
    picture([(name, images.float().cpu().numpy()) for name, images in rows]).save(part, "PNG")
    part.replace(path)
