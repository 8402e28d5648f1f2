"""Classes in the plane of the engine: where each particle belongs, turned and shifted, as Scipion's 2D alignment."""
from typing import Any, Dict, NamedTuple

import numpy as np
from pwem.objects import Transform
from pyworkflow.object import Boolean, Float, Integer

from ..engine.vaegan_engine.contract import result_files
from ..engine_run import result_file
from .poses import no_column, rotation_z


class PlanePose(NamedTuple):
    """Where a particle belongs and how it lies in its class."""

    label: int  # of the class, from 0; -1 = none
    junk: bool
    probability: float  # of the class
    psi_deg: float
    shift_x_ang: float  # of the particle's centre from pixel d // 2
    shift_y_ang: float
    contrast: float  # 1 = typical of the class
    gain: float  # log likelihood ratio with the other half's average
    half_set: int


def read_plane_poses(folder: str) -> Dict[int, PlanePose]:
    """Particle id -> pose, by `particles.csv` of a classes2d folder. Raises EngineError."""
    path = result_file(folder, result_files.PARTICLES_CSV)
    try:
        rows = result_files.read_columns(path, {
            name: int if name in ("particle_id", "label", "junk", "half_set") else float
            for name in ("particle_id", *PlanePose._fields)})
    except KeyError as error:
        raise no_column(path, error) from error
    rows["junk"] = rows["junk"] != 0
    columns = (rows[name].tolist() for name in PlanePose._fields)
    return {i: PlanePose(*values) for i, values in zip(rows["particle_id"].tolist(), zip(*columns))}


def plane_matrix(pose: PlanePose, sampling_rate_ang: float) -> np.ndarray:
    """Scipion's matrix (4, 4) of a 2D alignment, as RELION's classes are read: `Rz(psi)`, and rlnOrigin in px.

    rlnOrigin is what an image is moved by to be centred, so it has the other sign than the particle's shift.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_z(pose.psi_deg)
    matrix[:2, 3] = -np.array([pose.shift_x_ang, pose.shift_y_ang]) / sampling_rate_ang
    return matrix


def align_in_plane(particle: Any, pose: PlanePose, sampling_rate_ang: float) -> None:
    """Give a particle its 2D alignment and what is known of it."""
    particle.setTransform(Transform(plane_matrix(pose, sampling_rate_ang)))
    particle._vaeganLabel = Integer(pose.label)
    particle._vaeganProbability = Float(pose.probability)
    particle._vaeganContrast = Float(pose.contrast)
    particle._vaeganGain = Float(pose.gain)
    particle._vaeganJunk = Boolean(pose.junk)
    particle._rlnRandomSubset = Integer(pose.half_set)
