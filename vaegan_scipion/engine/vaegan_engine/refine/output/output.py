"""What ``states`` leaves: tables, a star file with poses, maps, FSC, a verdict with its evidence."""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ...contract import result_files
from ...contract.labels import STATES, UNASSIGNED, state_name
from ...contract.record import write_record, write_records
from ...contract.records import ClusterRow, Shells, StateFigures, StatesSummary
from ...contract.status import update_status
from ...contract.symmetry import group_name
from ...data.junk_examples import write_junk_examples
from ...data.mrc_files import write_map
from ...data.prepared_images import ParticleCache
from ...figures import drawing, fsc_curves
from ...physics.view_coverage import SHELL_PX, VIEWS_PER_SHELL, completeness, views_of
from ..detail.common_frame import FrameFit
from ..detail.half_map_fsc import halves_proof, nothing_proven
from ..detail.half_maps import Halves
from ..detail.motion import Motion
from ..problem import Problem
from ..rounds.evidence import Evidence, verdict
from ..rounds.junk import REASONS
from ..states import Assignment
from .particle_output import Table, pose_table, write_stars, write_tables
from .shift_limit import shift_limit, shift_warning

MOTIONS_PNG = "motions.png"


@dataclass(frozen=True)
class Refined:
    """What a refinement ends with; lists have one entry per state."""

    assignment: Assignment
    halves: list[Halves]
    frames: list[FrameFit]
    motions: list[Motion | None]
    evidence: Evidence


def write(problem: Problem, cache: ParticleCache, refined: Refined, out_dir: Path) -> StatesSummary:
    """Write everything into ``out_dir``, states numbered by falling size, junk UNASSIGNED. Returns ``states.json``."""
    assignment, evidence = refined.assignment, refined.evidence
    sizes = assignment.sizes()
    order = np.argsort(-sizes, kind="stable")
    new = np.argsort(order)
    min_agreement = problem.tuning.motion.min_agreement
    moving = [None if motion is None or motion.agreement < min_agreement else motion for motion in refined.motions]
    table = particle_table(problem, refined, new, moving)
    result_files.forget(out_dir, result_files.EVALUATION_JSON, *result_files.MAPS_OF_GROUPS)
    write_tables(cache, table, out_dir)
    write_junk_examples(cache, table.junk_reason or [], out_dir)
    rows = []
    for state in order:
        label, n = int(new[state]), int(sizes[state])
        file, figures = write_state(label, StateResults(refined, state, moving[state], new, problem.constraint.group,
                                                        problem.mask.cpu().numpy() if problem.settings.mask else None),
                                    cache.pixel_size_ang, out_dir)
        rows.append(ClusterRow(label, n, n / len(cache), [], file, label, state=figures))
    write_pictures(rows, [refined.halves[state] for state in order], out_dir)
    draw_motions([(int(new[state]), moving[state]) for state in order], out_dir)
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    shifts = shift_limit(problem, assignment)
    if shift_warning(shifts):
        print(shift_warning(shifts), flush=True)
    summary = replace(summary_of(problem, rows, evidence, new), shifts=shifts)
    write_record(out_dir / result_files.STATES_JSON, summary)
    write_stars(problem.settings.data, cache, table, out_dir)  # last: the star file may have been changed meanwhile
    update_status(out_dir, state="finished", command=problem.settings.command, stage="finished",
                               error=None, n_particles=len(problem), states=len(rows), verdict=summary.verdict,
                               box_px=cache.box_px, pixel_size_ang=cache.pixel_size_ang,
                               seed=problem.settings.compute.seed,
                               ids_are_rows_of=cache.ids_are_rows_of)
    print(f"states {len(rows)}\nverdict: {summary.verdict}", flush=True)
    return summary


def particle_table(problem: Problem, refined: Refined, new: np.ndarray, moving: list[Motion | None]) -> Table:
    """What every particle gets, its state under its ``new`` number (c,)."""
    assignment, evidence = refined.assignment, refined.evidence
    aside, contrast = assignment.aside, problem.images.contrast
    codes = np.zeros(len(problem), np.int8) if evidence.junk_reason is None else evidence.junk_reason
    own_log_posterior = assignment.log_posterior[np.arange(len(problem)), assignment.state_of]
    t, t_std = np.full((2, len(problem)), np.nan)
    for state, motion in enumerate(moving):
        if motion is not None:
            t[assignment.members(state)], t_std[assignment.members(state)] = motion.t, motion.t_std
    return Table(np.where(aside, UNASSIGNED, new[assignment.state_of]), np.where(aside, 0.0, np.exp(own_log_posterior)),
                 pose_table(assignment, problem.images.pixel_size_ang), t,
                 np.ones(len(problem)) if contrast is None else contrast, [REASONS[code] for code in codes],
                 group_name(problem.settings.symmetry), t_std)


def summary_of(problem: Problem, rows: list[ClusterRow], evidence: Evidence, new: np.ndarray) -> StatesSummary:
    """``states.json``, states under their ``new`` numbers (c,)."""
    run, tuning = problem.settings, problem.tuning
    pairs = [replace(pair, states=sorted(int(new[state]) for state in pair.states)) for pair in evidence.pairs]
    kind, text = verdict(rows, evidence, tuning)
    return StatesSummary(
        states=len(rows), verdict=text, verdict_kind=kind.value, has_states=kind.has_states,
        ball_null=None if evidence.ball is None else evidence.ball.numbers(),
        shells=Shells(run.start_shells, run.search_shells, run.state_shells), starts=evidence.starts,
        unseen_log_evidence=evidence.unseen, least_log_evidence=evidence.min_unseen,
        contrast_spread=evidence.contrast_spread, least_contrast_spread=tuning.contrast.min_spread,
        masks=evidence.masks, restarts=evidence.restarts, pairs=pairs, junk=evidence.junk,
        landscapes=evidence.landscapes, symmetry=group_name(run.symmetry),
        relaxed_symmetry=group_name(run.relax_symmetry) if run.relax_symmetry else "")


@dataclass(frozen=True)
class StateResults:
    """One state of a refinement; ``shown``: its motion, where the halves agree on it; ``new`` numbers (c,) of states;
    ``group`` (g, 3, 3) of maps.

    ``mask`` (d, d, d): where one was given, of the FSC too.
    """

    refined: Refined
    state: int
    shown: Motion | None
    new: np.ndarray
    group: Tensor
    mask: np.ndarray | None = None


def write_state(label: int, results: StateResults, voxel_size_ang: float, out_dir: Path) -> tuple[str, StateFigures]:
    """Maps of one state on disk, those along its motion too; the name of its map, and its figures."""
    refined, state, shown = results.refined, results.state, results.shown
    halves, frame, motion = refined.halves[state], refined.frames[state], refined.motions[state]
    (out_dir / result_files.MAPS).mkdir(parents=True, exist_ok=True)
    stem = f"{result_files.MAPS}/cluster_{label:02d}"
    names = [f"{stem}{suffix}.mrc" for suffix in ("", "_half1", "_half2")]
    along = [f"{stem}_motion_{k:02d}.mrc" for k in range(len(shown.maps) if shown is not None else 0)]
    for name, array in zip([*names, *along], [halves.full, *halves.maps, *(shown.maps if shown is not None else ())],
                           strict=True):
        write_map(out_dir / name, array, voxel_size_ang)
    members = refined.assignment.members(state)
    compared, proof = halves_proof(halves, voxel_size_ang, results.mask)
    if not refined.evidence.structured:
        proof = nothing_proven(proof, halves.full.shape[0], voxel_size_ang)
    shell_px = halves.full.shape[0] * voxel_size_ang / compared.resolution_0143_ang  # there gaps in the views matter
    of_view = views_of(refined.assignment.poses(members)[0], results.group)
    views = completeness(of_view, max(1.0, min(shell_px, SHELL_PX, len(of_view) / VIEWS_PER_SHELL)))
    return names[0], StateFigures(
        names[1:], voxel_size_ang, frame.correlation, frame.mirrored, None if motion is None else motion.agreement,
        along, compared, proof, views.scf, views.unsampled_frac, int(results.new[frame.onto]), frame.other_hand,
        frame.hand_open)


def draw_motions(motions: list[tuple[int, Motion | None]], out_dir: Path) -> None:
    """``motions.png``: the maps along each state's motion, a row per state."""
    (out_dir / MOTIONS_PNG).unlink(missing_ok=True)
    shown = [(label, motion) for label, motion in motions if motion is not None]
    if shown:
        strip = drawing.density_strip(
            [[(array, f"{state_name(label)}, t = {k / (len(motion.maps) - 1):.1f}")
              for k, array in enumerate(motion.maps)] for label, motion in shown], [label for label, _ in shown],
            naming=STATES)
        drawing.save_png(strip, out_dir / MOTIONS_PNG)


def write_pictures(rows: list[ClusterRow], halves_of: list[Halves], out_dir: Path) -> None:
    """``fsc.csv``, ``fsc.png`` and ``maps.png``; prints the resolutions."""
    compared = [fsc_curves.HalvesFsc(row.label, row.of_state.voxel_size_ang, row.of_state.halves, row.of_state.proof)
                for row in rows]
    fsc_curves.write_fsc(compared, out_dir, "Half maps apart", STATES)
    strip = drawing.density_strip(
        [[(halves.full, f"{state_name(row.label)}, {row.n_particles} particles")]
         for row, halves in zip(rows, halves_of, strict=True)], [row.label for row in rows],
        naming=STATES)
    drawing.save_png(strip, out_dir / "maps.png")
