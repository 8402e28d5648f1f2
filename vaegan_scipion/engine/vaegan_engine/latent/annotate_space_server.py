"""Points of a latent space decoded for Hax's *annotate space*, which loads this file by its path, in any environment.

Hax makes a ``HeterogeneityProgramInterface`` of a file's path and the arguments that the plugin named, and asks it for
the maps of latents. The engine's folder need not be on that environment's path.
"""
from __future__ import annotations

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
    _program_loading_params : ``run_dir`` of a training, and ``gpu_id`` or none.
    """

    def __init__(self, _path_template: str, _program_loading_params: dict[str, Any]) -> None:
        self.path_template = _path_template
        self.model = self.prepare_heterogeneity_program(**_program_loading_params)

    def prepare_heterogeneity_program(self, **params: Any) -> Any:
        """The trained model. Raises DataError."""
        gpu_id = params.get("gpu_id")
        device = "cpu" if gpu_id in (None, "") else f"cuda:{int(str(gpu_id).split(',')[0])}"
        return decoded.load_trained(str(params["run_dir"]), ComputeConfig(device=device))

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
