"""The UMAP coloured by what is known of each particle: arrays in, drawing on a matplotlib Figure out."""
from typing import Any, List, NamedTuple, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract.labels import CLUSTERS, UNASSIGNED_COLOUR, Naming

MOST_GROUPS = 12  # of a column of names: the others are drawn grey
COLOUR_MAP = "cividis"  # even steps for colour-blind readers too
DOT_AREA = (3.0, 20.0)


class Values(NamedTuple):
    """What is known of n particles: numbers, or names of groups."""

    title: str
    values: Sequence[Any]  # (n,), None where it is not known
    naming: Any = None  # a Naming where the values are labels


def is_number(values: Sequence[Any]) -> bool:
    """Whether all that is known are numbers, of more than a few kinds."""
    known = [value for value in values if value is not None]
    return all(isinstance(value, (int, float)) for value in known) and len(set(known)) > MOST_GROUPS


def draw_umap_values(figure: Figure, umap: np.ndarray, shown: Values) -> Figure:
    """Embedding (n, 2 or more): numbers by a colour bar, names by a legend beside the plot."""
    axes = figure.add_axes((0.09, 0.10, 0.60, 0.82))
    size = float(np.clip(20_000 / max(len(umap), 1), *DOT_AREA))
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", title=f"{len(umap)} particles by {shown.title}")
    if shown.naming is None and is_number(shown.values):
        _draw_numbers(figure, axes, umap, np.array([np.nan if v is None else v for v in shown.values], float), size)
    else:
        _draw_groups(axes, umap, shown, size)
    return figure


def _draw_numbers(figure: Figure, axes: Any, umap: np.ndarray, values: np.ndarray, size: float) -> None:
    known = np.isfinite(values)
    axes.scatter(*umap[~known, :2].T, s=size, color=UNASSIGNED_COLOUR, linewidths=0)
    low, high = np.percentile(values[known], (1, 99)) if known.any() else (0, 1)
    dots = axes.scatter(*umap[known, :2].T, s=size, c=values[known], cmap=COLOUR_MAP, vmin=low,
                        vmax=high if high > low else low + 1, linewidths=0)
    bar = figure.colorbar(dots, cax=figure.add_axes((0.73, 0.10, 0.03, 0.82)))
    bar.ax.tick_params(labelsize=8)
    if not known.all():
        axes.set_xlabel(f"UMAP 1; grey: not known of {int((~known).sum())} particles")


def _draw_groups(axes: Any, umap: np.ndarray, shown: Values, size: float) -> None:
    values = np.array([str(value) if shown.naming is None else value for value in shown.values], object)
    names, counts = np.unique(values.astype(str), return_counts=True)
    named = dict(zip(values.astype(str).tolist(), values.tolist()))
    order: List[str] = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
    for place, name in reversed(list(enumerate(order))):
        rows = values.astype(str) == name
        text, colour = _look(named[name], place, shown.naming)
        axes.scatter(*umap[rows, :2].T, s=size, color=colour, linewidths=0,
                     label=f"{text}: {int(rows.sum())}" if place < MOST_GROUPS else None)
    handles, texts = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], texts[::-1], fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1),
                         borderaxespad=0, title=f"and {len(order) - MOST_GROUPS} more" if len(order) > MOST_GROUPS
                         else None)
    for handle in legend.legend_handles:
        handle.set_sizes([36])


def _look(value: Any, place: int, naming: Any) -> Any:
    """(text, colour) of a group: by its label, or by its place among the largest."""
    if isinstance(naming, Naming) and value is not None:
        return naming.name(int(value)), naming.colour(int(value))
    return str(value)[-24:], CLUSTERS.colour(place) if place < MOST_GROUPS else UNASSIGNED_COLOUR
