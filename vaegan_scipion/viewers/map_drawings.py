"""Surfaces of maps, a gallery of what was set aside, and an answer in a sentence.

Arrays in, drawings on a matplotlib Figure out.
"""
import textwrap
from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.surface_picture import coloured, finer, surface_level, surface_picture
from ..engine.vaegan_engine.contract.wording import JUNK_REASONS
from .panel_rows import PanelRows

LINE_CHARS_PER_IN = 9.8  # of the bold face at 11 points
SENTENCE_LINE_IN = 0.21


class Examples(NamedTuple):
    """Some images (d, d) that were set aside for one reason, and how many there are; no reason: they were kept."""

    reason: str
    n_images: int
    particle_ids: Sequence[int]
    images: Sequence[np.ndarray]


# ------------------------------- surfaces -------------------------------
def surfaces_size_in(n_maps: int) -> Tuple[float, float]:
    """Width and height of `draw_surfaces` for so many maps."""
    return PanelRows(n_maps, len(drawings.PLANES)).size_in(7.2, 2.4, 0.4)


def draw_surfaces(figure: Figure, maps: Sequence[np.ndarray], titles: Sequence[str], colours: Sequence[str],
                  pixel_size_ang: float = 0.0) -> Figure:
    """The surface of each map (d, d, d) seen along z, y and x, one row per map, each at a level of its own."""
    rows = PanelRows(len(maps), len(drawings.PLANES))
    for row, (array, title, colour) in enumerate(zip(maps, titles, colours)):
        level, fine = surface_level(array), finer(array)
        for column, (name, axis) in enumerate(drawings.PLANES):
            axes = figure.add_subplot(*rows.subplot(row, column))
            picture = coloured(surface_picture(fine, axis, level), to_rgb(colour))
            axes.imshow(picture, origin="lower")
            if column == 0:
                fine_size_ang = pixel_size_ang * array.shape[0] / fine.shape[0]
                drawings.draw_scale_bar(axes, picture.shape[1], fine_size_ang, "black")
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
            axes.set_title(f"along {name}" if rows.is_first(row) else "", fontsize=8)
            axes.set_ylabel(title if column == 0 else "", fontsize=8, color=colour)
    figure.tight_layout()
    return figure


# ------------------------------- what was set aside -------------------------------
def junk_size_in(groups: Sequence[Examples]) -> Tuple[float, float]:
    """Width and height of `draw_junk`."""
    return 10.0, 1.5 * max(len(groups), 1) + 0.3


def draw_junk(figure: Figure, groups: Sequence[Examples], pixel_size_ang: float = 0.0) -> Figure:
    """A row of examples for each reason, with the particles' ids; each image with its own contrast, one scale bar."""
    height_in = figure.get_size_inches()[1]
    for row, group in enumerate(groups):
        top = 1 - (0.25 + 1.5 * row) / height_in
        reason = JUNK_REASONS.get(group.reason, group.reason)
        figure.text(0.02, top, f"{reason[0].upper()}{reason[1:]}: {group.n_images} image{'s' * (group.n_images != 1)}",
                    fontsize=9, weight="bold", va="center")
        for column, (particle_id, image) in enumerate(zip(group.particle_ids, group.images)):
            axes = figure.add_axes((0.02 + 0.097 * column, top - 1.22 / height_in, 0.093, 0.93 / height_in))
            low, high = np.percentile(image, (1, 99.8))
            axes.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-12),
                        interpolation="bicubic")
            if row == column == 0:
                drawings.draw_scale_bar(axes, image.shape[1], pixel_size_ang)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(str(particle_id), fontsize=7, labelpad=1)
    return figure


# ------------------------------- a sentence -------------------------------
def sentence_lines(sentence: str, width_in: float) -> List[str]:
    """A sentence in lines that fit a width in inches."""
    return textwrap.wrap(sentence, int(LINE_CHARS_PER_IN * width_in))


def sentence_size_in(sentence: str) -> Tuple[float, float]:
    """Width and height of `draw_sentence`."""
    return 8.0, 0.5 + SENTENCE_LINE_IN * len(sentence_lines(sentence, 8.0))


def draw_sentence(figure: Figure, sentence: str) -> Figure:
    """An answer alone."""
    width_in, height_in = figure.get_size_inches()
    figure.text(0.03, 1 - 0.2 / height_in, "\n".join(sentence_lines(sentence, width_in)), va="top", fontsize=11,
                weight="bold")
    return figure


def read_examples(groups: Sequence[Any], images: np.ndarray) -> List[Examples]:
    """Rows of `junk_examples.json` with their images, out of the stack (n, d, d)."""
    return [Examples(group.reason, group.n_images, group.particle_ids, [images[i] for i in group.indices])
            for group in groups]
