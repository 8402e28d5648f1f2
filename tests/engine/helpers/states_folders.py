"""A finished ``states`` on disk, written from known poses: what ``fullres`` begins with."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.map_records import HalvesProof, MapComparison, StateFigures
from vaegan_engine.contract.record import write_record, write_records
from vaegan_engine.contract.records import ClusterRow, MaskRow, Shells, StatesSummary
from vaegan_engine.contract.settings import DataConfig, StatesRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.physics.rotations import euler_to_matrix, matrix_to_euler
from vaegan_engine.reconstruction.pose_refinement import small_rotations
from vaegan_engine.simulation.options import SimulateOptions
from vaegan_engine.simulation.simulate import run_simulate


def simulated_particles(folder: Path, **options) -> Path:
    """Particles of the phantom, simulated; the star file."""
    given = {"phantom": 1, "per_map": 120, "box_px": 32, "snr": 1.0, "device": "cpu", **options}
    run_simulate(SimulateOptions(**given), folder)
    return folder / "particles.star"


def true_poses(folder: Path) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Rotations ``(n, 3, 3)``, shifts in px ``(n, 2)`` and maps ``(n,)`` of simulated particles, by id from 1."""
    rows = result_files.read_csv(folder / "truth.csv")
    angles_deg = torch.tensor([[float(row[name]) for name in ("rot_deg", "tilt_deg", "psi_deg")] for row in rows])
    shifts_px = np.array([[float(row[name]) for name in ("shift_x_px", "shift_y_px")] for row in rows])
    return euler_to_matrix(*angles_deg.double().T), shifts_px, np.array([int(row["map"]) for row in rows])


def perturbed(rotations: torch.Tensor, error_deg: float, seed: int = 0) -> torch.Tensor:
    """Rotations turned about random axes, by ``error_deg`` each."""
    axes = torch.randn(len(rotations), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return small_rotations(axes / axes.norm(dim=1, keepdim=True) * np.radians(error_deg)) @ rotations


def write_states(folder: Path, particles: Path, rotations: torch.Tensor, shifts_px: np.ndarray,
                 resolution_ang: float) -> Path:
    """Results of ``states`` in a box of half the particles', all shells coarser than ``resolution_ang`` shared."""
    simulation = result_files.read_json(particles.parent / "simulation.json")
    label, pixel_size_ang = true_poses(particles.parent)[2], simulation["pixel_size_ang"]
    box_px = simulation["options"]["box_px"] // 2
    voxel_ang, n = 2 * pixel_size_ang, len(label)
    angles_deg = torch.stack(matrix_to_euler(rotations), 1).numpy()
    result_files.write_csv(
        folder / result_files.PARTICLES_CSV,
        ["particle_id", "label", "probability", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang",
         "half_set", "motion", "contrast"],
        [[i + 1, label[i], 1.0, *angles_deg[i], *(pixel_size_ang * shifts_px[i]), 1 + i % 2, "", 1.0]
         for i in reversed(range(n))])
    result_files.write_csv(folder / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                           [[i + 1, label[i], 0.9] for i in range(n)])
    flat = [1.0] * (box_px // 2 + 1)
    compared = MapComparison(flat, resolution_ang, 0.5, True, resolution_ang, 0.5, True)
    proof = HalvesProof(flat, flat, 3, resolution_ang, resolution_ang, resolution_ang, [0.0, 0.0, 1.0], True,
                        resolution_ang)
    rows = []
    for state, count in enumerate(np.bincount(label)):
        files = [f"maps/cluster_{state:02d}{suffix}.mrc" for suffix in ("", "_half1", "_half2")]
        rows.append(ClusterRow(state, int(count), count / n, [], files[0], state, state=StateFigures(
            files[1:], voxel_ang, 1.0, False, None, [], compared, proof)))
    write_records(folder / result_files.CLUSTERS_JSON, rows)
    write_record(folder / result_files.STATES_JSON, StatesSummary(
        len(rows), "made", Shells(4, 6, 8), [], 50.0, 3.0, 0.0, 0.1,
        [MaskRow(0.38 * box_px * voxel_ang, 1.0, True)], [], [], None))
    run_json.write_run(StatesRun(data=DataConfig(particles=str(particles), box_px=box_px)), folder / "run.json")
    update_status(folder, state="finished", ids_are_rows_of="")
    return folder
