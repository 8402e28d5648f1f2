"""What a trained model makes of latents, written as maps (3D) or as one image stack (2D)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import compute, results
from .contract import ComputeConfig
from .errors import DataError
from .mrc_io import write_map, write_stack


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


LoadDecoder = Callable[[str, ComputeConfig], Decoder]


def load_trained(run_dir: str, settings: ComputeConfig) -> Any:
    """The ``TrainedRun`` of a training folder on the device asked for."""
    from .trained import TrainedRun

    return TrainedRun.load(run_dir, compute.prepare_device(settings))


def check_z(decoder: Decoder, z: np.ndarray, where: str) -> None:
    """Refuse latents of another model."""
    if z.shape[1] != decoder.z_dim:
        raise DataError(f"{where}: z has {z.shape[1]} numbers per particle, the model {decoder.z_dim}.",
                        "Give the --run folder that the embedding was made with.")


def write_decoded(decoder: Decoder, z: np.ndarray, names: Sequence[str], out_dir: Path
                  ) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Decode ``(n, k)`` latents and write them below ``out_dir/maps``.

    Returns the arrays and, per latent, (file relative to ``out_dir``, index in it from 0).
    3D: ``maps/NAME.mrc`` each; 2D: all in ``maps/images.mrcs``.
    """
    made = decoder.decode(z)
    if made.ndim == 4:
        for name, array in zip(names, made, strict=True):
            write_map(out_dir / results.MAPS / f"{name}.mrc", array, decoder.pixel_size_ang)
        return made, [(f"{results.MAPS}/{name}.mrc", 0) for name in names]
    write_stack(out_dir / results.MAPS / results.IMAGES_MRCS, made, decoder.pixel_size_ang)
    return made, [(f"{results.MAPS}/{results.IMAGES_MRCS}", index) for index in range(len(made))]
