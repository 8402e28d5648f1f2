"""What ``states`` leaves: tables, a star file with poses, maps, FSC, a verdict with its evidence."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.labels import STATES, UNASSIGNED, state_name
from ..data.mrc_files import write_map
from ..data.prepared_images import ParticleCache
from ..data.run_images import ROW_IDS
from ..figures import drawing, fsc_curves
from .common_frame import FrameFit
from .evidence import Evidence, verdict
from .half_map_fsc import fsc_row
from .half_maps import Halves
from .motion import Motion
from .particle_output import Table, pose_table, write_stars, write_tables
from .problem import Problem
from .shift_limit import shift_limit
from .states import Assignment

MOTIONS_PNG = "motions.png"
RESTART = "misfit", "best", "log_evidence", "log_evidence_before", "kept"  # of a state that was started anew


@dataclass(frozen=True)
class Refined:
    """What a refinement ends with; lists have one entry per state."""

    assignment: Assignment
    halves: list[Halves]
    frames: list[FrameFit]
    motions: list[Motion | None]
    evidence: Evidence


def write(problem: Problem, cache: ParticleCache, refined: Refined, out_dir: Path) -> dict[str, Any]:
    """Write everything into ``out_dir``, states numbered by falling size, junk UNASSIGNED. Returns ``states.json``."""
    assignment, evidence = refined.assignment, refined.evidence
    sizes = assignment.sizes()
    order = np.argsort(-sizes, kind="stable")
    new = np.argsort(order)
    min_agreement = problem.tuning.motion.min_agreement
    moving = [None if motion is None or motion.agreement < min_agreement else motion for motion in refined.motions]
    table = particle_table(problem, assignment, new, moving)
    write_tables(cache, table, out_dir)
    rows = []
    for state in order:
        label, frame = int(new[state]), refined.frames[state]
        row = state_row(label, int(sizes[state]), refined.halves[state], cache, out_dir)
        row |= {"frame_correlation": frame.correlation, "frame_mirrored": frame.mirrored}
        rows.append(row | motion_entry(label, refined.motions[state], moving[state], cache, out_dir))
    write_pictures(rows, [refined.halves[state] for state in order], out_dir)
    draw_motions([(int(new[state]), moving[state]) for state in order], out_dir)
    result_files.write_json(out_dir / result_files.CLUSTERS_JSON, rows)
    shifts = shift_limit(problem, assignment)
    print(shifts.warning(), end="\n" if shifts.warning() else "", flush=True)
    details = states_json(problem, rows, evidence, new) | {"shifts": asdict(shifts)}
    result_files.write_json(out_dir / result_files.STATES_JSON, details)
    write_stars(problem.settings.data, cache, table, out_dir)  # last: the star file may have been changed meanwhile
    result_files.update_status(out_dir, state="finished", command=problem.settings.command, stage="finished",
                               error=None, n_particles=len(problem), states=len(rows), verdict=details["verdict"],
                               **{ROW_IDS: cache.ids_are_rows_of})
    print(f"states {len(rows)}\nverdict: {details['verdict']}", flush=True)
    return details


def particle_table(problem: Problem, assignment: Assignment, new: np.ndarray, moving: list[Motion | None]) -> Table:
    """What every particle gets, its state under its ``new`` number (c,)."""
    aside, contrast = assignment.aside, problem.images.contrast
    own_log_posterior = assignment.log_posterior[np.arange(len(problem)), assignment.state_of]
    t = np.full(len(problem), np.nan)
    for state, motion in enumerate(moving):
        if motion is not None:
            t[assignment.members(state)] = motion.t
    return Table(np.where(aside, UNASSIGNED, new[assignment.state_of]), np.where(aside, 0.0, np.exp(own_log_posterior)),
                 pose_table(assignment, problem.images.pixel_size_ang), t,
                 np.ones(len(problem)) if contrast is None else contrast)


def states_json(problem: Problem, rows: list[dict[str, Any]], evidence: Evidence, new: np.ndarray) -> dict[str, Any]:
    """``states.json``, states under their ``new`` numbers (c,)."""
    run, tuning = problem.settings, problem.tuning
    for pair in evidence.pairs:
        pair["states"] = sorted(int(new[state]) for state in pair["states"])
    return {"states": len(rows), "verdict": verdict(rows, evidence, tuning.junk.mostly_frac),
            "shells": {"start": run.start_shells, "search": run.search_shells, "state": run.state_shells},
            "starts": evidence.starts,
            "unseen_log_evidence": evidence.unseen, "least_log_evidence": evidence.min_unseen,
            "contrast_spread": evidence.contrast_spread, "least_contrast_spread": tuning.contrast.min_spread,
            "masks": evidence.masks,
            "restarts": [{name: row[name] for name in RESTART} for row in evidence.restarts],
            "pairs": evidence.pairs, "junk": evidence.junk}


def state_row(label: int, n_particles: int, halves: Halves, cache: ParticleCache, out_dir: Path) -> dict[str, Any]:
    """Maps of one state on disk, and its row of ``clusters.json``."""
    folder = out_dir / result_files.MAPS
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{result_files.MAPS}/cluster_{label:02d}{suffix}.mrc" for suffix in ("", "_half1", "_half2")]
    for name, array in zip(names, (halves.full, *halves.maps), strict=True):
        write_map(out_dir / name, array, cache.pixel_size_ang)
    return {"label": label, "cluster": label, "n_particles": n_particles,
            "fraction": n_particles / len(cache), "z": [], "file": names[0],
            "index": label, "files": names[1:], "voxel_size_ang": cache.pixel_size_ang,
            **fsc_row(halves, cache.pixel_size_ang)}


def motion_entry(label: int, motion: Motion | None, shown: Motion | None, cache: ParticleCache, out_dir: Path
                 ) -> dict[str, Any]:
    """Part of a state's row on its variation; the maps along it are written where the halves agree on it."""
    names = []
    for k, array in enumerate(shown.maps if shown is not None else ()):
        names.append(f"{result_files.MAPS}/cluster_{label:02d}_motion_{k:02d}.mrc")
        write_map(out_dir / names[-1], array, cache.pixel_size_ang)
    return {"motion_agreement": None if motion is None else motion.agreement, "motion_files": names}


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


def write_pictures(rows: list[dict[str, Any]], halves_of: list[Halves], out_dir: Path) -> None:
    """``fsc.csv``, ``fsc.png`` and ``maps.png``; prints the resolutions."""
    fsc_curves.write_fsc(rows, out_dir, "Half maps apart", STATES)
    strip = drawing.density_strip(
        [[(halves.full, f"{state_name(row['label'])}, {row['n_particles']} particles")]
         for row, halves in zip(rows, halves_of, strict=True)], [row["label"] for row in rows],
        naming=STATES)
    drawing.save_png(strip, out_dir / "maps.png")
