"""Arrays in, drawings on a matplotlib Figure out. No Scipion, no Tk, no files.

Every function draws on the empty figure it is given and returns it. Maps are z, y, x arrays;
images y, x. A cluster has the same colour in every drawing (the engine's too).
"""
import textwrap
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..engine.vaegan_engine.contract import wording
from ..engine.vaegan_engine.contract.answer import Crossing
from ..engine.vaegan_engine.contract.labels import CLUSTERS, Naming, cluster_colour, cluster_name, state_name
from ..engine.vaegan_engine.contract.training_curves import curve_names, draw_training_curves

MAX_POINTS = 100_000
DENSITY_BINS = (100, 400)  # fewest and most, along each axis
FAINTEST = 0.2  # opacity of nearly nothing
BESIDE_LEGEND = (0.09, 0.10, 0.66, 0.82)  # axes that leave room for a legend
THRESHOLDS = (0.143, 0.5)
MOST_CURVES = 12  # of one drawing
FIRST_TWIN = 8  # colours from here on are darker and lighter twins of those before
CLASSES = Naming(lambda label: "junk" if label < 0 else f"class {label + 1}", cluster_colour)
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


def sorted_labels(labels: np.ndarray) -> List[int]:
    """The clusters in use by number, the unassigned last."""
    return sorted(set(labels.tolist()), key=lambda label: (label < 0, label))


def draw_umap(figure: Figure, umap: np.ndarray, labels: np.ndarray) -> Figure:
    """Embedding (n, 2 or more) coloured by label (n,); a density above MAX_POINTS."""
    fill_umap(figure.add_axes(BESIDE_LEGEND), umap, labels)
    return figure


def fill_umap(axes: Any, umap: np.ndarray, labels: np.ndarray) -> None:
    """A dot per particle, the unassigned lowest, small clusters above large ones; a density above MAX_POINTS."""
    if len(labels) > MAX_POINTS:
        fill_density(axes, umap, labels)
        return
    size = float(np.clip(20_000 / max(len(labels), 1), 3, 20))
    names = sorted_labels(labels)
    counts = {label: int((labels == label).sum()) for label in names}
    for label in sorted(names, key=lambda label: (label >= 0, -counts[label])):
        rows = labels == label
        axes.scatter(umap[rows, 0], umap[rows, 1], s=size, color=cluster_colour(label), linewidths=0,
                     label=f"{cluster_name(label)}: {counts[label]}")
    _finish_umap(axes, names, counts)


def draw_density(figure: Figure, umap: np.ndarray, labels: np.ndarray) -> Figure:
    """How many particles are where: every one counts, however many there are."""
    fill_density(figure.add_axes(BESIDE_LEGEND), umap, labels)
    return figure


def density_image(umap: np.ndarray, labels: np.ndarray, n_bins: int) -> Tuple[np.ndarray, List[float]]:
    """(n_bins, n_bins, 4) RGBA picture, row 0 lowest, and its extent (x0, x1, y0, y1).

    A pixel with particles has the mean of their cluster colours, and the opacity
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
        mixed += counts[..., None] * np.array(to_rgb(cluster_colour(label)))
    picture = np.zeros((n_bins, n_bins, 4))
    picture[..., :3] = mixed / np.maximum(total, 1)[..., None]
    opacity = FAINTEST + (1 - FAINTEST) * np.log1p(total) / np.log1p(max(total.max(), 1))
    picture[..., 3] = np.where(total > 0, opacity, 0)
    return picture, [low[0], high[0], low[1], high[1]]


def fill_density(axes: Any, umap: np.ndarray, labels: np.ndarray) -> None:
    """The picture of `density_image` with a legend of all counts."""
    picture, extent = density_image(umap, labels, int(np.clip(1.5 * np.sqrt(len(labels)), *DENSITY_BINS)))
    axes.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    names = sorted_labels(labels)
    counts = {label: int((labels == label).sum()) for label in names}
    for label in names:
        axes.scatter([], [], s=20, color=cluster_colour(label), label=f"{cluster_name(label)}: {counts[label]}")
    _finish_umap(axes, names, counts)


def _finish_umap(axes: Any, names: Sequence[int], counts: Dict[int, int]) -> None:
    total = sum(counts.values())
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title=f"{total} particles")
    shown = dict(zip(*reversed(axes.get_legend_handles_labels())))
    texts = [f"{cluster_name(label)}: {counts[label]}" for label in names]
    legend = axes.legend([shown[text] for text in texts], texts, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1),
                         borderaxespad=0)
    for handle in legend.legend_handles:
        handle.set_sizes([36])


def draw_curves(figure: Figure, rows: Sequence[Dict[str, float]], title: str = "") -> Figure:
    """One panel per quantity of `log.jsonl`, against thousands of images seen, in about a square."""
    figure.suptitle(title, fontsize=10)
    draw_training_curves(figure, rows, max(1, int(np.ceil(np.sqrt(len(curve_names(rows)))))))
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


def draw_fsc(figure: Figure, curves: Sequence[Curve], naming: Naming = CLUSTERS, unproven_per_ang: float = 0.0
             ) -> Figure:
    """FSC (of classes in the plane: FRC) with resolutions at 0.143 and 0.5; on grey below `unproven_per_ang`, 1/A."""
    axes, kind = figure.add_subplot(), "FRC" if naming is CLASSES else "FSC"
    if unproven_per_ang > 0:
        axes.axvspan(0, unproven_per_ang, color="0.88", lw=0, label=wording.unproven_text(len(curves)))
    for curve in curves:
        text = ", ".join(f"{resolution_ang(curve, threshold):.1f}" for threshold in THRESHOLDS)
        axes.plot(curve.frequency_per_ang, curve.fsc, color=naming.colour(curve.label),
                  ls="-" if curve.label < FIRST_TWIN else "-.",
                  label=f"{naming.name(curve.label)}: {text} Å")
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color="black", lw=0.8, ls="--")
        axes.annotate(f"{threshold:g}", (1, threshold), xycoords=("axes fraction", "data"),
                      ha="right", va="bottom", fontsize=8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"1/{1 / x:.1f}" if x > 0 else "0"))
    axes.set(xlabel="spatial frequency (1/Å)", ylabel=kind, ylim=(-0.1, 1.05), xlim=(0, None),
             title=f"resolution at {kind} 0.143, 0.5")
    axes.legend(fontsize=8)
    return figure


def slices_size_in(n_maps: int) -> Tuple[float, float]:
    """Width and height of `draw_slices` for so many maps."""
    return 6.6, 2.0 * max(n_maps, 1) + 0.5


def scale_bar(axes: Any, width_px: int, pixel_size_ang: float, colour: str = "white") -> None:
    """A bar of 1, 2 or 5 times a power of ten A, the longest within a third of an image of this width."""
    most_ang = width_px * pixel_size_ang / 3
    if not np.isfinite(most_ang) or most_ang <= 0:
        return
    power = 10.0 ** np.floor(np.log10(most_ang))
    length_ang = max(step * power for step in (1, 2, 5) if step * power <= most_ang)
    left, bottom = 0.05 * width_px - 0.5, 0.06 * width_px - 0.5
    axes.plot([left, left + length_ang / pixel_size_ang], [bottom, bottom], color=colour, lw=2.5,
              solid_capstyle="butt")
    axes.text(left, bottom + 0.025 * width_px, f"{length_ang:g} Å", color=colour, fontsize=7, va="bottom")


def draw_slices(figure: Figure, maps: Sequence[np.ndarray], titles: Sequence[str],
                colours: Sequence[str] = (), pixel_size_ang: float = 0.0) -> Figure:
    """Central sections of each map (d, d, d), one row per map: across z, y and x; a scale bar in the first."""
    for row, (array, title) in enumerate(zip(maps, titles)):
        low, high = np.percentile(array, (1, 99.8))
        for column, (name, axis) in enumerate(PLANES):
            axes = figure.add_subplot(len(maps), len(PLANES), row * len(PLANES) + column + 1)
            section = np.take(array, array.shape[axis] // 2, axis=axis)
            axes.imshow(section, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower")
            if column == 0:
                scale_bar(axes, section.shape[1], pixel_size_ang)
            _bare(axes, f"section across {name}" if row == 0 else "", title if column == 0 else "",
                  colours[row] if colours else "black")
    figure.tight_layout()
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
            scale_bar(axes, image.shape[1], pixel_size_ang)
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
                scale_bar(axes, point.image.shape[1], pixel_size_ang)
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
