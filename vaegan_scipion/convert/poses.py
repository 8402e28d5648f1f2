"""Poses of the engine (RELION's angles, shifts of the particle's centre in A) as Scipion's projection alignment."""
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from ..engine.vaegan_engine.contract import result_files
from ..engine_run import result_file


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


def read_poses(folder: str) -> Dict[int, Pose]:
    """Particle id -> pose, by `particles.csv` of a states folder. Raises EngineError."""
    rows = result_files.read_csv(result_file(folder, result_files.PARTICLES_CSV))
    return {int(row["particle_id"]): Pose(
        int(row["label"]), float(row["probability"]), float(row["rot_deg"]), float(row["tilt_deg"]),
        float(row["psi_deg"]), float(row["shift_x_ang"]), float(row["shift_y_ang"]), int(row["half_set"]),
        float(row["contrast"]), float(row["motion"]) if row["motion"] else None)
        for row in rows}


def rotation_z(angle_deg: float) -> np.ndarray:
    """Active rotation (3, 3) about z by an angle."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def rotation_y(angle_deg: float) -> np.ndarray:
    """Active rotation (3, 3) about y by an angle."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def pose_matrix(pose: Pose, sampling_rate_ang: float) -> np.ndarray:
    """Scipion's matrix (4, 4) of a projection alignment.

    The inverse of [A | t], with RELION's A = Rz(-psi) Ry(-tilt) Rz(-rot) and t the shift of the particle's centre in
    px (RELION's rlnOrigin has the other sign).
    """
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_z(-pose.psi_deg) @ rotation_y(-pose.tilt_deg) @ rotation_z(-pose.rot_deg)
    matrix[:2, 3] = np.array([pose.shift_x_ang, pose.shift_y_ang]) / sampling_rate_ang
    return np.asarray(np.linalg.inv(matrix))


def star_pose(matrix: Any, sampling_rate_ang: float) -> List[float]:
    """RELION's rot, tilt, psi (deg) and rlnOriginX, Y (A) of Scipion's matrix (4, 4): `pose_matrix` undone."""
    inverse = np.linalg.inv(np.asarray(matrix, float))
    r = inverse[:3, :3]
    tilt = np.arctan2(np.hypot(r[2, 0], r[2, 1]), r[2, 2])
    if np.hypot(r[2, 0], r[2, 1]) > 1e-6:
        rot, psi = np.arctan2(r[2, 1], r[2, 0]), np.arctan2(r[1, 2], -r[0, 2])
    else:  # seen along the axis: rot and psi are one angle
        rot, psi = 0.0, np.arctan2(-r[1, 0] * np.sign(r[2, 2]), r[1, 1])
    origin = -inverse[:2, 3] * sampling_rate_ang
    return [float(x) for x in (*np.degrees([rot, tilt, psi]), *origin)]
