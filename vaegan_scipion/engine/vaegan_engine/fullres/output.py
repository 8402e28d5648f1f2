"""What ``fullres`` leaves: maps, curves, tables, star files, RELION's scripts, pictures, ``fullres.json``."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..contract import result_files
from ..contract.drawings import draw_scale_bar
from ..contract.fullres_records import FullresState, FullresSummary
from ..contract.labels import STATES, state_name
from ..contract.map_records import StateFigures
from ..contract.record import write_record, write_records
from ..contract.records import ClusterRow
from ..contract.settings import FullresRun
from ..contract.status import update_status
from ..data import particle_stars
from ..data.given_mask import reach_px
from ..data.mrc_files import write_map
from ..data.particle_tables import read_clusters, rows_of
from ..data.prepared_images import ParticleCache
from ..data.star_subset import whole_numbers, write_rows
from ..figures import drawing, fsc_curves
from ..physics.rotations import rotation_distance_deg
from ..reconstruction.images import spread_rows
from ..refine.output.particle_output import Table, pose_columns, symmetry_column, write_stars, write_tables
from .final_maps import Envelope, FinalMaps, final_maps
from .half_set_rounds import Refinement, StateImages, final_half_maps
from .inputs import Inputs, StateStart
from .relion import HandOver, write_script

SECTIONS_PNG = "sections.png"
_SUFFIXES = ("", "_half1", "_half2", "_sharpened", "_local_resolution", "_mask")
_PERCENTILES = 10, 50, 90
_SAMPLE = 50  # images whose background is looked at

Found = tuple[StateImages, Refinement]


@dataclass(frozen=True)
class Asked:
    """The request, and what the rounds took."""

    run: FullresRun
    seconds: float
    n_refined: int


def write(inputs: Inputs, refined: list[Found], asked: Asked, out_dir: Path) -> FullresSummary:
    """Write everything into ``out_dir``; one entry of ``refined`` per state of ``inputs``."""
    result_files.forget(out_dir, result_files.EVALUATION_JSON, *result_files.MAPS_OF_GROUPS, "state_[0-9][0-9].star",
                        "state_[0-9][0-9]_relion.sh")
    (out_dir / result_files.MAPS).mkdir(parents=True, exist_ok=True)
    cache, table = particle_table(inputs, refined, asked)
    write_tables(cache, table, out_dir)
    write_stars(inputs.data, cache, table, out_dir)
    rows, states, strip = [], [], []
    for start, (state, refinement) in zip(inputs.states, refined, strict=True):
        update_status(out_dir, stage=f"maps of {state_name(start.label)}")
        maps = final_maps(final_half_maps(state, refinement), Envelope(inputs.mask.cpu().numpy(), inputs.mask_given),
                          start.shared_shell, inputs.images.pixel_size_ang, asked.run.b_factor_ang2)
        files = write_maps(maps, start.label, inputs.images.pixel_size_ang, out_dir)
        row = cluster_row(start, maps, files, len(state.rows), inputs)
        rows.append(row)
        write_state_star(inputs, cache, table, start.label, out_dir)
        states.append(state_record(inputs, start, (state, refinement), maps, out_dir))
        strip.append([(maps.map, f"{state_name(start.label)}, {len(state.rows)} particles"),
                      (maps.sharpened, sharpened_title(maps))])
        print(f"{state_name(start.label)}: {maps.compared.resolution_0143_ang:.2f} A at FSC 0.143"
              + ("" if maps.proof.proven_0143 else " (not proven)") + f", B-factor {maps.b_factor.source}", flush=True)
    compared = [fsc_curves.HalvesFsc(row.label, row.of_state.voxel_size_ang, row.of_state.halves, row.of_state.proof)
                for row in rows]
    fsc_curves.write_fsc(compared, out_dir, "Half maps apart, full resolution", STATES)
    figure = drawing.density_strip(strip, [row.label for row in rows], naming=STATES)
    draw_scale_bar(figure.axes[0], inputs.images.box_px, inputs.images.pixel_size_ang)
    drawing.save_png(figure, out_dir / SECTIONS_PNG)
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    summary = FullresSummary(inputs.images.box_px, inputs.images.pixel_size_ang, len(inputs.label), asked.seconds,
                             asked.n_refined / max(asked.seconds, 1e-9), states, inputs.symmetry)
    write_record(out_dir / result_files.FULLRES_JSON, summary)
    update_status(out_dir, state="finished", command=asked.run.command, stage="finished", error=None,
                  n_particles=len(inputs.label), states=len(rows), ids_are_rows_of=inputs.ids_are_rows_of)
    return summary


def particle_table(inputs: Inputs, refined: list[Found], asked: Asked) -> tuple[ParticleCache, Table]:
    """All particles with their last poses."""
    images, rotations, shifts_px = inputs.images, inputs.rotations.clone(), inputs.shifts_px.clone()
    for state, refinement in refined:
        at = torch.from_numpy(state.rows).to(rotations.device)
        rotations[at], shifts_px[at] = refinement.rotations, refinement.shifts_px
    no_images = cast(np.memmap, np.empty(0))
    cache = ParticleCache(no_images, inputs.particle_id, images.ctf, inputs.half_set, images.pixel_size_ang,
                          images.box_px, images.pixel_size_ang, images.box_px, not inputs.data.ignore_ctf,
                          inputs.ids_are_rows_of)
    before = read_clusters(asked.run.states_dir)
    probability = before.probability[rows_of(before.particle_id, inputs.particle_id, asked.run.states_dir)]
    n = len(inputs.label)
    contrast = np.ones(n) if images.contrast is None else images.contrast
    return cache, Table(inputs.label, probability, pose_columns(rotations, shifts_px, images.pixel_size_ang),
                        np.full(n, np.nan), contrast, symmetry=inputs.symmetry)


def write_maps(maps: FinalMaps, label: int, voxel_size_ang: float, out_dir: Path) -> list[str]:
    """Maps of one state on disk; their names, in the order of ``_SUFFIXES``."""
    files = map_files(label)
    for file, array in zip(files, (maps.map, *maps.halves, maps.sharpened, maps.local.map, maps.mask), strict=True):
        write_map(out_dir / file, array, voxel_size_ang)
    return files


def map_files(label: int) -> list[str]:
    """Names of a state's maps."""
    return [f"{result_files.MAPS}/cluster_{label:02d}{suffix}.mrc" for suffix in _SUFFIXES]


def cluster_row(start: StateStart, maps: FinalMaps, files: list[str], n: int, inputs: Inputs) -> ClusterRow:
    """The entry of ``clusters.json``, which other commands read as that of ``states``."""
    before = start.row.of_state
    figures = StateFigures(files[1:3], inputs.images.pixel_size_ang, before.frame_correlation, before.frame_mirrored,
                           None, [], maps.compared, maps.proof, frame_label=before.frame_label,
                           frame_other_hand=before.frame_other_hand, hand_open=before.hand_open)
    return ClusterRow(start.label, n, n / len(inputs.label), [], files[0], start.label, state=figures)


def sharpened_title(maps: FinalMaps) -> str:
    """Above the picture of the sharpened map."""
    if maps.b_factor.ang2 is None:
        return "not sharpened"
    return f"{maps.compared.resolution_0143_ang:.1f} Å, B {maps.b_factor.ang2:.0f} Å²"


def state_star(label: int) -> str:
    """Name of the star file of a state."""
    return f"state_{label + 1:02d}.star"


def write_state_star(inputs: Inputs, cache: ParticleCache, table: Table, label: int, out_dir: Path) -> None:
    """The particles of one state with their poses and half sets, all columns kept, for other programs."""
    chosen = table.label == label
    columns = particle_stars.aligned_columns(inputs.star, cache, chosen, table.poses[:, :3], table.poses[:, 3:])
    columns.update(symmetry_column(inputs.star, table.symmetry, int(chosen.sum())))
    columns["rlnClassNumber"] = whole_numbers(np.ones(int(chosen.sum()), np.int64))
    write_rows(inputs.star, inputs.star_rows[chosen], columns, out_dir / state_star(label), inputs.data.stack)


def state_record(inputs: Inputs, start: StateStart, refined: Found, maps: FinalMaps, out_dir: Path) -> FullresState:
    """The entry of ``fullres.json``; writes RELION's script too."""
    state, refinement = refined
    files, images = map_files(start.label), inputs.images
    turned_deg, moved_px = changes(inputs, state, refinement)
    flipped = images.ctf[state.rows, 7] != 0
    hand_over = HandOver(
        f"state_{start.label + 1:02d}", state_star(start.label), files[0], files[5],
        2 * reach_px(inputs.mask) * images.pixel_size_ang, maps.compared.resolution_0143_ang, maps.proof.shared_ang,
        images.pixel_size_ang, not inputs.data.ignore_ctf, bool(flipped.all()), inputs.data.invert_contrast,
        inputs.background(state.rows[spread_rows(len(state.rows), _SAMPLE)]), inputs.symmetry,
        inputs.stack_box_px)
    return FullresState(
        label=start.label, n_particles=len(state.rows), n_half1=int((state.half_set == 1).sum()),
        n_noise_groups=len(refinement.noise), resolution_before_ang=start.row.of_state.halves.resolution_0143_ang,
        resolution_ang=maps.compared.resolution_0143_ang, proven=maps.proof.proven_0143,
        shared_ang=maps.proof.shared_ang, b_factor_ang2=maps.b_factor.ang2, b_factor_from=maps.b_factor.source,
        local_resolution_ang=[float(x) for x in np.percentile(maps.local.at_points_ang, _PERCENTILES)],
        local_window_ang=maps.local.window_px * images.pixel_size_ang, turned_deg=turned_deg,
        moved_ang=moved_px * images.pixel_size_ang, rounds=refinement.rounds, map_file=files[0], half_files=files[1:3],
        sharpened_file=files[3], local_resolution_file=files[4], mask_file=files[5],
        star_file=state_star(start.label), relion_file=write_script(hand_over, out_dir))


def changes(inputs: Inputs, state: StateImages, refinement: Refinement) -> tuple[float, float]:
    """Median change of orientation in degrees and of shift in px, from the states' poses to the last."""
    at = torch.from_numpy(state.rows).to(inputs.rotations.device)
    turned: Tensor = rotation_distance_deg(inputs.rotations[at], refinement.rotations).median()
    return float(turned), float((inputs.shifts_px[at] - refinement.shifts_px).norm(dim=1).median())
