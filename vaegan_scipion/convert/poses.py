"""Poses of the engine (RELION's angles, shifts of the particle's centre in A) as Scipion's projection alignment."""
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
from pwem.objects import Transform

from ..engine.vaegan_engine.contract import result_files
from ..engine_run import EngineError, result_file


class Pose(NamedTuple):
    """Where a particle belongs and how it is turned."""

    label: int
    probability: float
    rot_deg: float
    tilt_deg: float
    psi_deg: float
    shift_x_ang: float  # of the particle's centre from pixel d // 2
    shift_y_ang: float
    half_set: int
    contrast: float = 1.0  # of the particle over its state's map
    motion: Optional[float] = None  # place along its state's motion, 0 to 1
    motion_std: Optional[float] = None  # of its posterior; not known of results of before there was one


_COLUMNS = Pose._fields
_KINDS = {"particle_id": int, "label": int, "half_set": int}  # the others are numbers
_MAY_LACK = "motion", "motion_std"


class Placing(NamedTuple):
    """What a run knows of a particle: the number of its class there, and what gives a particle its alignment."""

    class_number: int  # 0: in no class, or none is known
    align: Callable[[Any], None]


def read_poses(folder: str) -> Dict[int, Pose]:
    """Particle id -> pose, by `particles.csv` of a states folder. Raises EngineError."""
    path = result_file(folder, result_files.PARTICLES_CSV)
    try:
        rows = result_files.read_columns(path, {name: _KINDS.get(name, float) for name in ("particle_id", *_COLUMNS)},
                                         absent=dict.fromkeys(_MAY_LACK, "nan"))
    except KeyError as error:
        raise no_column(path, error) from error
    known = (values.tolist() for values in (rows[name] for name in _COLUMNS))
    return {i: Pose(*values[:-2], *(None if math.isnan(x) else x for x in values[-2:]))
            for i, values in zip(rows["particle_id"].tolist(), zip(*known))}


def no_column(path: Any, error: KeyError) -> EngineError:
    """What is wrong with a table that lacks the column that a reader asked for."""
    return EngineError(f"{path}: it has no column {error}; an engine of another release wrote it. Run that protocol "
                       "again with Restart.")


def rotation_z(angle_deg: float) -> np.ndarray:
    """Active rotation (3, 3) about z by an angle."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def pose_matrix(pose: Pose, sampling_rate_ang: float) -> np.ndarray:
    """Scipion's matrix (4, 4) of a projection alignment; see ``pose_matrices``."""
    return pose_matrices({0: pose}, sampling_rate_ang)[0]


def pose_matrices(poses: Dict[int, Pose], sampling_rate_ang: float) -> Dict[int, np.ndarray]:
    """Particle id -> Scipion's matrix (4, 4) of its projection alignment, of all at once.

    The inverse of [A | t], that is [A^T | -A^T t], with RELION's A^T = Rz(rot) Ry(tilt) Rz(psi) of active rotations and
    t the shift of the particle's centre in px (RELION's rlnOrigin has the other sign).
    """
    values = np.array([(p.rot_deg, p.tilt_deg, p.psi_deg, p.shift_x_ang, p.shift_y_ang) for p in poses.values()], float)
    if not len(values):
        return {}
    cosine, sine = np.cos(np.radians(values[:, :3])), np.sin(np.radians(values[:, :3]))
    a, b, c = cosine.T
    d, e, f = sine.T
    matrices = np.zeros((len(values), 4, 4))
    matrices[:, 0, :3] = np.stack([a * b * c - d * f, -a * b * f - d * c, a * e], axis=1)
    matrices[:, 1, :3] = np.stack([d * b * c + a * f, -d * b * f + a * c, d * e], axis=1)
    matrices[:, 2, :3] = np.stack([-e * c, e * f, b], axis=1)
    matrices[:, :3, 3] = -(matrices[:, :3, :2] * values[:, None, 3:]).sum(axis=2) / sampling_rate_ang
    matrices[:, 3, 3] = 1
    return dict(zip(poses, matrices))


def scaled_shifts(matrix: Any, scale: float) -> np.ndarray:
    """Scipion's matrix (4, 4) with its shifts (px) times `scale`: of the same pose in smaller or larger pixels."""
    scaled = np.array(matrix, float)
    scaled[:3, 3] *= scale
    return scaled


def set_alignment(particle: Any, matrix: Any) -> None:
    """Give a particle its projection alignment."""
    particle.setTransform(Transform(matrix))


def star_pose(matrix: Any, sampling_rate_ang: float) -> List[float]:
    """RELION's rot, tilt, psi (deg) and rlnOriginX, Y (A) of Scipion's matrix (4, 4): `pose_matrix` undone."""
    matrix = np.asarray(matrix, float)
    r = matrix[:3, :3].T  # of the inverse: a rotation's is its transpose
    side = float(np.hypot(r[2, 0], r[2, 1]))
    tilt = np.arctan2(side, r[2, 2])
    if side > 1e-6:
        rot, psi = np.arctan2(r[2, 1], r[2, 0]), np.arctan2(r[1, 2], -r[0, 2])
    else:  # seen along the axis: rot and psi are one angle
        rot, psi = 0.0, np.arctan2(-r[1, 0] * np.sign(r[2, 2]), r[1, 1])
    origin = (r[:2] * matrix[:3, 3]).sum(axis=1) * sampling_rate_ang
    return [float(x) for x in (*np.degrees([rot, tilt, psi]), *origin)]
