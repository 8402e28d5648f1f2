"""Drawings that the engine's pictures and Scipion's viewers share: UMAP, FSC, scale bars, sections of maps.

On axes that they are given, so that matplotlib is not imported here: standard library and numpy. Python 3.8 syntax.
Maps are z, y, x arrays, images y, x.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from . import wording
from .labels import CLUSTERS, Naming

MAX_POINTS = 100_000  # of more particles their density is drawn
DENSITY_BINS = (100, 400)  # fewest and most, along each axis
MAX_FREE_LEGEND = 20_000  # points that a legend looks for a free place among, which takes long of more
FAINTEST = 0.2  # opacity of nearly nothing
FSC_THRESHOLDS = (0.143, 0.5)
LOCAL_RESOLUTION = "local resolution (Å)"  # of a colour bar
MAX_BAR_FRAC = 1 / 3  # of a picture's width, that a scale bar may have
PLANES = (("z", 0), ("y", 1), ("x", 2))  # normal of the section, axis of the array


# --------------------------------------------- maps ---------------------------------------------
def section_across(array: np.ndarray, axis: int) -> np.ndarray:
    """The central section ``(d, d)`` of a map ``(d, d, d)``, through voxel ``d // 2`` of an axis."""
    return np.take(array, array.shape[axis] // 2, axis=axis)


def central_sections(array: np.ndarray) -> List[np.ndarray]:
    """The central sections of a map across z, y and x (``PLANES``); or the image itself."""
    return [array] if array.ndim == 2 else [section_across(array, axis) for _, axis in PLANES]


def scale_bar_ang(width_ang: float) -> float:
    """The longest bar (Å) of 1, 2 or 5 times a power of ten within a third of a width; 0 where there is no width."""
    max_ang = width_ang * MAX_BAR_FRAC
    if not np.isfinite(max_ang) or max_ang <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(max_ang))
    return float(max(step * power for step in (1, 2, 5) if step * power <= max_ang))


def draw_scale_bar(axes: Any, width_px: int, pixel_size_ang: float, colour: str = "white") -> None:
    """A scale bar with its length, in the lower left corner of an image of this width; none without a pixel size."""
    length_ang = scale_bar_ang(width_px * pixel_size_ang)
    if not length_ang:
        return
    left, bottom = 0.05 * width_px - 0.5, 0.06 * width_px - 0.5
    axes.plot([left, left + length_ang / pixel_size_ang], [bottom, bottom], color=colour, lw=2.5,
              solid_capstyle="butt")
    axes.text(left, bottom + 0.025 * width_px, f"{length_ang:g} Å", color=colour, fontsize=7, va="bottom")


def inside_mask(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A map ``(d, d, d)`` where its soft mask is above a half, and 0 elsewhere."""
    return np.where(mask > 0.5, array, 0)


def draw_local_resolution(grid: Sequence[Sequence[Any]], maps: Sequence[np.ndarray], titles: Sequence[str],
                          colours: Sequence[str], pixel_size_ang: float) -> Any:
    """Central sections of maps ``(d, d, d)`` whose values are resolutions in Å, one scale for all; none at 0.

    ``grid``: three axes for each map. Returns what a colour bar is made of.
    """
    inside = np.concatenate([array[array > 0] for array in maps])
    low, high = np.percentile(inside, (1, 99)) if len(inside) else (0.0, 1.0)
    shown = None
    for panels, array, title, colour in zip(grid, maps, titles, colours):
        for axes, (name, axis) in zip(panels, PLANES):
            section = section_across(array, axis)
            shown = axes.imshow(np.ma.masked_less_equal(section, 0), cmap="cividis_r", vmin=low,
                                vmax=max(high, low + 1e-6), origin="lower")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"section across {name}" if axes.get_subplotspec().is_first_row() else "", fontsize=8)
        panels[0].set_ylabel(title, fontsize=8, color=colour)
        draw_scale_bar(panels[0], array.shape[-1], pixel_size_ang, "black")
    return shown


# --------------------------------------------- FSC ---------------------------------------------
@dataclass(frozen=True)
class Curve:
    """One FSC curve of a group: spatial frequency ``(n,)`` in 1/Å, rising, and FSC ``(n,)``."""

    label: int
    frequency_per_ang: Sequence[float] | np.ndarray
    fsc: Sequence[float] | np.ndarray
    text: str = ""  # of the legend; empty = name and resolutions, beginning with "_" = none
    style: str = "-"

    def resolution_ang(self, threshold: float) -> float:
        """Resolution (Å) where the FSC first falls below a threshold, by linear interpolation.

        The last resolution of the curve when it never does; infinite when it starts below.
        """
        x, y = np.asarray(self.frequency_per_ang, float), np.asarray(self.fsc, float)
        below = np.flatnonzero(y < threshold)
        if not len(below):
            return float(1 / x[-1])
        i = below[0]
        if i == 0:
            return float("inf")
        crossing = x[i - 1] + (y[i - 1] - threshold) / (y[i - 1] - y[i]) * (x[i] - x[i - 1])
        return float(1 / crossing)


def frequencies_per_ang(box_px: int, voxel_size_ang: float) -> np.ndarray:
    """Spatial frequency of each FSC shell up to Nyquist, 1/Å, ``(d // 2 + 1,)``."""
    return np.arange(box_px // 2 + 1) / (box_px * voxel_size_ang)


def draw_fsc(axes: Any, curves: Sequence[Curve], title: str = "", naming: Naming = CLUSTERS,
             unproven_per_ang: float = 0.0) -> None:
    """FSC curves with both thresholds; what lies below ``unproven_per_ang`` (1/Å) on a grey ground.

    A curve without a text of its own is called by its name and its resolutions at the thresholds.
    """
    if unproven_per_ang > 0:
        axes.axvspan(0, unproven_per_ang, color="0.88", lw=0,
                     label=wording.unproven_text(len({curve.label for curve in curves})))
    for curve in curves:
        resolutions = ", ".join(f"{curve.resolution_ang(threshold):.1f}" for threshold in FSC_THRESHOLDS)
        axes.plot(curve.frequency_per_ang, curve.fsc, color=naming.colour(curve.label), lw=1.6, ls=curve.style,
                  label=curve.text or f"{naming.name(curve.label)}: {resolutions} Å")
    for threshold in FSC_THRESHOLDS:
        axes.axhline(threshold, color="0.4", lw=0.8, ls="--")
        axes.annotate(f"{threshold:g}", (1, threshold), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      fontsize=8, color="0.4")
    axes.xaxis.set_major_formatter(lambda x, _: f"1/{1 / x:.1f}" if x > 0 else "0")
    axes.set(xlabel="spatial frequency (1/Å)", ylabel="FSC", ylim=(-0.15, 1.05), xlim=(0, None), title=title)
    if curves:
        axes.legend(fontsize=8)


# --------------------------------------------- UMAP ---------------------------------------------
def sorted_labels(labels: np.ndarray) -> List[int]:
    """The groups in use by number, what is in none last."""
    return sorted(set(labels.tolist()), key=lambda label: (label < 0, label))


def draw_umap(axes: Any, umap: np.ndarray, labels: np.ndarray, naming: Naming = CLUSTERS, beside: bool = False) -> None:
    """Embedding ``(n, 2 or more)``: a dot per particle, small groups above large ones; a density above MAX_POINTS.

    What is in no group lies lowest. The legend has the number of particles of each; ``beside``: it stands at the right
    of the axes.
    """
    if len(labels) > MAX_POINTS:
        draw_density(axes, umap, labels, naming, beside)
        return
    size = float(np.clip(20_000 / max(len(labels), 1), 3, 20))
    names = sorted_labels(labels)
    counts = {label: int((labels == label).sum()) for label in names}
    for label in sorted(names, key=lambda label: (label >= 0, -counts[label])):
        rows = labels == label
        axes.scatter(umap[rows, 0], umap[rows, 1], s=size, color=naming.colour(label), linewidths=0,
                     label=f"{naming.name(label)}: {counts[label]}")
    _finish_umap(axes, counts, naming, beside)


def density_image(umap: np.ndarray, labels: np.ndarray, n_bins: int, naming: Naming = CLUSTERS
                  ) -> Tuple[np.ndarray, List[float]]:
    """(n_bins, n_bins, 4) RGBA picture, row 0 lowest, and its extent (x0, x1, y0, y1).

    A pixel with particles has the mean of their groups' colours, and the opacity
    ``0.2 + 0.8 log(1 + count) / log(1 + largest count)``.
    """
    low, high = umap[:, :2].min(axis=0), umap[:, :2].max(axis=0)
    margin = np.where(high > low, 0.02 * (high - low), 0.5)
    low, high = low - margin, high + margin
    bins = [np.linspace(low[axis], high[axis], n_bins + 1) for axis in range(2)]
    total, mixed = np.zeros((n_bins, n_bins)), np.zeros((n_bins, n_bins, 3))
    for label in sorted_labels(labels):
        rows = labels == label
        counts = np.histogram2d(umap[rows, 1], umap[rows, 0], bins=(bins[1], bins[0]))[0]
        total += counts
        mixed += counts[..., None] * _rgb(naming.colour(label))
    picture = np.zeros((n_bins, n_bins, 4))
    picture[..., :3] = mixed / np.maximum(total, 1)[..., None]
    opacity = FAINTEST + (1 - FAINTEST) * np.log1p(total) / np.log1p(max(total.max(), 1))
    picture[..., 3] = np.where(total > 0, opacity, 0)
    return picture, [low[0], high[0], low[1], high[1]]


def draw_density(axes: Any, umap: np.ndarray, labels: np.ndarray, naming: Naming = CLUSTERS, beside: bool = False
                 ) -> None:
    """How many particles are where: every one counts, however many there are."""
    n_bins = int(np.clip(1.5 * np.sqrt(len(labels)), *DENSITY_BINS))
    picture, extent = density_image(umap, labels, n_bins, naming)
    axes.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    counts = {label: int((labels == label).sum()) for label in sorted_labels(labels)}
    for label, n in counts.items():
        axes.scatter([], [], s=20, color=naming.colour(label), label=f"{naming.name(label)}: {n}")
    _finish_umap(axes, counts, naming, beside)


def _rgb(colour: str) -> np.ndarray:
    """``#rrggbb`` as three numbers from 0 to 1."""
    return np.array([int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)])


def _finish_umap(axes: Any, counts: Dict[int, int], naming: Naming, beside: bool) -> None:
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title=f"{sum(counts.values())} particles")
    shown = dict(zip(*reversed(axes.get_legend_handles_labels())))
    texts = [f"{naming.name(label)}: {n}" for label, n in counts.items()]
    n = sum(counts.values())
    place: Dict[str, Any] = {"loc": "best" if n <= MAX_FREE_LEGEND else "upper right", "framealpha": 0.8}
    if beside:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    legend = axes.legend([shown[text] for text in texts], texts, fontsize=8, **place)
    for handle in legend.legend_handles:
        handle.set_sizes([36])
