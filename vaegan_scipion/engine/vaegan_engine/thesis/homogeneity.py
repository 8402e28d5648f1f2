"""``homogeneity``: k-means groups of the whole embedding, each aligned by RELION as one 2D class (thesis, 13).

Particles of one small group should show one view of one structure. Each group's two half sets are aligned
apart (``relion_refine``, one class), the averages are aligned to each other in the plane, and their Fourier
ring correlation within a soft circle tells the resolution that the group reaches. Without RELION the groups
and their star files are still written (``--no-align``).
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..contract import result_files
from ..contract.drawings import FSC_THRESHOLDS, frequencies_per_ang
from ..contract.errors import ConfigError, DataError
from ..contract.record import inlined, named, write_record
from ..contract.run_json import read_training
from ..contract.setting import check_settings, section, setting
from ..contract.settings import ComputeConfig, DataConfig
from ..data.mrc_files import write_stack
from ..data.particle_tables import Latents, latents_of_clusters, rows_of
from ..data.prepared_images import ParticleCache
from ..data.run_images import check_row_ids, open_run_cache
from ..data.star_files import read_star
from ..data.star_subset import write_subset
from ..evaluation.checks.relion_class import Classification, ctf_flags, find_program, one_class_average, write_images
from ..figures import drawing
from ..latent.centroids import nearest_to_centroids
from ..physics.fsc import fourier_shell_correlation, resolution_at, soft_sphere_mask
from ..physics.image_alignment import align_image
from ..runtime.compute import free_cores
from ..runtime.progress import progress_bar

HOMOGENEITY_CSV, HOMOGENEITY_JSON, HOMOGENEITY_PNG = "homogeneity.csv", "homogeneity.json", "homogeneity.png"
RINGS_CSV, AVERAGES_MRCS = "rings.csv", "averages.mrcs"
SMALLEST_HALF = 10  # images that RELION can make an average of


@dataclass(frozen=True)
class HomogeneityOptions:
    """Which embedding, how many groups, how to align them."""

    clusters_dir: str = setting("", "Results folder of cluster", path=True, required=True)
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    groups: int = setting(42, "k-means groups; the thesis has 42", low=1)
    space: Literal["umap", "z"] = setting("umap", "Where k-means works")
    iterations: int = setting(25, "Iterations of relion_refine", low=1, high=1000)
    align: bool = setting(True, "Star files only, without RELION")
    compute: ComputeConfig = section(ComputeConfig)


@dataclass(frozen=True)
class RingFigures:
    """How far the ring correlation of the halves' averages reaches."""

    groups_aligned: int
    pixel_size_ang: float
    iterations: int
    program: str
    mean_resolution_0143_ang: float = named("mean_resolution_0.143_ang")  # of the mean curve of all groups
    mean_resolution_05_ang: float = named("mean_resolution_0.5_ang")


@dataclass(frozen=True)
class Homogeneity:
    """``homogeneity.json``: the groups, and how alike their halves are where they were aligned."""

    groups: int
    space: str
    n_particles: int
    sizes: list[int]
    aligned: bool
    rings: RingFigures | None = inlined(default=None)


def run_homogeneity(options: HomogeneityOptions, out_dir: Path) -> Homogeneity:
    """Group, write a star file per group, align and compare halves; returns what the JSON file holds.

    Raises ConfigError (RELION missing, impossible numbers) or DataError.
    """
    out_dir = Path(out_dir)
    check_settings(options)
    if options.align:
        find_program()
    clusters, latents = latents_of_clusters(options.clusters_dir)
    if options.groups > len(latents.z):
        raise ConfigError(f"groups is {options.groups} for {len(latents.z)} particles.",
                          "Use at least 1 and at most one per particle.")
    run = read_training(options.run_dir)
    points = clusters.umap if options.space == "umap" else latents.z
    _, label = nearest_to_centroids(points, options.groups, options.compute.seed)
    table = read_star(Path(run.data.particles))
    check_row_ids(options.clusters_dir, run.data.particles)
    for group in range(int(label.max()) + 1):
        write_subset(table, latents.particle_id[label == group], out_dir / "stars" / f"group_{group:02d}.star",
                     run.data.stack)
    rings = align_groups(options, run.data, latents, label, out_dir) if options.align else None
    sizes = np.bincount(label).tolist()
    homogeneity = Homogeneity(len(sizes), options.space, len(label), sizes, options.align, rings)
    write_record(out_dir / HOMOGENEITY_JSON, homogeneity)
    print(f"{len(sizes)} groups of {min(sizes)} to {max(sizes)} particles, star files in {out_dir / 'stars'}",
          flush=True)
    if rings:
        print(f"mean ring correlation reaches {rings.mean_resolution_0143_ang:.1f} A at 0.143, "
              f"{rings.mean_resolution_05_ang:.1f} A at 0.5 ({rings.groups_aligned} groups)", flush=True)
    return homogeneity


def align_groups(options: HomogeneityOptions, data: DataConfig, latents: Latents, label: np.ndarray,
                 out_dir: Path) -> RingFigures:
    """Two RELION averages per group, their ring correlation, table, curves and picture."""
    cache = open_run_cache(data, options.run_dir)
    place = rows_of(cache.particle_id, latents.particle_id, options.run_dir)
    d = cache.box_px
    rows: list[list[Any]] = []
    curves: list[np.ndarray] = []
    pictures: list[np.ndarray] = []
    n_groups = int(label.max()) + 1
    with progress_bar(2 * n_groups, "RELION", "classes") as bar:
        for group in range(n_groups):
            halves = [place[(label == group) & (latents.half_set == half)] for half in (1, 2)]
            if min(len(half) for half in halves) < SMALLEST_HALF:
                print(f"group {group}: {' and '.join(str(len(h)) for h in halves)} particles in its halves, at least "
                      f"{SMALLEST_HALF} each are needed: not aligned", flush=True)
                bar.update(2)
                continue
            averages = []
            for half, members in enumerate(halves, 1):
                averages.append(half_average(options, data, cache, members,
                                             out_dir / "relion" / f"group_{group:02d}" / f"half{half}"))
                bar.update(1)
            curve, mean = compare_averages(averages[0], averages[1], d)
            curves.append(curve)
            pictures.append(mean)
            at = [resolution_at(curve, threshold, d, cache.pixel_size_ang).ang for threshold in FSC_THRESHOLDS]
            rows.append([group, *(len(half) for half in halves), *(f"{ang:.3f}" for ang in at)])
    if not rows:
        raise DataError(f"{options.clusters_dir}: no group of {n_groups} has {SMALLEST_HALF} particles in each half.",
                        "Use fewer --groups or more particles.")
    result_files.write_csv(out_dir / HOMOGENEITY_CSV, [
        "group", "n_half1", "n_half2", *(f"resolution_{threshold:g}_ang" for threshold in FSC_THRESHOLDS)], rows)
    frequency = frequencies_per_ang(d, cache.pixel_size_ang)
    result_files.write_csv(out_dir / RINGS_CSV, ["group", "spatial_frequency_per_ang", "ring_correlation"], (
        [row[0], f"{f:.6g}", f"{c:.6g}"] for row, curve in zip(rows, curves, strict=True)
        for f, c in zip(frequency, curve, strict=True)))
    write_stack(out_dir / AVERAGES_MRCS, np.stack(pictures).astype(np.float32), cache.pixel_size_ang)
    mean_curve = np.mean(curves, axis=0)
    draw(frequency, curves, pictures, [row[0] for row in rows], out_dir / HOMOGENEITY_PNG)
    return RingFigures(len(rows), cache.pixel_size_ang, options.iterations, "relion_refine, one class per half set",
                       *(float(resolution_at(mean_curve, threshold, d, cache.pixel_size_ang).ang)
                         for threshold in (0.143, 0.5)))


def half_average(options: HomogeneityOptions, data: DataConfig, cache: ParticleCache, members: np.ndarray,
                 folder: Path) -> np.ndarray:
    """RELION's average of some rows of the training images."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.sort(members)
    ctf = cache.ctf[order] if cache.ctf_present else None
    write_images(folder, np.asarray(cache.images[order], np.float32), ctf, cache.particle_id[order],
                 cache.pixel_size_ang)
    diameter_ang = 2 * data.particle_radius_frac * cache.box_px * cache.pixel_size_ang
    threads, seed = options.compute.threads or free_cores(), options.compute.seed
    return one_class_average(folder, Classification(diameter_ang, options.iterations, threads, seed, ctf_flags(ctf)))


def compare_averages(first: np.ndarray, second: np.ndarray, box_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Ring correlation ``(d//2 + 1,)`` of two averages within a soft circle, and their aligned mean."""
    aligned = align_image(second, first, allow_mirror=False).image
    circle = soft_sphere_mask(box_px, 0.45 * box_px, 0.05 * box_px)[box_px // 2]
    return fourier_shell_correlation(first * circle, aligned * circle), (first + aligned) / 2


def draw(frequency: np.ndarray, curves: list[np.ndarray], pictures: list[np.ndarray], groups: list[int], path: Path
         ) -> None:
    """Ring correlations of all groups with their mean, and eight averages."""
    figure = drawing.new_figure(11, 4)
    grid = figure.add_gridspec(2, 8)
    ax = figure.add_subplot(grid[:, :4])
    for curve in curves:
        ax.plot(frequency, curve, color="0.75", lw=0.7)
    ax.plot(frequency, np.mean(curves, axis=0), color="#1f77b4", lw=2, label=f"mean of {len(curves)} groups")
    for threshold in FSC_THRESHOLDS:
        ax.axhline(threshold, color="0.6", lw=0.8, ls=":")
    ax.set(xlabel="spatial frequency (1/Å)", ylabel="Fourier ring correlation", ylim=(-0.2, 1.05))
    ax.legend(fontsize=8)
    for place, (group, picture) in enumerate(zip(groups[:8], pictures, strict=False)):
        drawing.draw_density(figure.add_subplot(grid[place // 4, 4 + place % 4]), picture, f"group {group}")
    drawing.save_png(figure, path)
