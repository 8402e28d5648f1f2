"""What ``refine`` leaves: tables, a star file with poses, maps, FSC, a verdict with its evidence."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.labels import NOISE, cluster_name
from ..contract.settings import RefineRun, TrainRun
from ..data.mrc_files import write_map
from ..data.prepared_images import ParticleCache
from ..data.run_images import ROW_IDS
from ..figures import drawing, fsc_curves
from ..physics.map_comparison import compare
from .common_frame import Laid
from .contrast import LEAST_SPREAD
from .evidence import Evidence, verdict
from .half_maps import Halves
from .motion import LEAST_AGREEMENT, Motion
from .particle_output import Table, pose_table, write_stars, write_tables
from .states import Assignment

MOTIONS_PNG = "motions.png"
RESTART = "misfit", "best", "log_evidence", "log_evidence_before", "kept"  # of a state that was started anew


def write(run: RefineRun, train: TrainRun, cache: ParticleCache, found: Assignment, halves_of: list[Halves],
          laid: list[Laid], motions: list[Motion | None], contrast: np.ndarray | None, evidence: Evidence, out_dir: Path
          ) -> dict[str, Any]:
    """Write everything into ``out_dir``, classes numbered by falling size, junk NOISE. Returns ``refine.json``."""
    sizes = found.sizes()
    order = np.argsort(-sizes, kind="stable")
    new = np.argsort(order)
    label = np.where(found.aside, NOISE, new[found.class_])
    probability = np.where(found.aside, 0.0, np.exp(found.log_posterior[np.arange(len(label)), found.class_]))
    moving = [None if motion is None or motion.agreement < LEAST_AGREEMENT else motion for motion in motions]
    t = np.full(len(label), np.nan)
    for c, motion in enumerate(moving):
        if motion is not None:
            t[found.members(c)] = motion.t
    table = Table(label, probability, pose_table(found, cache.pixel_size_ang), t,
                  np.ones(len(label)) if contrast is None else contrast)
    write_tables(cache, table, out_dir)
    rows = []
    for c in order:
        row = class_row(int(new[c]), int(sizes[c]), len(label), halves_of[c], cache, out_dir)
        row |= {"frame_correlation": laid[c].correlation, "frame_mirrored": laid[c].mirrored}
        rows.append(row | motion_entry(int(new[c]), motions[c], moving[c], cache, out_dir))
    write_pictures(rows, [halves_of[c] for c in order], out_dir)
    draw_motions([(int(new[c]), moving[c]) for c in order], out_dir)
    result_files.write_json(out_dir / result_files.CLUSTERS_JSON, rows)
    for pair in evidence.pairs:
        pair["classes"] = sorted(int(new[c]) for c in pair["classes"])
    details = {"clusters": found.n_classes, "verdict": verdict(rows, evidence),
               "shells": {"start": run.start_shells, "search": run.search_shells, "class": run.class_shells},
               "starts": evidence.starts,
               "unseen_log_evidence": evidence.unseen, "least_log_evidence": evidence.least_unseen,
               "contrast_spread": evidence.contrast_spread, "least_contrast_spread": LEAST_SPREAD,
               "masks": evidence.masks,
               "restarts": [{name: row[name] for name in RESTART} for row in evidence.restarts],
               "pairs": evidence.pairs, "refused_splits": evidence.refused_splits,
               "junk": evidence.junk}
    result_files.write_json(out_dir / result_files.REFINE_JSON, details)
    write_stars(train.data, cache, table, out_dir)  # last: the star file may have been changed meanwhile
    result_files.update_status(out_dir, state="finished", command=run.command, stage="finished", error=None,
                          n_particles=len(label), clusters=found.n_classes, verdict=details["verdict"],
                          **{ROW_IDS: cache.ids_are_rows_of})
    print(f"clusters {found.n_classes}\nverdict: {details['verdict']}", flush=True)
    return details


def class_row(label: int, n: int, n_all: int, made: Halves, cache: ParticleCache, out_dir: Path) -> dict[str, Any]:
    """Maps of one class on disk, and its row of ``clusters.json``."""
    folder = out_dir / result_files.MAPS
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{result_files.MAPS}/cluster_{label:02d}{suffix}.mrc" for suffix in ("", "_half1", "_half2")]
    for name, array in zip(names, (made.full, *made.maps), strict=True):
        write_map(out_dir / name, array, cache.pixel_size_ang)
    return {"label": label, "cluster": label, "n_particles": n, "fraction": n / n_all, "z": [], "file": names[0],
            "index": label, "files": names[1:], "voxel_size_ang": cache.pixel_size_ang,
            **compare(made.maps[0], made.maps[1], cache.pixel_size_ang)}


def motion_entry(label: int, motion: Motion | None, shown: Motion | None, cache: ParticleCache, out_dir: Path
                 ) -> dict[str, Any]:
    """Part of a class's row on its variation; the maps along it are written where the halves agree on it."""
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
            [[(array, f"{cluster_name(label)}, t = {k / (len(motion.maps) - 1):.1f}")
              for k, array in enumerate(motion.maps)] for label, motion in shown], [label for label, _ in shown])
        drawing.save_png(strip, out_dir / MOTIONS_PNG)


def write_pictures(rows: list[dict[str, Any]], made: list[Halves], out_dir: Path) -> None:
    """``fsc.csv``, ``fsc.png`` and ``maps.png``; prints the resolutions."""
    fsc_curves.write_fsc(rows, out_dir, "Half maps refined apart")
    strip = drawing.density_strip(
        [[(h.full, f"{cluster_name(row['label'])}, {row['n_particles']} particles")]
         for row, h in zip(rows, made, strict=True)], [row["label"] for row in rows])
    drawing.save_png(strip, out_dir / "maps.png")
