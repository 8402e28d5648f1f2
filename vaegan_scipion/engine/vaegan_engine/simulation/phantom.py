"""A built-in asymmetric particle in several compositional states, made by a formula.

Equation: ``density(r) = sum_b w_b exp(-1/2 (r - c_b)^T Q_b diag(1 / s_b^2) Q_b^T (r - c_b))`` over
Gaussian blobs of width ``s_b`` (A, three axes) turned by ``Q_b``. A flat, bean-shaped body carries
lobes of different sizes at general positions, so the particle has no rotational symmetry and no
mirror plane; a state lacks some of the lobes. Nothing comes from a data set.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ..contract.errors import ConfigError

PHANTOM_BOX_ANG = 288.0  # field of view that holds the particle (about 200 A) with room for shifts


class Blob(NamedTuple):
    """One Gaussian: centre (x, y, z), widths along its axes, peak, its axes' ZYZ angles."""

    center_ang: tuple[float, float, float]
    width_ang: tuple[float, float, float]
    peak: float
    angles_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)


CORE = (
    Blob((-6.0, 0.0, 0.0), (34.0, 24.0, 15.0), 0.80, (10.0, 15.0, 0.0)),
    Blob((-34.0, 28.0, 8.0), (22.0, 12.0, 11.0), 1.00, (40.0, 60.0, 20.0)),
    Blob((44.0, 14.0, -14.0), (12.0, 24.0, 12.0), 1.10, (20.0, 35.0, 70.0)),
    Blob((2.0, -34.0, 18.0), (11.0, 13.0, 24.0), 1.00, (75.0, 40.0, 10.0)),
    Blob((-46.0, -16.0, -16.0), (11.0, 11.0, 18.0), 0.90, (30.0, 70.0, 0.0)),
    Blob((12.0, 38.0, 30.0), (10.0, 10.0, 20.0), 1.10, (60.0, 50.0, 0.0)),
)
LOBES = (
    Blob((16.0, -30.0, -44.0), (15.0, 18.0, 23.0), 1.15, (15.0, 25.0, 35.0)),
    Blob((58.0, -34.0, 26.0), (16.0, 13.0, 22.0), 1.10, (80.0, 55.0, 5.0)),
    Blob((-34.0, 52.0, -30.0), (14.0, 14.0, 21.0), 1.20, (50.0, 20.0, 60.0)),
)
# lobes that each state lacks; masses 1, 0.76, 0.58, 0.83, 0.70 and 0.88 of the first state's: the
# first three differ most, so that few states make an easy mixture
MISSING_LOBES: tuple[tuple[int, ...], ...] = ((), (1, 2), (0, 1, 2), (0,), (0, 1), (2,))


def blob_density(blob: Blob, box_px: int, voxel_size_ang: float) -> np.ndarray:
    """``(d, d, d)`` float64 (z, y, x) values of one blob at the voxel centres, origin at ``d // 2``."""
    axis = (np.arange(box_px) - box_px // 2) * voxel_size_ang
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    offset = np.stack((x, y, z), -1) - np.array(blob.center_ang)
    turned = offset @ Rotation.from_euler("ZYZ", blob.angles_deg, degrees=True).as_matrix()
    return blob.peak * np.exp(-0.5 * np.square(turned / np.array(blob.width_ang)).sum(-1))


def phantom_states(n_states: int = 3, box_px: int = 32,
                   voxel_size_ang: float = PHANTOM_BOX_ANG / 32) -> np.ndarray:
    """Maps ``(n_states, d, d, d)`` float32 of the first ``n_states`` compositional states.

    Raises ConfigError when there are fewer states than asked for.
    """
    if not 1 <= n_states <= len(MISSING_LOBES):
        raise ConfigError(f"The phantom was asked for {n_states} states, it has 1 to {len(MISSING_LOBES)}.",
                          "Ask for fewer states, or give your own maps with --maps.")
    core = sum((blob_density(blob, box_px, voxel_size_ang) for blob in CORE), np.zeros((box_px,) * 3))
    lobes = [blob_density(blob, box_px, voxel_size_ang) for blob in LOBES]
    states = [core + sum((lobe for index, lobe in enumerate(lobes) if index not in missing),
                         np.zeros_like(core)) for missing in MISSING_LOBES[:n_states]]
    return np.stack(states).astype(np.float32)
