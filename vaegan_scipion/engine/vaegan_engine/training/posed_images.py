"""Prepared particles at the poses they were given, in the band of a training."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..contract.errors import DataError
from ..contract.settings import TrainRun
from ..contract.symmetry import is_symmetric
from ..data.particles import LEAST_HALF_FRAC, smaller_half_frac, with_copies_together
from ..data.pose_table import PoseTable, read_poses
from ..data.prepared_images import ParticleCache, digest
from ..physics.fourier_band import Band, make_band
from ..physics.map_resize import working_box_px
from ..physics.rotations import euler_to_matrix
from ..reconstruction.images import spread_rows
from ..reconstruction.posed_images import Coefficients, Posed, posed


@dataclass(frozen=True)
class PosedParticles:
    """Images with poses; row i of every array is one particle."""

    source: Coefficients
    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    psi_rad: Tensor  # (n,)
    band: Band  # of the working box; its coefficients are those of the images' own
    particle_id: np.ndarray  # (n,) int64
    half_set: np.ndarray  # (n,) uint8
    poses: str = ""  # digest of their particles, angles, shifts and contrasts; "": no particles' own

    def __len__(self) -> int:
        return len(self.rotations)

    def part(self, rows: Tensor) -> Posed:
        """Some of the images, by row numbers."""
        transforms, ctf = self.source[rows.cpu().numpy()]
        made = posed(transforms, ctf, self.rotations[rows], self.shifts_px[rows], self.source.band)
        return made._replace(band=self.band)

    def rows(self, at: slice) -> Posed:
        """Images in a row."""
        return self.part(torch.arange(len(self), device=self.rotations.device)[at])

    def spread(self, wanted: int) -> Tensor:
        """At most ``wanted`` rows, spread evenly."""
        return torch.from_numpy(spread_rows(len(self), wanted)).to(self.rotations.device)

    def halves(self, wanted: int) -> tuple[Tensor, Tensor]:
        """At most ``wanted`` rows of each half set; of every second image where one half set has hardly any."""
        half = self.half_set if smaller_half_frac(self.half_set) >= LEAST_HALF_FRAC else 1 + np.arange(len(self)) % 2
        first, second = (np.flatnonzero(half == k) for k in (1, 2))
        return tuple(torch.from_numpy(rows[spread_rows(len(rows), wanted)]).to(self.rotations.device)  # type: ignore[return-value]
                     for rows in (first, second))


def posed_particles(run: TrainRun, cache: ParticleCache, device: torch.device) -> PosedParticles:
    """The particles of a cache that have a pose and are no junk. Raises DataError.

    Poses of a symmetric map are refused: each is one of several that show the same, and what breaks the symmetry, which
    is what there would be to learn, lies at any of as many places.
    """
    table = read_poses(run.data)
    if is_symmetric(table.symmetry):
        raise DataError(
            f"{run.data.poses_dir or run.data.particles}: the poses are of symmetry {table.symmetry}; a training has "
            "none, and what breaks the symmetry would be smeared over all its places.",
            f"Run states on its particles.star with input_poses and relax_symmetry {table.symmetry}; give that folder.")
    return at_poses(run, cache, table, device)


def at_poses(run: TrainRun, cache: ParticleCache, table: PoseTable, device: torch.device) -> PosedParticles:
    """The particles of a cache that have a pose in a table and are no junk. Raises DataError."""
    rows, here = table.rows_of(cache.particle_id)
    if len(rows) < 2:
        where = run.data.poses_dir or run.data.particles
        raise DataError(f"{where}: {len(rows)} of {len(cache)} particles have a pose, at least 2 are needed.",
                        "Give the poses of these particles; rows are joined by particle id.")
    if len(rows) < len(cache):
        print(f"{len(cache) - len(rows)} of {len(cache)} particles have no pose or are junk: left out", flush=True)
    cache = with_half_sets_of(cache, table, rows, here)
    contrast = np.ones(len(cache), np.float32)
    contrast[rows] = table.contrast[here]
    images = replace(cache.on(device), contrast=contrast)
    radius = run.training.band_shells
    angles = torch.from_numpy(table.angles_deg[here])
    return PosedParticles(
        Coefficients(images, rows, make_band(cache.box_px, radius, device)),
        euler_to_matrix(*angles.T).float().to(device),
        torch.from_numpy(table.shifts_ang[here] / cache.pixel_size_ang).float().to(device),
        torch.deg2rad(angles[:, 2]).float().to(device), make_band(working_box_px(radius, cache.box_px), radius, device),
        cache.particle_id[rows].astype(np.int64),
        with_copies_together(cache.half_set[rows], cache.twin_id[rows]).astype(np.uint8),
        digest(table.particle_id[here], table.angles_deg[here], table.shifts_ang[here], table.contrast[here]))


def with_half_sets_of(cache: ParticleCache, table: PoseTable, rows: np.ndarray, here: np.ndarray) -> ParticleCache:
    """Particles in the half sets that their poses were refined in, where these are known of all (``here``).

    Those of the star file are not always these: ``states`` draws anew what goes with a state.
    """
    if table.half_set is None or not np.isin(table.half_set[here], (1, 2)).all():
        return cache
    half_set = cache.half_set.copy()
    half_set[rows] = table.half_set[here]
    return replace(cache, half_set=half_set)
