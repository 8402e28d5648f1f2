"""What has to be equal for a stopped refinement to go on."""
from __future__ import annotations

from typing import Any

from torch import Tensor

from ..contract import run_json
from ..contract.settings import StatesRun
from ..data.prepared_images import ParticleCache, digest
from .problem import GivenPoses


def settings_of(run: StatesRun, cache: ParticleCache, maps: Tensor | None, poses: GivenPoses | None = None,
                mask: Tensor | None = None) -> dict[str, Any]:
    """All that a result depends on: settings, how the images were prepared, particles, maps or poses to start from.

    ``mask``: where one was given.

    ``run``: with the data settings that count (``inputs.with_data``). Paths, device and number of threads are left
    out: a folder may be moved, and go on elsewhere.
    """
    values = run_json.to_dict(run)
    data = values.pop("data")
    if run.particle_diameter_ang:  # which gives it
        data.pop("particle_radius_frac")
    left_out = ("run_dir", "clusters_dir", "mask", "compute")
    values = {name: value for name, value in values.items() if name not in left_out}
    return {**values, "seed": run.compute.seed,
            **{f"data.{name}": value for name, value in data.items()
               if name not in ("particles", "stack", "prepared_dir")},
            "n_particles": len(cache), "box_px": cache.box_px, "particles": cache.digest(),
            "maps of the clusters": "none" if maps is None else digest(maps.cpu().numpy()),
            **({} if mask is None else {"mask": digest(mask.cpu().numpy())}),
            **({} if poses is None else {"given poses": digest(poses.rotations.cpu().numpy(),
                                                               poses.shifts_px.cpu().numpy())})}
