"""Drawings shared by the pictures: UMAP, slices of maps, FSC curves. Arrays in, axes drawn on."""
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..contract import wording
from ..contract.labels import CLUSTERS, Naming

DOTS_AT_MOST = 20000
_BAR_FRACS = (0.2, 0.4)  # of a picture's width, that a scale bar may have


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | Path, dpi: int = 120) -> Path:
    """Write a PNG atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    figure.savefig(part, format="png", dpi=dpi)
    os.replace(part, path)
    return path


@dataclass(frozen=True)
class Curve:
    """One FSC curve of a cluster or state."""

    label: int
    text: str
    frequency_per_ang: np.ndarray
    fsc: np.ndarray
    style: str = "-"


def draw_umap(ax: Axes, points: np.ndarray, labels: np.ndarray, title: str = "", naming: Naming = CLUSTERS) -> None:
    """Scatter ``(n, 2)`` points by label, with the number of particles of each."""
    size = float(np.clip(6000 / max(len(points), 1), 1.0, 12.0))
    shown = np.random.default_rng(0).permutation(len(points))[:DOTS_AT_MOST]
    ax.scatter(points[shown, 0], points[shown, 1], s=size, linewidths=0,
               c=[naming.colour(label) for label in labels[shown].tolist()])
    for label in sorted(set(labels.tolist()), key=lambda label: (label < 0, label)):
        ax.scatter([], [], s=30, color=naming.colour(label),
                   label=f"{naming.name(label)} ({int((labels == label).sum())})")
    ax.legend(fontsize=8, loc="best", framealpha=0.8)
    ax.set(xlabel="UMAP 1", ylabel="UMAP 2", title=title)


def as_picture(array: np.ndarray) -> np.ndarray:
    """2D picture of an image (itself) or of a map: its central z, y and x slices side by side."""
    if array.ndim == 2:
        return array
    d = array.shape[0] // 2
    return np.concatenate((array[d], array[:, d], array[:, :, d]), axis=1)


def draw_density(ax: Axes, array: np.ndarray, title: str = "", colour: str = "black") -> None:
    """An image, or the central slices of a map, in grey (white = dense)."""
    picture = as_picture(array)
    low, high = np.percentile(picture, (1, 99.8))
    ax.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower",
              interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=8, color=colour)


def draw_fsc(ax: Axes, curves: Sequence[Curve], title: str = "", naming: Naming = CLUSTERS,
             unproven_per_ang: float = 0.0) -> None:
    """FSC curves with both thresholds; what lies below ``unproven_per_ang`` (1/A) on a grey ground."""
    if unproven_per_ang > 0:
        ax.axvspan(0, unproven_per_ang, color="0.88", lw=0,
                   label=wording.unproven_text(len({curve.label for curve in curves})))
    for curve in curves:
        ax.plot(curve.frequency_per_ang, curve.fsc, color=naming.colour(curve.label), label=curve.text, lw=1.6,
                ls=curve.style)
    for threshold in (0.143, 0.5):
        ax.axhline(threshold, color="0.6", lw=0.8, ls=":")
        ax.text(0.0, threshold + 0.01, f"{threshold:g}", fontsize=7, color="0.4",
                transform=ax.get_yaxis_transform())
    ax.set(xlabel="spatial frequency (1/Å)", ylabel="FSC", ylim=(-0.15, 1.05), title=title)
    if curves:
        ax.legend(fontsize=8, loc="best")


def density_strip(rows: Sequence[Sequence[tuple[np.ndarray, str]]], labels: Sequence[int],
                  side_in: float = 1.5, naming: Naming = CLUSTERS) -> Figure:
    """Rows of pictures with titles, coloured by the label of the row."""
    columns = max((len(row) for row in rows), default=1)
    flat = [array for row in rows for array, _ in row]
    wide = 3 if flat and flat[0].ndim == 3 else 1
    figure = new_figure(max(3.0, side_in * wide * columns), max(2.0, (side_in + 0.35) * len(rows)))
    axes = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for ax_row, row, label in zip(axes, rows, labels, strict=False):
        for ax, (array, title) in zip(ax_row, row, strict=False):
            draw_density(ax, array, title, naming.colour(label))
        for ax in ax_row[len(row):]:
            ax.axis("off")
    return figure


def text_panel(ax: Axes, lines: Sequence[str]) -> None:
    """Lines of numbers, in a fixed-width face."""
    ax.axis("off")
    ax.text(0.0, 1.0, "\n".join(lines), va="top", ha="left", fontsize=9, family="monospace",
            transform=ax.transAxes)


def scale_bar_ang(width_ang: float) -> float:
    """Round length, 1, 2 or 5 times a power of ten, of 0.2 to 0.4 of a width."""
    low, high = (frac * width_ang for frac in _BAR_FRACS)
    power = 10.0 ** np.floor(np.log10(high))
    return float(max(step for step in (power / 2, power, 2 * power, 5 * power) if step <= high or step < low))


def draw_scale_bar(ax: Axes, box_px: int, pixel_size_ang: float) -> None:
    """A scale bar with its length, in the lower left corner."""
    length_ang = scale_bar_ang(box_px * pixel_size_ang)
    start, at = 0.06 * box_px, 0.06 * box_px
    ax.plot((start, start + length_ang / pixel_size_ang), (at, at), color="#ffd400", lw=2.5, solid_capstyle="butt")
    ax.text(start, at + 0.03 * box_px, f"{length_ang:g} Å", color="#ffd400", fontsize=6, va="bottom")
