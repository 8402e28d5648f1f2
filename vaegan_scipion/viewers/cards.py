"""Cards of clusters: everything about a group in one row. Arrays in, drawings on a matplotlib Figure out."""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.labels import CLUSTERS, Naming
from . import plots

CARD_HEIGHT_IN = 1.75
CARD_WIDTH_IN = 13.0
LOW_CARD_IN = 1.1
STRIP_POINTS = 5  # of a longer traversal: evenly chosen ones


class Card(NamedTuple):
    """What is known about a cluster; parts that are None or empty are left out."""

    label: int
    n_particles: int
    fraction: float
    probability: float  # mean of membership
    picture: Optional[np.ndarray]  # map (d, d, d) or class image (d, d)
    stability: Optional[float] = None
    strip: Sequence[plots.Point] = ()
    curve: Optional[drawings.Curve] = None
    proven: bool = True  # False: the halves fall apart where they share their start
    pixel_size_ang: float = 0.0  # of the picture, for a scale bar


def cards_size_in(n_cards: int) -> Any:
    """Width and height of the figure for so many cards."""
    return CARD_WIDTH_IN, CARD_HEIGHT_IN * max(n_cards, 1) + 0.4


def draw_cards(figure: Figure, cards: Sequence[Card], naming: Naming = CLUSTERS) -> Figure:
    """One row per cluster or state: numbers, sections of its map (or its image), traversal strip, FSC."""
    height = 1 / max(len(cards), 1)
    for number, card in enumerate(cards):
        draw_card(figure, card, (1 - (number + 1) * height, height), naming)
    return figure


def draw_card(figure: Figure, card: Card, place: Tuple[float, float], naming: Naming = CLUSTERS) -> None:
    """One card; place: its bottom and its height in figure coordinates."""
    (bottom, height), colour = place, naming.colour(card.label)
    bar = figure.add_axes((0.004, bottom + 0.06 * height, 0.006, 0.88 * height))
    bar.set(facecolor=colour, xticks=[], yticks=[])
    figure.text(0.016, bottom + 0.90 * height, naming.name(card.label), color=colour, fontsize=11, weight="bold",
                va="top")
    figure.text(0.016, bottom + 0.72 * height, "\n".join(facts(card)), fontsize=8.5, va="top", linespacing=1.4)
    left = 0.165
    if card.picture is not None:
        views = sections(card.picture)
        low, high = np.percentile(card.picture, (1, 99.8))
        for number, (name, view) in enumerate(views):
            axes = _image(figure, (left, bottom, 0.095, height), view, (low, high), name)
            if number == 0:
                drawings.draw_scale_bar(axes, view.shape[1], card.pixel_size_ang)
            left += 0.098
    left = 0.165 + 3 * 0.098 + 0.012
    strip = chosen(sorted(card.strip, key=lambda point: point.position), STRIP_POINTS)
    if strip:
        stacked = np.stack([point.image for point in strip])
        low, high = np.percentile(stacked, (1, 99.8))
        for point in strip:
            _image(figure, (left, bottom, 0.07, height), point.image, (low, high), f"{point.n_near} near")
            left += 0.072
    if card.curve is not None:
        at, width = (0.865, 0.125) if strip else (left + 0.045, 0.28)
        axes = figure.add_axes((at, bottom + 0.24 * height, width, 0.60 * height))
        axes.plot(card.curve.frequency_per_ang, card.curve.fsc, color=colour, lw=1.3)
        for threshold in drawings.FSC_THRESHOLDS:
            axes.axhline(threshold, color="black", lw=0.6, ls="--")
        axes.set(ylim=(-0.1, 1.05), xlim=(0, None))
        low = height * figure.get_size_inches()[1] < LOW_CARD_IN  # no room below for the name of the axis
        axes.set_xlabel("" if low else "1/Å", fontsize=7, labelpad=1)
        axes.set_title("FSC of halves, 1/Å" if low else "FSC of halves", fontsize=8, pad=2)
        axes.tick_params(labelsize=6)


def facts(card: Card) -> List[str]:
    """The numbers of a card, a line each."""
    lines = [f"{card.n_particles} particles ({100 * card.fraction:.1f} %)"]
    if card.label >= 0:
        lines.append(f"mean membership {card.probability:.2f}")
    if card.stability is not None:
        lines.append(f"stability {card.stability:.2f}")
    if card.curve is not None:
        resolution = card.curve.resolution_ang(drawings.FSC_THRESHOLDS[0])
        lines.append(f"halves agree to {resolution:.1f} Å" if card.proven and np.isfinite(resolution)
                     else "no resolution is proven")
    return lines


def sections(picture: np.ndarray) -> List[Any]:
    """(name, image): central sections of a map, or the image itself."""
    if picture.ndim == 2:
        return [("class image", picture)]
    return [(f"across {name}", drawings.section_across(picture, axis)) for name, axis in drawings.PLANES]


def chosen(points: Sequence[Any], at_most: int) -> List[Any]:
    """All points, or `at_most` evenly spread ones with the first and the last."""
    if len(points) <= at_most:
        return list(points)
    return [points[int(i)] for i in np.linspace(0, len(points) - 1, at_most).round()]


def _image(figure: Figure, place: Any, image: np.ndarray, grey: Tuple[float, float], title: str) -> Any:
    (left, bottom, width, height), (low, high) = place, grey
    axes = figure.add_axes((left, bottom + 0.06 * height, width, 0.78 * height))
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), origin="lower")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8, pad=2)
    return axes
