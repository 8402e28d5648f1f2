"""What ``refine`` leaves: tables, a star file with poses, maps, FSC, a verdict with its evidence."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import starfile

from . import figures, halves, results
from .cache import ParticleCache
from .contract import RefineRun, TrainRun
from .divide import SMALLEST_AGREEMENT
from .mrc_io import write_map
from .palette import cluster_name
from .particles import PARTICLE_ID
from .polish import Assignment, Halves
from .references import compare
from .relion_star import OPTICS_GROUP, read_star
from .rotations import matrix_to_euler

POSE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang")


def write(run: RefineRun, train: TrainRun, cache: ParticleCache, found: Assignment, halves_of: list[Halves],
          pairs: list[dict[str, Any]], trials: list[dict[str, Any]], unseen: float, least_evidence: float,
          out_dir: Path) -> dict[str, Any]:
    """Write everything into ``out_dir``, classes numbered by falling size. Returns ``refine.json``."""
    sizes = np.bincount(found.class_, minlength=found.n_classes)
    order = np.argsort(-sizes, kind="stable")
    new = np.argsort(order)
    label = new[found.class_]
    probability = found.posterior[np.arange(len(label)), found.class_]
    poses = pose_table(found, cache.pixel_size_ang)
    write_tables(cache, label, probability, poses, out_dir)
    write_star(train.data.particles, cache, label, poses, out_dir / results.PARTICLES_STAR)
    rows = [class_row(int(new[c]), int(sizes[c]), len(label), halves_of[c], cache, out_dir) for c in order]
    write_pictures(rows, [halves_of[c] for c in order], out_dir)
    results.write_json(out_dir / results.CLUSTERS_JSON, rows)
    for pair in pairs:
        pair["classes"] = sorted(int(new[c]) for c in pair["classes"])
    details = {"clusters": found.n_classes, "verdict": verdict(found.n_classes, trials, unseen, least_evidence),
               "unseen_log_evidence": unseen, "least_log_evidence": least_evidence,
               "pairs": pairs, "refused_splits": trials}
    results.write_json(out_dir / results.REFINE_JSON, details)
    results.update_status(out_dir, state="finished", command=run.command, stage="finished", error=None,
                          n_particles=len(label), clusters=found.n_classes, verdict=details["verdict"])
    print(f"clusters {found.n_classes}\nverdict: {details['verdict']}", flush=True)
    return details


def verdict(n: int, refused: list[dict[str, Any]], unseen: float, least_evidence: float) -> str:
    """One sentence, from the evidence alone."""
    if unseen < least_evidence:
        return (f"no structure found: maps explain unseen images no better than an empty map "
                f"(log likelihood {unseen:.1f} per image, at least {least_evidence:g} is asked)")
    moving = sum(trial["agreement"] >= SMALLEST_AGREEMENT and 0.2 < trial["n_second"] / trial["n_particles"] < 0.8
                 for trial in refused)
    states = "one state" if n == 1 else f"{n} states"
    return states + (f", {moving} of which var{'ies' if moving == 1 else 'y'} continuously" if moving else "")


def pose_table(found: Assignment, pixel_size_ang: float) -> np.ndarray:
    """``(n, 5)``: RELION's angles in degrees and the shift of the particle's centre in A (x, y)."""
    A, shifts_px = found.poses(np.arange(len(found.class_)))
    angles = matrix_to_euler(A.double().cpu())
    return np.stack([*(angle.numpy() for angle in angles),
                     *(pixel_size_ang * shifts_px.double().cpu().numpy()).T], 1)


def write_tables(cache: ParticleCache, label: np.ndarray, probability: np.ndarray, poses: np.ndarray, out_dir: Path
                 ) -> None:
    """Write ``particles.csv`` and ``clusters.csv``."""
    head = ["particle_id", "label", "probability"]
    common = [[int(i), int(k), f"{p:.6g}"] for i, k, p in zip(cache.particle_id, label, probability, strict=True)]
    results.write_csv(out_dir / results.CLUSTERS_CSV, head, common)
    results.write_csv(out_dir / results.PARTICLES_CSV, [*head, *POSE_COLUMNS, "half_set"],
                      ([*row, *(f"{x:.5f}" for x in pose), int(half)]
                       for row, pose, half in zip(common, poses, cache.half_set, strict=True)))


def write_star(source: str, cache: ParticleCache, label: np.ndarray, poses: np.ndarray, path: Path) -> None:
    """The source's rows of these particles with poses: RELION moves an image by ``rlnOrigin`` to centre it.

    A 3.0 file (no optics block) gets its origins in pixels of the original images, as that format has it.
    """
    table = read_star(Path(source))
    ids = (table.numbers(PARTICLE_ID).astype(np.int64) if table.has(PARTICLE_ID)
           else np.arange(1, len(table) + 1, dtype=np.int64))
    at = {int(particle): row for row, particle in enumerate(ids)}
    frame = table.particles.iloc[[at[int(particle)] for particle in cache.particle_id]].copy()
    folder = Path(source).resolve().parent
    frame["rlnImageName"] = [_moved_name(name, folder, path.resolve().parent) for name in frame["rlnImageName"]]
    frame[PARTICLE_ID] = cache.particle_id
    for column, values in zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), poses.T[:3], strict=True):
        frame[column] = np.round(values, 5)
    unit = 1.0 if table.optics is not None else cache.original_pixel_size_ang
    suffix = "Angst" if table.optics is not None else ""
    for axis, values in zip("XY", poses.T[3:], strict=True):
        frame[f"rlnOrigin{axis}{suffix}"] = np.round(-values / unit, 5)
    frame["rlnClassNumber"] = label + 1
    frame["rlnRandomSubset"] = cache.half_set
    part = path.with_name(path.name + ".tmp")
    blocks = {"particles": frame} if table.optics is None else {"optics": table.optics, "particles": frame}
    if table.optics is not None and OPTICS_GROUP not in frame:
        frame[OPTICS_GROUP] = table.optics[OPTICS_GROUP].iloc[0]
    starfile.write(blocks, part)
    os.replace(part, path)


def _moved_name(name: str, old: Path, new: Path) -> str:
    """``000001@stack.mrcs`` relative to another folder, where the stack lies beside the star file."""
    number, at, stack = name.rpartition("@")
    target = old / stack
    return name if Path(stack).is_absolute() or not target.exists() else f"{number}{at}{os.path.relpath(target, new)}"


def class_row(label: int, n: int, n_all: int, made: Halves, cache: ParticleCache, out_dir: Path) -> dict[str, Any]:
    """Maps of one class on disk, and its row of ``clusters.json``."""
    folder = out_dir / results.MAPS
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{results.MAPS}/cluster_{label:02d}{suffix}.mrc" for suffix in ("", "_half1", "_half2")]
    for name, array in zip(names, (made.full, *made.maps), strict=True):
        write_map(out_dir / name, array, cache.pixel_size_ang)
    return {"label": label, "cluster": label, "n_particles": n, "fraction": n / n_all, "z": [], "file": names[0],
            "index": label, "files": names[1:], "voxel_size_ang": cache.pixel_size_ang,
            **compare(made.maps[0], made.maps[1], cache.pixel_size_ang)}


def write_pictures(rows: list[dict[str, Any]], made: list[Halves], out_dir: Path) -> None:
    """``fsc.csv``, ``fsc.png`` and ``maps.png``; prints the resolutions."""
    halves.write_fsc(rows, out_dir, "Half maps refined apart")
    strip = figures.density_strip(
        [[(h.full, f"{cluster_name(row['label'])}, {row['n_particles']} particles")]
         for row, h in zip(rows, made, strict=True)], [row["label"] for row in rows])
    figures.save_png(strip, out_dir / "maps.png")
