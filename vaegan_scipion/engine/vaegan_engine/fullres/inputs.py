"""What ``fullres`` begins with: a finished ``states`` and the same particles at their own box."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract import result_files, run_json
from ..contract.boxes import cropped_box_px
from ..contract.errors import DataError
from ..contract.labels import UNASSIGNED
from ..contract.record import read_record
from ..contract.records import ClusterRow, StatesSummary
from ..contract.setting import check_settings
from ..contract.settings import DataConfig, FullresRun, StatesRun
from ..contract.symmetry import NO_SYMMETRY, is_symmetric
from ..data.given_mask import MaskBox, check_symmetry, read_mask
from ..data.particle_tables import read_cluster_rows
from ..data.particles import ParticleTable, load_particles
from ..data.pose_table import PoseTable, read_poses
from ..data.prepared_images import digest, stat_digest
from ..data.star_files import RelionTable, read_star
from ..data.streamed_images import StreamedImages
from ..physics.fsc import soft_sphere_mask
from ..physics.rotations import euler_to_matrix
from ..physics.symmetry import group_of
from ..reconstruction.images import Images
from ..refine.inputs import with_data
from .tuning import FullresTuning

MIN_HALF_IMAGES = 10
SAME_BOX_FRAC = 1e-3  # boxes that differ by less differ by how their pixel sizes were rounded


@dataclass(frozen=True)
class StateStart:
    """What ``states`` said of one state."""

    row: ClusterRow
    shells: float  # of the particles' own box, to which the state's halves agree
    shared_shell: int  # of it, up to which they share more than the particle

    @property
    def label(self) -> int:
        """Number of the state from 0."""
        return self.row.label


@dataclass(frozen=True)
class Inputs:
    """Particles in states; arrays have one row per particle."""

    data: DataConfig  # of the particles at full size
    star: RelionTable
    images: Images
    star_rows: np.ndarray  # (n,) rows of the star file, from 0
    particle_id: np.ndarray  # (n,)
    label: np.ndarray  # (n,) state
    half_set: np.ndarray  # (n,) 1 or 2
    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    states: list[StateStart]
    mask: Tensor  # (d, d, d)
    mask_given: bool  # else it is a sphere
    ids_are_rows_of: str
    background: Callable[[np.ndarray], tuple[float, float]]  # mean and deviation in the stacks of some particles
    symmetry: str = NO_SYMMETRY  # of the states' maps
    stack_box_px: int = 0  # side of the images in their stacks
    files: str = ""  # SHA-256 of the star file, sizes and times of its stacks

    def digest(self) -> str:
        """Text that other particles, images, noise groups, poses, contrasts, half sets or masks do not have."""
        contrast = self.images.contrast
        return digest(self.particle_id, self.label, self.half_set, self.images.ctf, self.rotations.cpu().numpy(),
                      self.shifts_px.cpu().numpy(), self.mask.cpu().numpy(),
                      np.empty(0) if contrast is None else contrast, np.frombuffer(self.files.encode(), np.uint8))


def open_inputs(run: FullresRun, device: torch.device, tuning: FullresTuning) -> Inputs:
    """Particles of ``states`` at full size. Raises ConfigError and DataError."""
    check_settings(run)
    folder = Path(run.states_dir)
    before = run_json.read_run(folder / result_files.RUN_JSON)
    if not isinstance(before, StatesRun):
        raise DataError(f"{folder}: its run.json is a '{before.command}', not states.",
                        "Give the --out folder of a finished states.")
    data = with_data(before).data
    if run.particles or run.stack:
        data = replace(data, particles=run.particles or data.particles, stack=run.stack)
    if run.particles:  # ids choose its rows, not what was asked of another star file
        data = replace(data, max_images=0, half_set=0)
    data = replace(data, poses_dir=str(folder), input_poses=False)
    poses, table = read_poses(data), load_particles(data)
    rows, here = poses.rows_of(table.particle_id)
    n_wanted = int((poses.label != UNASSIGNED).sum())
    if len(rows) < n_wanted:
        missing = np.setdiff1d(poses.particle_id[poses.label != UNASSIGNED], table.particle_id)
        raise DataError(f"{data.particles}: particle {missing[0]} of {folder} is not there ({len(missing)} of "
                        f"{n_wanted} are missing).", "Give the star file of all particles that states was run on.")
    contrast = poses.contrast[here].astype(np.float32)
    kept = [row for row in read_cluster_rows(folder) if row.label != UNASSIGNED]
    streamed = StreamedImages(table, with_circle_of(data, kept[0].of_state.box_ang, table))
    images = Images(_Rows(streamed, rows), table.ctf[rows], table.pixel_size_ang, device, contrast)
    angles_deg = torch.from_numpy(poses.angles_deg[here])
    shifts_px = torch.from_numpy(poses.shifts_ang[here] / table.pixel_size_ang)
    starts = [state_start(row, images) for row in kept]
    group = group_of(poses.symmetry) if is_symmetric(poses.symmetry) else None
    given = given_mask(run.mask or before.mask, images, starts, group)
    mask = sphere_of(folder, starts, images, tuning) if given is None else given
    inputs = Inputs(
        streamed.data, read_star(Path(data.particles)), images, table.row_number[rows] - 1, table.particle_id[rows],
        poses.label[here], half_sets_of(poses, here, folder), euler_to_matrix(*angles_deg.T).float().to(device),
        shifts_px.float().to(device), starts, mask.to(device), given is not None,
        table.sha256 if table.ids_are_rows else "", lambda some: streamed.background(rows[some]), poses.symmetry,
        table.box_px, table.sha256 + stat_digest([header.path for header in table.headers]))
    for note in table.notes:
        print(note, flush=True)
    check_halves(inputs, folder)
    return inputs


def with_circle_of(data: DataConfig, before_ang: float, table: ParticleTable) -> DataConfig:
    """Settings whose particle's circle is as wide in A as it was in a box of ``before_ang``."""
    kept_ang = cropped_box_px(table.box_px, data.crop_frac) * table.pixel_size_ang
    if abs(before_ang / kept_ang - 1) < SAME_BOX_FRAC:
        return data
    return replace(data, particle_radius_frac=min(0.5, data.particle_radius_frac * before_ang / kept_ang))


class _Rows:
    """Some rows of the streamed images, by their place among these."""

    def __init__(self, source: StreamedImages, rows: np.ndarray) -> None:
        self._source, self._rows, self.shape = source, rows, (len(rows), *source.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: np.ndarray | slice) -> np.ndarray:
        return self._source[self._rows[at]]


def half_sets_of(poses: PoseTable, here: np.ndarray, folder: Path) -> np.ndarray:
    """The half sets that the poses were refined in. Raises DataError where they are not told."""
    if poses.half_set is None or not np.isin(poses.half_set[here], (1, 2)).all():
        raise DataError(f"{folder}: {result_files.PARTICLES_CSV} does not tell the half set of every particle.",
                        "Run states again.")
    return poses.half_set[here]


def state_start(row: ClusterRow, images: Images) -> StateStart:
    """Resolution of a state in shells of the full box: proven, or no finer than what its halves share."""
    proof, box_ang = row.of_state.proof, images.box_px * images.pixel_size_ang
    stated_ang = row.of_state.halves.resolution_0143_ang if proof.proven_0143 else proof.shared_ang
    nyquist = images.box_px / 2
    return StateStart(row, float(np.clip(box_ang / stated_ang, 2, nyquist)),
                      int(np.clip(np.ceil(box_ang / proof.shared_ang - 0.01), 1, images.box_px // 2)))


def given_mask(path: str, images: Images, starts: list[StateStart], group: Tensor | None) -> Tensor | None:
    """A mask in the particles' own box; None where none was given. ``group`` (g, 3, 3) of symmetric maps.

    It may be made in the states' box. Raises DataError as ``read_mask`` and ``check_symmetry``.
    """
    if not path:
        return None
    widths_ang = (images.box_px * images.pixel_size_ang, starts[0].row.of_state.box_ang)
    mask = read_mask(path, MaskBox(images.box_px, images.pixel_size_ang, widths_ang))
    if group is not None:
        check_symmetry(path, mask, group)
    return mask


def sphere_of(folder: Path, starts: list[StateStart], images: Images, tuning: FullresTuning) -> Tensor:
    """The soft sphere that ``states`` kept, in the particles' own box; without one, that of the whole box."""
    before_ang = starts[0].row.of_state.box_ang
    summary = read_record(StatesSummary, folder / result_files.STATES_JSON, "states")
    edge_ang = tuning.mask_edge_frac * before_ang
    radius_ang = next((mask.radius_ang for mask in summary.masks if mask.kept), before_ang / 2 - edge_ang)
    sphere = soft_sphere_mask(images.box_px, radius_ang / images.pixel_size_ang, edge_ang / images.pixel_size_ang)
    return torch.from_numpy(sphere)


def check_halves(inputs: Inputs, folder: Path) -> None:
    """Refuse states that have hardly an image in one half set. Raises DataError."""
    for start in inputs.states:
        counts = [int(((inputs.label == start.label) & (inputs.half_set == half)).sum()) for half in (1, 2)]
        if min(counts) < MIN_HALF_IMAGES:
            raise DataError(f"{folder}: state {start.label + 1} has {counts[0]} and {counts[1]} particles in its half "
                            f"sets, at least {MIN_HALF_IMAGES} are needed in each.", "Run states with fewer states.")
