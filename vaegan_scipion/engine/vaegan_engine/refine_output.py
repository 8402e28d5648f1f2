"""What ``refine`` leaves: tables, a star file with poses, maps, FSC, a verdict with its evidence."""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import starfile

from . import figures, halves, results
from .cache import ParticleCache
from .clustering import NOISE
from .contract import RefineRun, TrainRun
from .contrast import LEAST_SPREAD
from .frames import Laid
from .motion import LEAST_AGREEMENT, Motion
from .mrc_io import write_map
from .palette import cluster_name
from .particles import PARTICLE_ID
from .polish import Assignment, Halves
from .references import compare
from .relion_star import OPTICS_GROUP, read_star
from .rotations import matrix_to_euler

POSE_COLUMNS = ("rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang")
MOTIONS_PNG = "motions.png"
RESTART = "misfit", "best", "log_evidence", "log_evidence_before", "kept"  # of a state that was started anew
MOSTLY = 0.5  # of the images, for "mostly junk"


@dataclass(frozen=True)
class Evidence:
    """What speaks for the number of states."""

    unseen: float  # mean log likelihood ratio of unseen images, maps against an empty one
    least_unseen: float  # below it there is no structure
    starts: list[dict[str, Any]] = field(default_factory=list)  # the same of every kind of start (``starts``)
    pairs: list[dict[str, Any]] = field(default_factory=list)  # ``divide.separation`` of the states, two by two
    refused_splits: list[dict[str, Any]] = field(default_factory=list)
    junk: dict[str, Any] = field(default_factory=dict)  # ``junk.set_aside``
    contrast_spread: float = 0.0  # standard deviation of the particles' contrast
    masks: list[dict[str, Any]] = field(default_factory=list)  # ``envelope.best_mask``
    restarts: list[dict[str, Any]] = field(default_factory=list)  # ``restart.restarted``

    @property
    def structured(self) -> bool:
        """Whether there is anything in the images."""
        return self.unseen >= self.least_unseen


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
    write_stars(train.data.particles, cache, table, out_dir)
    rows = []
    for c in order:
        row = class_row(int(new[c]), int(sizes[c]), len(label), halves_of[c], cache, out_dir)
        row |= {"frame_correlation": laid[c].correlation, "frame_mirrored": laid[c].mirrored}
        rows.append(row | motion_entry(int(new[c]), motions[c], moving[c], cache, out_dir))
    write_pictures(rows, [halves_of[c] for c in order], out_dir)
    draw_motions([(int(new[c]), moving[c]) for c in order], out_dir)
    results.write_json(out_dir / results.CLUSTERS_JSON, rows)
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
    results.write_json(out_dir / results.REFINE_JSON, details)
    results.update_status(out_dir, state="finished", command=run.command, stage="finished", error=None,
                          n_particles=len(label), clusters=found.n_classes, verdict=details["verdict"])
    print(f"clusters {found.n_classes}\nverdict: {details['verdict']}", flush=True)
    return details


def verdict(rows: list[dict[str, Any]], evidence: Evidence) -> str:
    """One sentence, from the evidence alone."""
    if not evidence.structured:
        return (f"no structure found: maps explain unseen images no better than an empty map "
                f"(log likelihood {evidence.unseen:.1f} per image, at least {evidence.least_unseen:g} is asked)")
    moving = sum(bool(row["motion_files"]) for row in rows)
    junk, share = evidence.junk.get("n_junk", 0), evidence.junk.get("fraction", 0.0)
    n = len(rows)
    text = "one state" if n == 1 else f"{n} states"
    if moving:
        text += (", which varies continuously" if n == 1
                 else f", {moving} of which var{'ies' if moving == 1 else 'y'} continuously")
    if junk:
        text += (f"; {junk} image ({100 * share:.1f} %) fits no state and is set aside" if junk == 1
                 else f"; {junk} images ({100 * share:.1f} %) fit no state and are set aside")
    return f"mostly junk: {text}" if share > MOSTLY else text


def pose_table(found: Assignment, pixel_size_ang: float) -> np.ndarray:
    """``(n, 5)``: RELION's angles in degrees and the shift of the particle's centre in A (x, y)."""
    A, shifts_px = found.poses(np.arange(len(found.class_)))
    angles = matrix_to_euler(A.double().cpu())
    return np.stack([*(angle.numpy() for angle in angles),
                     *(pixel_size_ang * shifts_px.double().cpu().numpy()).T], 1)


@dataclass(frozen=True)
class Table:
    """What every particle gets, in the cache's order."""

    label: np.ndarray  # (n,) int64, NOISE = junk
    probability: np.ndarray  # (n,)
    poses: np.ndarray  # (n, 5), POSE_COLUMNS
    t: np.ndarray  # (n,) place along its state's motion, NaN where there is none
    contrast: np.ndarray  # (n,) of the particle over its state's map


def write_tables(cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """Write ``particles.csv`` and ``clusters.csv``."""
    head = ["particle_id", "label", "probability"]
    common = [[int(i), int(k), f"{p:.6g}"]
              for i, k, p in zip(cache.particle_id, table.label, table.probability, strict=True)]
    results.write_csv(out_dir / results.CLUSTERS_CSV, head, common)
    results.write_csv(out_dir / results.PARTICLES_CSV, [*head, *POSE_COLUMNS, "half_set", "motion", "contrast"],
                      ([*row, *(f"{x:.5f}" for x in pose), int(half), "" if np.isnan(t) else f"{t:.5f}", f"{a:.4f}"]
                       for row, pose, half, t, a in zip(common, table.poses, cache.half_set, table.t, table.contrast,
                                                        strict=True)))


def write_stars(source: str, cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """``particles.star``: the particles in a state; ``junk.star``: the others, where there are any."""
    aside = table.label == NOISE
    write_star(source, cache, table, ~aside, out_dir / results.PARTICLES_STAR)
    (out_dir / results.JUNK_STAR).unlink(missing_ok=True)
    if aside.any():
        write_star(source, cache, table, aside, out_dir / results.JUNK_STAR)


def write_star(source: str, cache: ParticleCache, made: Table, chosen: np.ndarray, path: Path) -> None:
    """The source's rows of some particles (mask) with poses: RELION moves an image by ``rlnOrigin`` to centre it.

    A 3.0 file (no optics block) gets its origins in pixels of the original images, as that format has it.
    """
    table = read_star(Path(source))
    ids = (table.numbers(PARTICLE_ID).astype(np.int64) if table.has(PARTICLE_ID)
           else np.arange(1, len(table) + 1, dtype=np.int64))
    at = {int(particle): row for row, particle in enumerate(ids)}
    wanted, poses = cache.particle_id[chosen], made.poses[chosen]
    frame = table.particles.iloc[[at[int(particle)] for particle in wanted]].copy()
    folder = Path(source).resolve().parent
    frame["rlnImageName"] = [_moved_name(name, folder, path.resolve().parent) for name in frame["rlnImageName"]]
    frame[PARTICLE_ID] = wanted
    for column, values in zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), poses.T[:3], strict=True):
        frame[column] = np.round(values, 5)
    unit = 1.0 if table.optics is not None else cache.original_pixel_size_ang
    suffix = "Angst" if table.optics is not None else ""
    for axis, values in zip("XY", poses.T[3:], strict=True):
        frame[f"rlnOrigin{axis}{suffix}"] = np.round(-values / unit, 5)
    frame["rlnClassNumber"] = made.label[chosen] + 1
    frame["rlnRandomSubset"] = cache.half_set[chosen]
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


def motion_entry(label: int, motion: Motion | None, shown: Motion | None, cache: ParticleCache, out_dir: Path
                 ) -> dict[str, Any]:
    """Part of a class's row on its variation; the maps along it are written where the halves agree on it."""
    names = []
    for k, array in enumerate(shown.maps if shown is not None else ()):
        names.append(f"{results.MAPS}/cluster_{label:02d}_motion_{k:02d}.mrc")
        write_map(out_dir / names[-1], array, cache.pixel_size_ang)
    return {"motion_agreement": None if motion is None else motion.agreement, "motion_files": names}


def draw_motions(motions: list[tuple[int, Motion | None]], out_dir: Path) -> None:
    """``motions.png``: the maps along each state's motion, a row per state."""
    (out_dir / MOTIONS_PNG).unlink(missing_ok=True)
    shown = [(label, motion) for label, motion in motions if motion is not None]
    if shown:
        strip = figures.density_strip(
            [[(array, f"{cluster_name(label)}, t = {k / (len(motion.maps) - 1):.1f}")
              for k, array in enumerate(motion.maps)] for label, motion in shown], [label for label, _ in shown])
        figures.save_png(strip, out_dir / MOTIONS_PNG)


def write_pictures(rows: list[dict[str, Any]], made: list[Halves], out_dir: Path) -> None:
    """``fsc.csv``, ``fsc.png`` and ``maps.png``; prints the resolutions."""
    halves.write_fsc(rows, out_dir, "Half maps refined apart")
    strip = figures.density_strip(
        [[(h.full, f"{cluster_name(row['label'])}, {row['n_particles']} particles")]
         for row, h in zip(rows, made, strict=True)], [row["label"] for row in rows])
    figures.save_png(strip, out_dir / "maps.png")
