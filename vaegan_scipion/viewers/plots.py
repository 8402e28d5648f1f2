"""Arrays in, drawings on a matplotlib Figure out. No Scipion, no Tk, no files.

Every function draws on the empty figure it is given and returns it. Maps are z, y, x arrays;
images y, x. A cluster has the same colour in every drawing (the engine's too).
"""
import textwrap
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.answer import Crossing
from ..engine.vaegan_engine.contract.drawings import PLANES, Curve
from ..engine.vaegan_engine.contract.labels import CLASSES, CLUSTERS, Naming, cluster_colour, cluster_name, state_name
from ..engine.vaegan_engine.contract.training_curves import curve_names, draw_training_curves
from .panel_rows import PanelRows

BESIDE_LEGEND = (0.09, 0.10, 0.66, 0.82)  # axes that leave room for a legend
MOST_CURVES = 12  # of one drawing
FIRST_TWIN = 8  # colours from here on are darker and lighter twins of those before
BAR_IN = 0.9  # width of a colour bar with its text


class Point(NamedTuple):
    """A point of a traversal: where it is, how many particles are near, and its image (d, d)."""

    cluster: int
    component: int
    position: float
    n_near: int
    image: np.ndarray


def draw_umap(figure: Figure, umap: np.ndarray, labels: np.ndarray) -> Figure:
    """Embedding (n, 2 or more) coloured by label (n,); a density above MAX_POINTS."""
    drawings.draw_umap(figure.add_axes(BESIDE_LEGEND), umap, labels, beside=True)
    return figure


def draw_density(figure: Figure, umap: np.ndarray, labels: np.ndarray) -> Figure:
    """How many particles are where: every one counts, however many there are."""
    drawings.draw_density(figure.add_axes(BESIDE_LEGEND), umap, labels, beside=True)
    return figure


def draw_curves(figure: Figure, rows: Sequence[Dict[str, float]], title: str = "") -> Figure:
    """One panel per quantity of `log.jsonl`, against thousands of images seen, in about a square."""
    figure.suptitle(title, fontsize=10)
    draw_training_curves(figure, rows, max(1, int(np.ceil(np.sqrt(len(curve_names(rows)))))))
    figure.tight_layout()
    return figure


def draw_fsc(figure: Figure, curves: Sequence[Curve], naming: Naming = CLUSTERS, unproven_per_ang: float = 0.0
             ) -> Figure:
    """FSC (of classes in the plane: FRC) with resolutions at 0.143 and 0.5; on grey below `unproven_per_ang`, 1/Å."""
    axes, kind = figure.add_subplot(), "FRC" if naming is CLASSES else "FSC"
    styled = [replace(curve, style="-" if curve.label < FIRST_TWIN else "-.") for curve in curves]
    drawings.draw_fsc(axes, styled, f"resolution at {kind} 0.143, 0.5", naming, unproven_per_ang)
    axes.set_ylabel(kind)
    return figure


def slices_size_in(n_maps: int) -> Tuple[float, float]:
    """Width and height of `draw_slices` for so many maps."""
    return PanelRows(n_maps, len(PLANES)).size_in(6.6, 2.0, 0.5)


def draw_slices(figure: Figure, maps: Sequence[np.ndarray], titles: Sequence[str],
                colours: Sequence[str] = (), pixel_size_ang: float = 0.0) -> Figure:
    """Central sections of each map (d, d, d), one row per map: across z, y and x; a scale bar in the first."""
    rows = PanelRows(len(maps), len(PLANES))
    for row, (array, title) in enumerate(zip(maps, titles)):
        low, high = np.percentile(array, (1, 99.8))
        for column, (name, axis) in enumerate(PLANES):
            axes = figure.add_subplot(*rows.subplot(row, column))
            section = drawings.section_across(array, axis)
            axes.imshow(section, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower")
            if column == 0:
                drawings.draw_scale_bar(axes, section.shape[1], pixel_size_ang)
            _bare(axes, f"section across {name}" if rows.is_first(row) else "", title if column == 0 else "",
                  colours[row] if colours else "black")
    figure.tight_layout()
    return figure


def local_size_in(n_maps: int) -> Tuple[float, float]:
    """Width and height of `draw_local_resolution` for so many maps."""
    width_in, height_in = slices_size_in(n_maps)
    return width_in + BAR_IN, height_in


def draw_local_resolution(figure: Figure, maps: Sequence[np.ndarray], titles: Sequence[str], colours: Sequence[str],
                          pixel_size_ang: float) -> Figure:
    """Sections of each map (d, d, d) of resolutions in Å, one row per map, and their colour bar at the right."""
    rows = PanelRows(len(maps), len(PLANES))
    grid = [[figure.add_subplot(*rows.subplot(row, column)) for column in range(len(PLANES))]
            for row in range(len(maps))]
    shown = drawings.draw_local_resolution(grid, maps, titles, colours, pixel_size_ang)
    right = 1 - BAR_IN / figure.get_size_inches()[0]
    figure.tight_layout(rect=(0, 0, right, 1))
    figure.colorbar(shown, cax=figure.add_axes((right + 0.2 * (1 - right), 0.1, 0.2 * (1 - right), 0.8)),
                    label=drawings.LOCAL_RESOLUTION)
    return figure


def draw_montage(figure: Figure, images: Sequence[np.ndarray], titles: Sequence[str],
                 colours: Sequence[str] = (), pixel_size_ang: float = 0.0) -> Figure:
    """Images (d, d) in a grid, each with its own contrast; a scale bar in the first."""
    n_columns = max(1, int(np.ceil(np.sqrt(len(images)))))
    n_rows = max(1, int(np.ceil(len(images) / n_columns)))
    for number, (image, title) in enumerate(zip(images, titles), start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        axes.imshow(image, cmap="gray", origin="lower")
        if number == 1:
            drawings.draw_scale_bar(axes, image.shape[1], pixel_size_ang)
        _bare(axes, title, "")
        axes.title.set_color(colours[number - 1] if colours else "black")
    figure.tight_layout()
    return figure


def traversal_size_in(points: Sequence[Point]) -> Tuple[float, float]:
    """Width and height of `draw_traversal` for these points."""
    strips: Dict[Tuple[int, int], int] = {}
    for point in points:
        strips[point.cluster, point.component] = strips.get((point.cluster, point.component), 0) + 1
    longest = max(strips.values(), default=1)
    side_in = min(1.9, 13.0 / longest)  # all of a strip on a screen
    return side_in * longest + 0.7, (side_in + 0.1) * max(len(strips), 1) + 0.3


def draw_traversal(figure: Figure, points: Sequence[Point], pixel_size_ang: float = 0.0) -> Figure:
    """One row per cluster and component, one contrast per row, particles near in each title."""
    strips: Dict[Tuple[int, int], List[Point]] = {}
    for point in points:
        strips.setdefault((point.cluster, point.component), []).append(point)
    n_columns = max((len(strip) for strip in strips.values()), default=1)
    for row, ((cluster, component), strip) in enumerate(sorted(strips.items())):
        low, high = np.percentile(np.stack([point.image for point in strip]), (1, 99.8))
        for column, point in enumerate(sorted(strip, key=lambda point: point.position)):
            axes = figure.add_subplot(len(strips), n_columns, row * n_columns + column + 1)
            axes.imshow(point.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower")
            if column == 0:
                drawings.draw_scale_bar(axes, point.image.shape[1], pixel_size_ang)
            name = f"{cluster_name(cluster)}\ncomponent {component}" if column == 0 else ""
            _bare(axes, f"{point.position:.2f}: {point.n_near} near", name, cluster_colour(cluster))
    figure.tight_layout()
    return figure


def counts_size_in(counts: np.ndarray) -> Tuple[float, float]:
    """Width and height of `draw_counts`."""
    return max(4.5, 1.5 + 1.3 * counts.shape[1]), max(2.5, 1.4 + 0.55 * counts.shape[0])


def draw_answer(figure: Figure, crossed: Crossing, sentence: str) -> Figure:
    """Which of states and clusters to trust, and how many particles of each cluster are in each state."""
    width_in, height_in = figure.get_size_inches()
    figure.text(0.03, 1 - 0.15 / height_in, textwrap.fill(sentence, int(9.8 * width_in)), va="top", fontsize=11,
                weight="bold")
    below = figure.add_axes((2.0 / width_in, 0.7 / height_in, 1 - 2.2 / width_in, 1 - 2.1 / height_in))
    fill_counts(below, np.array(crossed.counts), crossed.clusters, [state_name(s) for s in crossed.states], CLUSTERS)
    below.set_xlabel(f"particles of each cluster in each state; NMI {crossed.nmi:.3f} (1 = the same groups)")
    return figure


def answer_size_in(crossed: Crossing) -> Tuple[float, float]:
    """Width and height of `draw_answer`."""
    return max(8.0, 2.5 + 1.3 * len(crossed.states)), 2.4 + 0.55 * max(2, len(crossed.clusters))


def draw_counts(figure: Figure, counts: np.ndarray, labels: Sequence[int], states: Sequence[str], naming: Naming
                ) -> Figure:
    """Particles of cluster or state `labels[i]` with the true state `states[j]`, (i, j); grey by share of the row."""
    axes = figure.add_subplot()
    fill_counts(axes, counts, labels, states, naming)
    figure.tight_layout()
    return figure


def fill_counts(axes: Any, counts: np.ndarray, labels: Sequence[int], states: Sequence[str], naming: Naming) -> None:
    """The table of `draw_counts`."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*counts.shape):
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=9,
                  color="white" if share[row, column] > 0.5 else "black")
    axes.set_xticks(range(len(states)), [state if len(state) < 18 else state[:15] + "..." for state in states],
                    fontsize=8)
    axes.set_yticks(range(len(labels)), [naming.name(label) for label in labels], fontsize=9)
    for tick, label in zip(axes.get_yticklabels(), labels):
        tick.set_color(naming.colour(label))
    axes.set_xlabel("label")


def draw_picture(figure: Figure, picture: np.ndarray) -> Figure:
    """A picture (rows, columns[, colours]) as it is, as large as the figure; grey where it has no colours."""
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.imshow(picture, cmap="gray")
    _bare(axes, "", "")
    return figure


def _bare(axes: Any, title: str, side: str, side_color: Any = "black") -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8)
    axes.set_ylabel(side, fontsize=8, color=side_color)
