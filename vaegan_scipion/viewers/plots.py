"""Arrays in, drawings on a matplotlib Figure out. No Scipion, no Tk, no files.

Every function draws on the empty figure it is given and returns it. Maps are z, y, x arrays;
images y, x. A cluster has the same colour in every drawing (the engine's too).
"""
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..engine.vaegan_engine.palette import cluster_colour, cluster_name

MAX_POINTS = 100_000
THRESHOLDS = (0.143, 0.5)
NOT_A_CURVE = ("kimg", "images_per_second", "lr_factor", "peak_gb")
PLANES = (("z", 0), ("y", 1), ("x", 2))  # normal of the section, axis of the array


class Curve(NamedTuple):
    """An FSC: cluster label, spatial frequency (n,) in 1/A ascending, fsc (n,)."""

    label: int
    frequency_per_ang: Sequence[float]
    fsc: Sequence[float]


class Point(NamedTuple):
    """A point of a traversal: where it is, how many particles are near, and its image (d, d)."""

    cluster: int
    component: int
    position: float
    n_near: int
    image: np.ndarray


def draw_umap(figure: Figure, umap: np.ndarray, labels: np.ndarray) -> Figure:
    """Embedding (n, 2 or more) coloured by label (n,); at most MAX_POINTS points, counts of all."""
    shown = np.arange(len(labels))
    if len(shown) > MAX_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(shown, MAX_POINTS, replace=False))
    axes = figure.add_subplot()
    size = float(np.clip(20_000 / max(len(shown), 1), 1, 20))
    for label in sorted(set(labels.tolist())):
        rows = shown[labels[shown] == label]
        axes.scatter(umap[rows, 0], umap[rows, 1], s=size, color=cluster_colour(label), linewidths=0,
                     label=f"{cluster_name(label)}: {int((labels == label).sum())}")
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title=f"{len(labels)} particles")
    axes.legend(markerscale=max(1.0, 6 / size**0.5), fontsize=8)
    return figure


def draw_curves(figure: Figure, rows: Sequence[Dict[str, Any]]) -> Figure:
    """One panel per quantity of `log.jsonl`, against thousands of images seen."""
    names = sorted({name for row in rows for name in row} - set(NOT_A_CURVE))
    n_columns = max(1, int(np.ceil(np.sqrt(len(names)))))
    n_rows = max(1, int(np.ceil(len(names) / n_columns)))
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        having = [row for row in rows if name in row]
        axes.plot([row["kimg"] for row in having], [row[name] for row in having], lw=1)
        axes.set_title(name.replace("_", " "), fontsize=8)
        axes.tick_params(labelsize=7)
        if number > len(names) - n_columns:
            axes.set_xlabel("thousand images", fontsize=7)
    figure.tight_layout()
    return figure


def resolution_ang(curve: Curve, threshold: float) -> float:
    """Resolution (A) where the FSC first falls below `threshold`, by linear interpolation.

    The last resolution of the curve when it never does; infinite when it starts below.
    """
    x, y = np.asarray(curve.frequency_per_ang, float), np.asarray(curve.fsc, float)
    below = np.flatnonzero(y < threshold)
    if not len(below):
        return float(1 / x[-1])
    if below[0] == 0:
        return float("inf")
    i = below[0]
    crossing = x[i - 1] + (y[i - 1] - threshold) / (y[i - 1] - y[i]) * (x[i] - x[i - 1])
    return float(1 / crossing)


def draw_fsc(figure: Figure, curves: Sequence[Curve]) -> Figure:
    """FSC curves with their resolution at 0.143 and 0.5."""
    axes = figure.add_subplot()
    for curve in curves:
        text = ", ".join(f"{resolution_ang(curve, threshold):.1f}" for threshold in THRESHOLDS)
        axes.plot(curve.frequency_per_ang, curve.fsc, color=cluster_colour(curve.label),
                  label=f"{cluster_name(curve.label)}: {text} A")
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color="black", lw=0.8, ls="--")
        axes.annotate(f"{threshold:g}", (1, threshold), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"1/{1 / x:.1f}" if x > 0 else "0"))
    axes.set(xlabel="spatial frequency (1/A)", ylabel="FSC", ylim=(-0.1, 1.05), xlim=(0, None),
             title="resolution at FSC 0.143, 0.5")
    axes.legend(fontsize=8)
    return figure


def draw_slices(figure: Figure, maps: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Central sections of each map (d, d, d), one row per map: across z, y and x."""
    for row, (array, title) in enumerate(zip(maps, titles)):
        low, high = np.percentile(array, (1, 99.8))
        for column, (name, axis) in enumerate(PLANES):
            axes = figure.add_subplot(len(maps), len(PLANES), row * len(PLANES) + column + 1)
            section = np.take(array, array.shape[axis] // 2, axis=axis)
            axes.imshow(section, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower")
            _bare(axes, f"section across {name}" if row == 0 else "", title if column == 0 else "")
    return figure


def draw_montage(figure: Figure, images: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Images (d, d) in a grid, each with its own contrast."""
    n_columns = max(1, int(np.ceil(np.sqrt(len(images)))))
    n_rows = max(1, int(np.ceil(len(images) / n_columns)))
    for number, (image, title) in enumerate(zip(images, titles), start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        axes.imshow(image, cmap="gray", origin="lower")
        _bare(axes, title, "")
    return figure


def draw_traversal(figure: Figure, points: Sequence[Point]) -> Figure:
    """One row per cluster and component, one contrast per row, particles near in each title."""
    strips: Dict[Tuple[int, int], List[Point]] = {}
    for point in points:
        strips.setdefault((point.cluster, point.component), []).append(point)
    n_columns = max((len(strip) for strip in strips.values()), default=1)
    for row, ((cluster, component), strip) in enumerate(sorted(strips.items())):
        low = min(float(point.image.min()) for point in strip)
        high = max(float(point.image.max()) for point in strip)
        for column, point in enumerate(sorted(strip, key=lambda point: point.position)):
            axes = figure.add_subplot(len(strips), n_columns, row * n_columns + column + 1)
            axes.imshow(point.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower")
            name = f"{cluster_name(cluster)}\ncomponent {component}" if column == 0 else ""
            _bare(axes, f"{point.position:.2f}: {point.n_near} near", name, cluster_colour(cluster))
    return figure


def draw_picture(figure: Figure, picture: np.ndarray) -> Figure:
    """A picture (rows, columns[, colours]) as it is."""
    axes = figure.add_subplot()
    axes.imshow(picture)
    _bare(axes, "", "")
    return figure


def _bare(axes: Any, title: str, side: str, side_color: Any = "black") -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8)
    axes.set_ylabel(side, fontsize=8, color=side_color)
