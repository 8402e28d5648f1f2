"""What a trained model makes of latents, written as maps (3D) or as one image stack (2D)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.record import write_records
from ..contract.records import ComponentRow
from ..contract.run_json import read_training
from ..contract.settings import ComputeConfig, TrainRun
from ..contract.status import made_by_others
from ..data.mrc_files import StackWriter, write_map, write_stack
from ..figures.drawing import as_picture
from ..networks import latent_vector
from ..runtime import compute

if TYPE_CHECKING:
    from ..networks.posed_vae import PosedVaeGan
    from ..networks.vae_gan import VaeGan


class Decoder(Protocol):
    """The part of ``trained.TrainedRun`` that turns latents into maps or images."""

    is_3d: bool
    pixel_size_ang: float
    box_px: int
    z_dim: int
    run: Any

    def decode(self, z: Any) -> np.ndarray:
        """Maps ``(n, d, d, d)`` or images ``(n, d, d)`` at latents ``(n, k)``."""
        ...


def load_trained(run_dir: str, settings: ComputeConfig) -> Any:
    """The ``TrainedRun``, or ``PosedRun``, of a training folder on the device asked for."""
    from .posed_run import PosedRun
    from .trained_run import TrainedRun

    kind = PosedRun if read_training(run_dir).data.posed else TrainedRun
    return kind.load(run_dir, compute.prepare_device(settings))


def check_z(decoder: Decoder, z: np.ndarray, where: str) -> None:
    """Refuse latents of another model."""
    if z.shape[1] != decoder.z_dim:
        raise DataError(f"{where}: z has {z.shape[1]} numbers per particle, the model {decoder.z_dim}.",
                        "Give the --run folder that the embedding was made with.")


def check_latents(decoder: Decoder, z: np.ndarray, folder: str, run_dir: str) -> None:
    """Refuse latents, or clusters of latents, in a ``folder`` that other networks than those of ``run_dir`` made.

    Raises DataError.
    """
    check_z(decoder, z, folder)
    if made_by_others(folder, run_dir):
        raise DataError(f"{folder} was made by other networks than those of {run_dir}: by another training, or before "
                        "that one was trained on or anew.",
                        "Give the --run folder that it was made with, or embed and cluster again with this one.")


@dataclass(frozen=True)
class Decoded:
    """A map, or image, that was decoded and written."""

    file: str  # relative to the results folder
    index: int  # in it, from 0
    picture: np.ndarray  # the image (d, d), or the central sections of the map beside each other (d, 3 d)


def write_decoded(decoder: Decoder, z: np.ndarray, names: Sequence[str], out_dir: Path) -> list[Decoded]:
    """Decode ``(n, k)`` latents and write them below ``out_dir/maps``, one after the other: memory holds one map.

    3D: ``maps/NAME.mrc`` each; 2D: all in ``maps/images.mrcs``.
    """
    made: list[Decoded] = []
    if decoder.is_3d:
        for latent, name in zip(z, names, strict=True):
            array, file = decoder.decode(latent[None])[0], f"{result_files.MAPS}/{name}.mrc"
            write_map(out_dir / file, array, decoder.pixel_size_ang)
            made.append(Decoded(file, 0, as_picture(array)))
        return made
    file = f"{result_files.MAPS}/{result_files.IMAGES_MRCS}"
    with StackWriter(out_dir / file, len(z), decoder.box_px, decoder.pixel_size_ang) as stack:
        for latent in z:
            image = decoder.decode(latent[None])
            stack.append(image)
            made.append(Decoded(file, len(made), image[0]))
    return made


def component_latents(run: TrainRun, seed: int = 0) -> np.ndarray:
    """Latents that show what a run learned: each category, or six samples of the prior (homogeneous: the one)."""
    model = run.model
    if model.homogeneous:
        return np.ones((1, latent_vector.z_dim(model)), np.float32)
    if model.n_categories:
        return np.eye(model.n_categories, latent_vector.z_dim(model), dtype=np.float32)
    return np.random.default_rng(seed).standard_normal((6, model.n_normal)).astype(np.float32)


def write_components(vae_gan: VaeGan | PosedVaeGan, out_dir: Path) -> list[ComponentRow]:
    """Write ``components.json`` with ``maps/component_00.mrc`` ... (3D) or ``images.mrcs`` (2D).

    They are decoded one after the other: memory holds one map, and the images.
    """
    z = component_latents(vae_gan.run)
    (out_dir / result_files.MAPS).mkdir(parents=True, exist_ok=True)
    rows, images = [], []
    for index, latent in enumerate(z):
        array = vae_gan.decode(torch.from_numpy(latent[None])).numpy()[0]
        name = (f"{result_files.MAPS}/component_{index:02d}.mrc" if array.ndim == 3
                else f"{result_files.MAPS}/{result_files.IMAGES_MRCS}")
        if array.ndim == 3:
            write_map(out_dir / name, array, vae_gan.pixel_size_ang)
        else:
            images.append(array)
        rows.append(ComponentRow(index, latent.tolist(), name, 1.0 / len(z)))
    if images:
        write_stack(out_dir / result_files.MAPS / result_files.IMAGES_MRCS, np.stack(images), vae_gan.pixel_size_ang)
    write_records(out_dir / result_files.COMPONENTS_JSON, rows)
    return rows
