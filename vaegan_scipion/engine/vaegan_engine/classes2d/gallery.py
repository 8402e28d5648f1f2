"""All class averages in one picture: sizes, resolutions, a scale bar, junk last and in red."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ..contract.drawings import draw_scale_bar
from ..contract.records import ClusterRow
from ..figures.drawing import new_figure, save_png

COLUMNS = 10
TILE_IN = 1.25
JUNK_COLOUR = "#c0392b"


def draw_gallery(averages: np.ndarray, rows: Sequence[ClusterRow], mask: np.ndarray, pixel_size_ang: float,
                 path: Path) -> None:
    """Write averages ``(c, d, d)`` with what is known of each (``rows`` of ``clusters.json``), in their order."""
    n_columns = min(COLUMNS, max(len(rows), 4))
    n_rows = max(1, -(-len(rows) // n_columns))
    figure = new_figure(TILE_IN * n_columns, (TILE_IN + 0.32) * n_rows + 0.3)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, average, row in zip(axes.flat, averages, rows, strict=False):
        draw_class(ax, average, mask)
        junk = row.of_class.junk
        ax.set_title(f"{row.label + 1}: {row.n_particles:,}\n{junk or resolution_text(row)}", fontsize=7,
                     color=JUNK_COLOUR if junk else "black", pad=2)
    if len(rows):
        draw_scale_bar(axes.flat[0], averages.shape[-1], pixel_size_ang)
    figure.suptitle(f"{len(rows)} classes, the largest first"
                    + (", junk last (red)" if any(row.of_class.junk for row in rows) else ""), fontsize=9)
    save_png(figure, path)


def resolution_text(row: ClusterRow) -> str:
    """Resolution of a class in words."""
    value = row.of_class.frc_0143_ang
    return f"{value:.1f} Å" if value else "unresolved"


def draw_class(ax: Axes, average: np.ndarray, mask: np.ndarray) -> None:
    """One average; grey values from what lies inside of the mask, which alone is shown."""
    inside = average[mask > 0.5]
    low, high = (np.percentile(inside, (0.5, 99.7)) if len(inside) else (0.0, 1.0))
    picture = np.clip((average - low) / max(high - low, 1e-12), 0, 1)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, origin="lower", interpolation="bicubic")
