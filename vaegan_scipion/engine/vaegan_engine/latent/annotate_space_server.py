"""Points of a latent space decoded for Hax's *annotate space*, which loads this file by its path, in any environment.

Hax makes a ``HeterogeneityProgramInterface`` of a file's path and of all the arguments of its own command line, those
that the plugin named among them, and asks it for the maps of latents. What looks like a number arrives as a float. The
engine's folder need not be on that environment's path. (hax-em 1.0.4: ``viewer_socket/server.py``, ``template.py``.)
"""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ENGINE_ROOT = str(Path(__file__).resolve().parents[2])
if ENGINE_ROOT not in sys.path:
    sys.path.insert(0, ENGINE_ROOT)

from vaegan_engine.contract.settings import ComputeConfig  # noqa: E402
from vaegan_engine.data.mrc_files import write_map, write_stack  # noqa: E402
from vaegan_engine.training import decoded  # noqa: E402


class HeterogeneityProgramInterface:
    """The interface that Hax expects of such a file.

    Parameters
    ----------
    _path_template : path of a map with ``{}`` (or ``{0:...}``) in place of its number, which counts from 1.
    _program_loading_params : ``run_dir`` of a training, and ``gpu_id`` or none; others are left alone.
    """

    def __init__(self, _path_template: str, _program_loading_params: dict[str, Any]) -> None:
        self.path_template = _path_template
        self.model = self.prepare_heterogeneity_program(**_program_loading_params)

    def prepare_heterogeneity_program(self, **params: Any) -> Any:
        """The trained model. Raises DataError."""
        return decoded.load_trained(str(params["run_dir"]), ComputeConfig(device=device_of(params.get("gpu_id"))))

    def decode_state_from_latent(self, latent: np.ndarray) -> None:
        """Write the map (3D) or image (2D) of each latent ``(n, k)``. Raises DataError for latents of another model."""
        latent = np.atleast_2d(np.asarray(latent, np.float32))
        decoded.check_z(self.model, latent, "annotate space")
        for number, array in enumerate(self.model.decode(latent), start=1):
            path = Path(self.path_template.format(number))
            if array.ndim == 3:
                write_map(path, array, self.model.pixel_size_ang)
            else:
                write_stack(path, array[None], self.model.pixel_size_ang)


def device_of(gpu_id: Any) -> str:
    """The device of the first GPU named, as ``1``, ``1.0`` or ``"1,2"``; the CPU where none is.

    Hax shows its server the chosen GPUs alone (``CUDA_VISIBLE_DEVICES``), which CUDA then counts from 0.
    """
    if gpu_id in (None, ""):
        return "cpu"
    wanted = str(int(float(str(gpu_id).split(",")[0])))
    shown = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return f"cuda:{shown.index(wanted) if wanted in shown else wanted}"
