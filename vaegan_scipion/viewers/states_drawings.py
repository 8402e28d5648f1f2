"""Drawings of states: where their particles look from, and the verdict with its evidence.

Arrays in, drawings on a matplotlib Figure out.
"""
import textwrap
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract import wording
from ..engine.vaegan_engine.contract.labels import state_colour, state_name
from ..engine.vaegan_engine.contract.records import ClusterRow, StatesSummary
from ..engine.vaegan_engine.contract.view_counts import draw_view_counts, view_counts
from .panel_rows import PanelRows

MOST_ROWS = 30  # of evidence that are written out
LINE_CHARS = 115
LINE_IN = 0.22
VIEWS_WIDTH_IN = 7.0
TITLE_CHARS_PER_IN = 11  # at 9 points


class Views(NamedTuple):
    """Where the particles of a state look from, (n,) each, and a note on it."""

    label: int
    rot_deg: np.ndarray
    tilt_deg: np.ndarray
    note: str = ""


def views_size_in(n_states: int) -> Tuple[float, float]:
    """Width and height of `draw_views` for so many states."""
    return PanelRows(n_states, 1).size_in(VIEWS_WIDTH_IN, 3.4, 0.3)


def draw_views(figure: Figure, shown: Sequence[Views]) -> Figure:
    """Particles per viewing direction on an equal-area map of the sphere (Mollweide), a panel per state."""
    rows = PanelRows(len(shown), 1)
    width_in = figure.get_size_inches()[0] / rows.n_blocks
    for row, views in enumerate(shown):
        axes = figure.add_subplot(*rows.subplot(row, 0), projection="mollweide")
        counts = view_counts(views.rot_deg, views.tilt_deg)
        image = draw_view_counts(axes, counts)
        note = f"; {views.note}" if views.note else ""
        title = f"{state_name(views.label)}: {len(views.rot_deg)} particles{note}"
        axes.set_title(textwrap.fill(title, int(TITLE_CHARS_PER_IN * width_in)), color=state_colour(views.label),
                       fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.8, label=f"particles; even: {counts.mean():.1f}")
    figure.subplots_adjust(left=0.10, right=0.96, bottom=0.04, top=0.94, hspace=0.25)
    return figure


def motion_lines(rows: Sequence[ClusterRow]) -> List[str]:
    """What two halves of each state's particles say of its variation, from `clusters.json`."""
    known = [row for row in rows if row.of_state.motion_agreement is not None]
    return ["", "Continuous variation (agreement of two halves on the place of each particle; 0.5 is asked for):",
            *(f"  {state_name(row.label)}: {row.of_state.motion_agreement:.2f}" for row in known)] if known else []


def evidence_lines(details: StatesSummary, rows: Sequence[ClusterRow]) -> List[str]:
    """The verdict and the numbers behind it, from `states.json` and `clusters.json`, as lines of text."""
    lines = [f"Verdict: {details.verdict}", "",
             f"Images that took no part in the start: log likelihood {details.unseen_log_evidence:.1f} per image "
             f"against an empty map; {details.least_log_evidence:g} is asked for."]
    lines += [f"The same of starts from {wording.start_text(row)}." for row in details.starts]
    texts = [wording.with_ring(wording.mask_text(details.masks))] if details.masks else []
    texts += [wording.restart_text(row) for row in details.restarts]
    texts += [f"groups of the images of one state: {wording.landscape_text(row)}" for row in details.landscapes]
    lines += [f"{text[0].upper()}{text[1:]}." for text in texts]
    if details.contrast_spread:
        lines += [f"Contrast of the particles: standard deviation {100 * details.contrast_spread:.0f} %; "
                  f"below {100 * details.least_contrast_spread:g} % it is not modelled."]
    junk = details.junk
    if junk is not None:
        lines += ["", f"Set aside: {junk.n_junk} images ({100 * junk.fraction:.1f} %), {junk.n_misfit} for "
                  f"their misfit (limit {junk.misfit_limit:.2f}, median {junk.median_misfit:.2f}, 1 expected), "
                  f"{junk.n_empty} because nothing of a state is seen in them, {junk.n_outliers} because "
                  "they are like no group of images and fit badly, "
                  f"{junk.n_faint} because little of a state is seen in them and fits badly."]
    if details.pairs:
        lines += ["", "Pairs of states (agreement of two halves: 1 = perfect; valley: 0 = parted, 1 = no gap; by view: "
                  "part that the viewing direction explains; all images: log likelihood that they together give to a "
                  "valley):"]
        lines += [f"  {state_name(a)} and {state_name(b)}: {wording.separation_text(pair)}"
                  for pair in details.pairs for a, b in [pair.states]]
    return lines + motion_lines(rows)


def evidence_size_in(details: StatesSummary, rows: Sequence[ClusterRow]) -> Tuple[float, float]:
    """Width and height of `draw_evidence`."""
    return 9.0, 0.6 + LINE_IN * len(_shown(details, rows))


def draw_evidence(figure: Figure, details: StatesSummary, rows: Sequence[ClusterRow]) -> Figure:
    """The verdict with its evidence as text; the file has what does not fit."""
    height_in = figure.get_size_inches()[1]
    for number, line in enumerate(_shown(details, rows)):
        depth = (len(line) - len(line.lstrip())) / 4  # of the indent, in steps
        figure.text(0.03 + 0.02 * depth, 1 - (0.25 + LINE_IN * number) / height_in, line.strip(), va="top",
                    fontsize=9.5, weight="bold" if number == 0 else "normal")
    return figure


def _shown(details: StatesSummary, rows: Sequence[ClusterRow]) -> List[str]:
    lines = [part for line in evidence_lines(details, rows)
             for part in (textwrap.wrap(line, LINE_CHARS, subsequent_indent="    ", drop_whitespace=True,
                                        replace_whitespace=False) or [""])]
    left = len(lines) - MOST_ROWS
    return lines if left <= 1 else [*lines[:MOST_ROWS], f"... and {left} lines more: see states.json"]
