"""``match``: the correlation of maps with a list of reference maps or atomic models (thesis: frames 0, 4, 6, 10).

Each map is aligned (rotation, shift and hand), brought to the common resolution and correlated with every reference
inside a soft sphere (Pearson). Where the references share one frame, as steps of a motion do, each map is
aligned once, to their mean, so that no reference is favoured by an alignment of its own.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..contract import result_files
from ..contract.errors import ConfigError, DataError
from ..contract.record import write_record
from ..contract.setting import check_settings, setting
from ..data.mrc_files import VOXEL_SIZE_TOLERANCE_FRAC, read_map, write_map
from ..evaluation.truth.reference_maps import resampled
from ..figures import drawing
from ..physics.fsc import soft_sphere_mask
from ..physics.image_alignment import correlation
from ..physics.map_alignment import align_map
from ..physics.map_comparison import MASK_EDGE_FRAC, MASK_RADIUS_FRAC
from ..simulation import atomic_models

MATCH_CSV, MATCH_JSON, MATCH_PNG = "match.csv", "match.json", "match.png"
_EDGE_SHELLS = 2.0


@dataclass(frozen=True)
class MatchOptions:
    """Which maps, which references, at what resolution, how aligned."""

    maps: tuple[str, ...] = setting((), "Maps in one box, in order", path=True, required=True, metavar="MRC")
    references: tuple[str, ...] = setting((), "MRC maps, PDB or mmCIF models, in order", path=True, required=True,
                                          metavar="FILE")
    resolution_ang: float = setting(0.0, "Low-pass of maps and references", unit="A", low=0.1, zero="three voxels",
                                    option="resolution", metavar="ANG")
    frame: Literal["shared", "own", "none"] = setting(
        "shared", "shared: the references lie in one frame, align each map once, to their mean; own: align to each "
        "reference; none: the maps are aligned already")


def low_passed(array: np.ndarray, voxel_size_ang: float, resolution_ang: float) -> np.ndarray:
    """``(d, d, d)`` float64 with a cosine edge of two shells beyond ``1 / resolution``."""
    d = len(array)
    k, kx = np.fft.fftfreq(d, 1 / d), np.arange(d // 2 + 1)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + kx ** 2)
    edge = np.clip((radius - d * voxel_size_ang / resolution_ang) / _EDGE_SHELLS, 0, 1)
    transform = np.fft.rfftn(np.asarray(array, np.float64)) * (0.5 * (1 + np.cos(np.pi * edge)))
    return np.fft.irfftn(transform, s=array.shape, axes=(0, 1, 2))


def read_maps(paths: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """Maps ``(n, d, d, d)`` of one box and voxel size. Raises DataError."""
    made = [read_map(path) for path in paths]
    first, size = made[0]
    for path, (array, other) in zip(paths, made, strict=True):
        if array.shape != first.shape or abs(other / size - 1) > VOXEL_SIZE_TOLERANCE_FRAC:
            raise DataError(f"{path}: {len(array)} voxels of {other:g} A, {paths[0]} has {len(first)} of {size:g} A.",
                            "Give maps of one run.")
    return np.stack([array for array, _ in made]), size


def read_reference_maps(options: MatchOptions, box_px: int, voxel_size_ang: float,
                        resolution_ang: float) -> np.ndarray:
    """References ``(m, d, d, d)`` in the box of the maps. Atomic models of a shared frame keep their places."""
    made: list[np.ndarray] = []
    origin: np.ndarray | None = None
    for path in options.references:
        if atomic_models.is_model(path):
            model = atomic_models.read_model(path)
            if origin is None or options.frame == "own":
                origin = atomic_models.center_ang(model)
            try:
                made.append(atomic_models.density(model, box_px, voxel_size_ang, resolution_ang, origin))
            except DataError as error:
                raise DataError(f"{path}: {error.message}", error.hint) from error
            continue
        array, size = read_map(path)
        if abs(size / voxel_size_ang - 1) > VOXEL_SIZE_TOLERANCE_FRAC or len(array) != box_px:
            try:
                array = resampled(array, size, box_px, voxel_size_ang)
            except DataError as error:
                raise DataError(f"{path}: {error.message}", error.hint) from error
        made.append(array)
    return np.stack([low_passed(array, voxel_size_ang, resolution_ang) for array in made])


def correlations(maps: np.ndarray, references: np.ndarray, voxel_size_ang: float, frame: str
                 ) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Correlation ``(n, m)`` of every map with every reference, the maps aligned to their best one, their hands."""
    d = maps.shape[-1]
    mask = soft_sphere_mask(d, MASK_RADIUS_FRAC * d, MASK_EDGE_FRAC * d)
    inside = mask > 0
    table = np.zeros((len(maps), len(references)))
    kept, mirrored = [], []
    for row, array in enumerate(maps):
        alignments: list[Any] = []
        if frame == "shared":
            to_mean = align_map(array, references.mean(axis=0).astype(np.float32), voxel_size_ang)
            alignments = [to_mean] * len(references)
        elif frame == "own":
            alignments = [align_map(array, reference.astype(np.float32), voxel_size_ang) for reference in references]
        moved = [one.map for one in alignments] or [array] * len(references)
        for column, reference in enumerate(references):
            weights = mask[inside]
            table[row, column] = correlation(moved[column][inside] * weights, reference[inside] * weights)
        best = int(table[row].argmax())
        kept.append(moved[best])
        mirrored.append(bool(alignments[best].mirrored) if alignments else False)
    return table, np.stack(kept), mirrored


def rank_correlation(best: np.ndarray) -> float | None:
    """Spearman correlation of the maps' order with that of their best references; None where it is not defined."""
    from scipy.stats import spearmanr

    if len(best) < 2 or len(set(best.tolist())) == 1:
        return None
    return float(spearmanr(np.arange(len(best)), best).statistic)


@dataclass(frozen=True)
class Matched:
    """``match.json``: which reference each map is like."""

    maps: list[str]
    references: list[str]
    resolution_ang: float
    frame: str
    correlation: list[list[float]]  # of each map with each reference
    best: list[int]  # the reference that each map is most like
    mirrored: list[bool]
    order: float | None  # rank correlation of the order of maps and references


def run_match(options: MatchOptions, out_dir: Path) -> Matched:
    """Write ``match.csv``, ``match.json``, ``match.png`` and the aligned maps; returns what the JSON file holds.

    Raises ConfigError or DataError.
    """
    out_dir = Path(out_dir)
    check_settings(options)
    maps, voxel_size_ang = read_maps(options.maps)
    resolution_ang = options.resolution_ang or 3 * voxel_size_ang
    if resolution_ang < 2 * voxel_size_ang:
        raise ConfigError(f"The resolution is {resolution_ang:g} A, two voxels of the maps are "
                          f"{2 * voxel_size_ang:g} A.", "Use a resolution of two voxels or more.")
    references = read_reference_maps(options, maps.shape[-1], voxel_size_ang, resolution_ang)
    maps = np.stack([low_passed(array, voxel_size_ang, resolution_ang) for array in maps]).astype(np.float32)
    table, aligned, mirrored = correlations(maps, references, voxel_size_ang, options.frame)
    best = table.argmax(axis=1)
    names = [[Path(path).name for path in paths] for paths in (options.maps, options.references)]
    for index, array in enumerate(aligned):
        write_map(out_dir / result_files.MAPS / f"aligned_{index:02d}.mrc", array, voxel_size_ang)
    result_files.write_csv(out_dir / MATCH_CSV, ["map", *names[1], "best"], (
        [name, *(f"{value:.5f}" for value in row), int(b)] for name, row, b in zip(names[0], table, best, strict=True)))
    matched = Matched(names[0], names[1], resolution_ang, options.frame, table.tolist(), best.tolist(), mirrored,
                      rank_correlation(best))
    write_record(out_dir / MATCH_JSON, matched)
    draw(matched, out_dir / MATCH_PNG)
    for name, row, b in zip(names[0], table, best.tolist(), strict=True):
        print(f"{name}: best {names[1][b]} (reference {b}), correlation {row[b]:.4f}", flush=True)
    if matched.order is not None:
        print(f"rank correlation of the order of maps and references {matched.order:.2f}", flush=True)
    return matched


def draw(matched: Matched, path: Path) -> None:
    """Correlation of each map against the references, its best marked."""
    table = np.array(matched.correlation)
    figure = drawing.new_figure(max(4.5, 0.45 * table.shape[1] + 2.5), max(3.0, 0.35 * table.shape[0] + 2))
    ax = figure.subplots()
    for row, (values, name) in enumerate(zip(table, matched.maps, strict=True)):
        lines = ax.plot(values, marker="o", ms=3, label=name)
        ax.plot(matched.best[row], values.max(), "o", ms=9, mfc="none", color=lines[0].get_color())
    ax.set_xticks(range(table.shape[1]))
    ax.set(xlabel="reference", ylabel=f"correlation at {matched.resolution_ang:.0f} Å")
    ax.legend(fontsize=7)
    drawing.save_png(figure, path)
