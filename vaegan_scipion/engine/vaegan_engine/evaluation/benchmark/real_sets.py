"""Real particles on the scoreboard: one molecule of a known symmetry, and a model that its map is held to.

Halves of a wrong map agree too. What a wrong map of a symmetric particle does not have is the symmetry, where it was
not told: its correlation with itself turned by the group, against that with as many random turns; and the model. What
is alike in all directions is left out of these correlations, or a smooth shell would pass for any symmetry.
"""
from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ...contract import result_files
from ...contract.records import StatesSummary
from ...contract.settings import ComputeConfig, DataConfig, StatesRun
from ...contract.symmetry import NO_SYMMETRY
from ...data.mrc_files import read_map
from ...physics.map_alignment import align_map, move_map
from ...physics.map_comparison import compare
from ...physics.rotations import euler_to_matrix
from ...physics.symmetry import group_of

REAL_FIGURES = ("self_correlation", "control_correlation", "model_correlation", "resolution_0.143_ang", "pole_share")
NEAR_POLE_DEG = 20.0
CONTROL_SEED = 0
SHELL_PX = 0.25  # of the radial mean


@dataclass(frozen=True)
class RealSet:
    """Particles, the model of what they show, and what ``states`` is told of them."""

    star: str  # below --data
    model: str  # the same box and voxel size as the maps
    group: str  # of the model
    shell_ang: tuple[float, float]  # radii from centre between which maps are correlated
    data: dict[str, Any] = field(default_factory=dict)  # settings of the images
    states: dict[str, Any] = field(default_factory=dict)


_FOLDER = "real_particles/apoferritin_10146/"
_APOFERRITIN = RealSet(
    _FOLDER + "particles.star", _FOLDER + "apoferritin_64.mrc", "O", (36.0, 70.0),
    {"box_px": 64, "invert_contrast": True},
    {"particle_diameter_ang": 130.0, "max_shift_frac": 0.035, "n_maps": 1})  # centred to about 1 px
REAL_SETS = {
    "apoferritin": _APOFERRITIN,
    "apoferritin-O": replace(_APOFERRITIN, states={**_APOFERRITIN.states, "symmetry": "O"}),
}


def is_there(real: RealSet, data: Path) -> bool:
    """Whether the set's files are below a folder."""
    return (data / real.star).exists() and (data / real.model).exists()


def run_real_set(real: RealSet, data: Path, out: Path, where: ComputeConfig) -> tuple[StatesSummary, dict[str, Any]]:
    """States of the set, and their figures: of the largest state's map and of all poses. Raises ConfigError, DataError.

    ``self_correlation`` and ``control_correlation`` (``turned_correlations``), ``model_correlation`` without what is
    alike in all directions, resolutions by the FSC with the model, ``pole_share``: views within 20 degrees of the z
    axis / what even views have there; minutes.
    """
    from ...refine.refine import run_states

    started = time.monotonic()
    run = StatesRun(data=DataConfig(particles=str((data / real.star).absolute()), **real.data), compute=where,
                    **real.states)
    summary = run_states(run, out / "states")
    minutes = (time.monotonic() - started) / 60
    made, voxel_size_ang = read_map(out / "states" / result_files.MAPS / "cluster_00.mrc")
    return summary, {"found": summary.states if summary.has_states else 0, "minutes": minutes,
                     **map_figures(made, read_map(data / real.model)[0], voxel_size_ang, real),
                     "pole_share": pole_share(out / "states", real.states.get("symmetry", NO_SYMMETRY))}


def map_figures(made: np.ndarray, model: np.ndarray, voxel_size_ang: float, real: RealSet) -> dict[str, float]:
    """Figures of a map ``(d, d, d)``, laid onto the model first (rotation, shift and hand)."""
    aligned = align_map(made, model, voxel_size_ang).map
    own, control = turned_correlations(aligned, voxel_size_ang, real)
    compared = compare(aligned, model, voxel_size_ang)
    shell = shell_of(model.shape[0], voxel_size_ang, real)
    return {"self_correlation": own, "control_correlation": control,
            "model_correlation": correlation(without_radial_mean(aligned), without_radial_mean(model), shell),
            "resolution_0.143_ang": compared.resolution_0143_ang, "resolution_0.5_ang": compared.resolution_05_ang}


def turned_correlations(map_: np.ndarray, voxel_size_ang: float, real: RealSet) -> tuple[float, float]:
    """Mean correlation of a map with itself turned by its model's group, and by as many random rotations."""
    turns = group_of(real.group).numpy()[1:]
    random = Rotation.random(len(turns), random_state=CONTROL_SEED).as_matrix().astype(np.float32)
    shape, shell = without_radial_mean(map_), shell_of(len(map_), voxel_size_ang, real)
    own, control = (float(np.mean([correlation(shape, move_map(shape, turn, np.zeros(3)), shell) for turn in some]))
                    for some in (turns, random))
    return own, control


def distances(d: int) -> np.ndarray:
    """Distance of every voxel from the centre, ``(d, d, d)`` in px."""
    x = np.arange(d) - d // 2
    return np.sqrt(x[:, None, None] ** 2 + x[:, None] ** 2 + x ** 2)


def shell_of(d: int, voxel_size_ang: float, real: RealSet) -> np.ndarray:
    """The voxels that are correlated ``(d, d, d)`` bool."""
    r = distances(d) * voxel_size_ang
    shell: np.ndarray = (r >= real.shell_ang[0]) & (r <= real.shell_ang[1])
    return shell


def without_radial_mean(map_: np.ndarray) -> np.ndarray:
    """A map ``(d, d, d)`` less its mean at each distance from the centre.

    The mean is taken in thin shells and interpolated: one of whole voxels leaves the grid's own cubic symmetry.
    """
    r = distances(len(map_))
    ring = (r / SHELL_PX).round().astype(int).ravel()
    count = np.maximum(np.bincount(ring), 1)
    radius, mean = (np.bincount(ring, values.ravel()) / count for values in (r, map_))
    used = np.bincount(ring) > 0
    return np.asarray(map_ - np.interp(r, radius[used], mean[used]), np.float32)


def correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Pearson correlation of two maps inside some voxels."""
    return float(np.corrcoef(a[inside], b[inside])[0, 1])


def pole_share(folder: Path, symmetry: str = NO_SYMMETRY) -> float:
    """Views within 20 degrees of the z axis, up or down, over those that even views have there; 1 where even.

    Poses found with a ``symmetry`` are searched in one unit of it: each view counts at all its copies.
    """
    angles = torch.tensor([[float(row[name]) for name in ("rot_deg", "tilt_deg")]
                           for row in result_files.read_csv(folder / result_files.PARTICLES_CSV)
                           if int(row["label"]) >= 0])
    views = euler_to_matrix(angles[:, 0], angles[:, 1], torch.zeros(len(angles)))[:, 2]
    cosine = torch.einsum("ni,gi->ng", views, group_of(symmetry)[:, :, 2]).abs()
    near = cosine > np.cos(np.radians(NEAR_POLE_DEG))
    return float(near.float().mean() / (1 - np.cos(np.radians(NEAR_POLE_DEG))))


def settings_of(real: RealSet) -> dict[str, Any]:
    """What a row says that it was run with."""
    return {**asdict(real), "shell_ang": list(real.shell_ang)}
