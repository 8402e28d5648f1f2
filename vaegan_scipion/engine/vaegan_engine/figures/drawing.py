"""Drawings shared by the pictures: figures, slices of maps, text. Those shared with Scipion: ``contract.drawings``."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..contract.drawings import central_sections
from ..contract.labels import CLUSTERS, Naming

MOST_COLUMNS, MOST_ROWS = 24, 100  # of pictures in a strip: drawing time grows with their square


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


def as_picture(array: np.ndarray) -> np.ndarray:
    """2D picture of an image (itself) or of a map: its central z, y and x slices side by side."""
    return np.concatenate(central_sections(array), axis=1)


def draw_density(ax: Axes, array: np.ndarray, title: str = "", colour: str = "black") -> None:
    """An image, or the central slices of a map, in grey (white = dense)."""
    picture = as_picture(array)
    low, high = np.percentile(picture, (1, 99.8))
    ax.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower",
              interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=8, color=colour)


def density_strip(rows: Sequence[Sequence[tuple[np.ndarray, str]]], labels: Sequence[int],
                  side_in: float = 1.5, naming: Naming = CLUSTERS) -> Figure:
    """Rows of pictures with titles, coloured by the label of the row.

    Of a row of more than ``MOST_COLUMNS`` so many are shown, spread evenly, its ends among them; of more than
    ``MOST_ROWS`` rows the first ones, and the picture says so.
    """
    n_rows = len(rows)
    rows = [[row[k] for k in spread(len(row), MOST_COLUMNS)] for row in rows[:MOST_ROWS]]
    columns = max((len(row) for row in rows), default=1)
    shape = next((as_picture(array).shape for row in rows for array, _ in row), (1, 1))
    wide = shape[1] / shape[0]
    figure = new_figure(max(3.0, side_in * wide * columns), max(2.0, (side_in + 0.35) * len(rows)))
    axes = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for ax_row, row, label in zip(axes, rows, labels, strict=False):
        for ax, (array, title) in zip(ax_row, row, strict=False):
            draw_density(ax, array, title, naming.colour(label))
        for ax in ax_row[len(row):]:
            ax.axis("off")
    if n_rows > len(rows):
        figure.suptitle(f"the first {len(rows)} of {n_rows} rows", fontsize=9)
    return figure


def spread(n: int, most: int) -> list[int]:
    """All numbers from 0 to n - 1, or ``most`` of them at even steps from the first to the last."""
    return list(range(n)) if n <= most else [round(k * (n - 1) / (most - 1)) for k in range(most)]


def text_panel(ax: Axes, lines: Sequence[str]) -> None:
    """Lines of numbers, in a fixed-width face."""
    ax.axis("off")
    ax.text(0.0, 1.0, "\n".join(lines), va="top", ha="left", fontsize=9, family="monospace",
            transform=ax.transAxes)
