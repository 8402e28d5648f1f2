"""What ``classes2d`` leaves: class averages, tables, star files, a gallery (``result_files`` lists them)."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import result_files
from ..contract.analysis_records import Classes2dSummary
from ..contract.labels import UNASSIGNED
from ..contract.map_records import PlaneFigures
from ..contract.record import write_record, write_records
from ..contract.records import ClusterRow
from ..contract.settings import DataConfig
from ..contract.status import update_status
from ..data import particle_stars
from ..data.junk_examples import write_junk_examples
from ..data.mrc_files import write_stack
from ..data.prepared_images import ParticleCache
from ..data.star_files import RelionTable
from ..data.star_subset import decimals, whole_numbers
from ..physics.fsc import resolution_at
from .gallery import draw_gallery
from .junk import Judged, judge
from .problem import PlaneProblem
from .rounds import FRC_LIMIT, Classified, half_frc

HEAD = ("particle_id", "label", "junk", "probability", "psi_deg", "shift_x_ang", "shift_y_ang", "contrast", "gain",
        "half_set", "junk_reason")


@dataclass(frozen=True)
class Table:
    """What every particle gets, in the prepared images' order."""

    label: np.ndarray  # (n,) int64 from 0 by falling size, junk classes last; UNASSIGNED = none
    junk: np.ndarray  # (n,) bool
    probability: np.ndarray  # (n,) of the class
    psi_deg: np.ndarray  # (n,) -180 to 180
    shifts_ang: np.ndarray  # (n, 2) of the particle's centre from the image's, x and y
    contrast: np.ndarray  # (n,) typical image of the class = 1
    gain: np.ndarray  # (n,)
    junk_reason: list[str]  # (n,) why it is junk; "" = it is not


def write(problem: PlaneProblem, cache: ParticleCache, state: Classified, data: DataConfig, out_dir: Path
          ) -> Classes2dSummary:
    """Judge what is junk and write everything into ``out_dir``; returns ``classes2d.json``."""
    result_files.forget(out_dir, result_files.EVALUATION_JSON)
    judged = judge(problem, state)
    order = class_order(state, judged)
    table = particle_table(state, judged, order, cache.pixel_size_ang)
    model = state.model.chosen(order)
    averages = write_averages(problem, state, order, cache.pixel_size_ang, out_dir)
    frc = half_frc(problem, model)
    rows = [class_row(k, table, judged.reason[place], frc[k], cache) for k, place in enumerate(order)]
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    draw_gallery(averages, rows, problem.mask, cache.pixel_size_ang, out_dir / result_files.CLASSES_PNG)
    write_tables(cache, table, out_dir)
    write_junk_examples(cache, table.junk_reason, out_dir)
    details = summary(rows, table, judged, state.model.radius)
    write_record(out_dir / result_files.CLASSES2D_JSON, details)
    write_stars(data, cache, table, out_dir)  # last: the star file may have been changed meanwhile
    update_status(out_dir, state="finished", command="classes2d", stage="finished", error=None,
                  n_particles=len(cache), classes=len(rows), verdict=details.verdict,
                  box_px=cache.box_px, pixel_size_ang=cache.pixel_size_ang,
                  ids_are_rows_of=cache.ids_are_rows_of)
    print(f"classes {len(rows)}\nverdict: {details.verdict}", flush=True)
    return details


def class_order(state: Classified, judged: Judged) -> np.ndarray:
    """Classes by falling size, those of junk after all others."""
    sizes = state.candidates.sizes(state.model.n_classes)
    return np.lexsort((-sizes, np.array([bool(reason) for reason in judged.reason])))


def particle_table(state: Classified, judged: Judged, order: np.ndarray, pixel_size_ang: float) -> Table:
    """The particles' rows, classes under their numbers in ``order``."""
    candidates = state.candidates
    label = np.append(np.argsort(order), UNASSIGNED)
    pose = candidates.pose[:, 0]
    psi_deg = (np.rad2deg(pose[:, 0]) + 180) % 360 - 180
    typical = np.array([*(np.median(candidates.contrast[candidates.best == k]) for k in range(len(order))), 1.0])
    return Table(label[candidates.best], judged.image, candidates.probability, psi_deg, pixel_size_ang * pose[:, 1:],
                 candidates.contrast / np.maximum(typical[candidates.best], 1e-6), judged.gain,
                 image_reasons(judged, candidates.best))


def image_reasons(judged: Judged, class_of: np.ndarray) -> list[str]:
    """Why each image is junk: for its class's reason where this is one of junk, else for its own; "" of the others."""
    of_class = [*judged.reason, "in no class"]
    return [of_class[k] or str(own) for k, own in zip(class_of, judged.own_reason, strict=True)]


def class_row(label: int, table: Table, reason: str, frc: np.ndarray, cache: ParticleCache) -> ClusterRow:
    """One entry of ``clusters.json``."""
    members = table.label == label
    lower, upper = (0.0 if frc[1] < limit
                    else float(resolution_at(frc, limit, cache.box_px, cache.pixel_size_ang).ang)
                    for limit in (FRC_LIMIT, 0.5))
    gain = float(np.median(table.gain[members])) if members.any() else 0.0
    figures = PlaneFigures(reason, int((members & table.junk).sum()), cache.pixel_size_ang,
                           [round(float(value), 5) for value in frc], gain, lower, upper, cache.box_px)
    return ClusterRow(label, int(members.sum()), float(members.mean()), [],
                      f"{result_files.MAPS}/{result_files.CLASSES_MRCS}", label, in_plane=figures)


def write_averages(problem: PlaneProblem, state: Classified, order: np.ndarray, pixel_size_ang: float, out_dir: Path
                   ) -> np.ndarray:
    """The stacks of averages; returns those of all images ``(c, d, d)``."""
    folder, model = out_dir / result_files.MAPS, state.model.chosen(order)
    folder.mkdir(parents=True, exist_ok=True)
    averages, stem = model.averages(problem.mask), Path(result_files.CLASSES_MRCS).stem
    write_stack(folder / result_files.CLASSES_MRCS, averages, pixel_size_ang)
    for half, images in enumerate(model.half_averages(problem.mask), 1):
        write_stack(folder / f"{stem}_half{half}.mrcs", images, pixel_size_ang)
    return averages


def write_tables(cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """``particles.csv`` and ``clusters.csv``."""
    values = zip(cache.particle_id, table.label, table.junk, table.probability, table.psi_deg, table.shifts_ang,
                 table.contrast, table.gain, cache.half_set, table.junk_reason, strict=True)
    result_files.write_csv(out_dir / result_files.PARTICLES_CSV, HEAD, [
        [int(i), int(k), int(junk), f"{p:.6g}", f"{psi:.4f}", f"{x:.4f}", f"{y:.4f}", f"{a:.4f}", f"{gain:.3f}",
         int(half), why] for i, k, junk, p, psi, (x, y), a, gain, half, why in values])
    label = np.where(table.junk, UNASSIGNED, table.label)
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"], [
        [int(i), int(k), f"{p:.6g}"] for i, k, p in zip(cache.particle_id, label, table.probability, strict=True)])


def write_stars(data: DataConfig, cache: ParticleCache, table: Table, out_dir: Path) -> None:
    """``particles.star`` and ``junk.star``."""
    angles = np.stack((np.zeros_like(table.psi_deg), np.zeros_like(table.psi_deg), table.psi_deg), 1)

    def columns(source: RelionTable, chosen: np.ndarray) -> dict[str, np.ndarray]:
        aligned = particle_stars.aligned_columns(source, cache, chosen, angles, table.shifts_ang)
        return {**aligned, "rlnClassNumber": whole_numbers(table.label[chosen] + 1),
                "rlnMaxValueProbDistribution": decimals(table.probability[chosen])}

    particle_stars.write_stars(data, cache, table.junk, columns, out_dir)


def summary(rows: list[ClusterRow], table: Table, judged: Judged, radius: float) -> Classes2dSummary:
    """``classes2d.json``."""
    good, bad = ([row for row in rows if bool(row.of_class.junk) == junk] for junk in (False, True))
    n, n_junk = len(table.junk), int(table.junk.sum())
    text = (f"{len(good)} classes of {n - n_junk:,} particles; {n_junk:,} images are junk" if good else
            f"no class of particles was found in {n:,} images")
    if good and bad:
        text += f", {sum(row.n_particles for row in bad):,} of them in {len(bad)} classes of junk"
    proven = [row.of_class.frc_0143_ang for row in good if row.of_class.frc_0143_ang]
    return Classes2dSummary(text, len(rows), len(good), n, n_junk,
                            judged.misfit_limit if np.isfinite(judged.misfit_limit) else None, radius,
                            min(proven, default=0.0))
