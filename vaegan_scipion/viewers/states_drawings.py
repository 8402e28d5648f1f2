"""Drawings of states: where their particles look from, and the verdict with its evidence.

Arrays in, drawings on a matplotlib Figure out.
"""
import textwrap
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract import wording
from ..engine.vaegan_engine.contract.labels import state_colour, state_name

VIEW_BINS = (24, 12)  # rot x cos(tilt): bins of equal area on the sphere
MOST_ROWS = 30  # of evidence that are written out
LINE_CHARS = 100


def views_size_in(n_states: int) -> Tuple[float, float]:
    """Width and height of `draw_views` for so many states."""
    return 6.4, 2.3 * max(n_states, 1) + 0.3


def view_density(rot_deg: np.ndarray, tilt_deg: np.ndarray) -> np.ndarray:
    """Particles per bin over the mean of all bins, ``VIEW_BINS``: 1 everywhere for even views.

    Bins are even in rot and in cos(tilt), so that they have equal areas on the sphere of views.
    """
    counts, _, _ = np.histogram2d(np.mod(rot_deg, 360.0), np.cos(np.deg2rad(tilt_deg)), bins=VIEW_BINS,
                                  range=((0, 360), (-1, 1)))
    return counts / max(counts.mean(), 1e-12)


def draw_views(figure: Figure, labels: Sequence[int], rot_deg: Sequence[np.ndarray], tilt_deg: Sequence[np.ndarray]
               ) -> Figure:
    """Distribution of viewing directions, a panel per state."""
    rows = figure.subplots(max(len(labels), 1), 1, squeeze=False)[:, 0]
    for axes, label, rot, tilt in zip(rows, labels, rot_deg, tilt_deg):
        density = view_density(rot, tilt)
        image = axes.imshow(density.T, origin="lower", aspect="auto", extent=(0, 360, -1, 1), vmin=0,
                            vmax=max(2.0, float(density.max())), cmap="viridis")
        axes.set_title(f"{state_name(label)}: {len(rot)} particles", color=state_colour(label), fontsize=10)
        axes.set(xlabel="rot (deg)", ylabel="cos tilt")
        figure.colorbar(image, ax=axes, label="views / mean")
    figure.tight_layout()
    return figure


def motion_lines(rows: Sequence[Dict[str, Any]]) -> List[str]:
    """What two halves of each state's particles say of its variation, from `clusters.json`."""
    known = [row for row in rows if row["motion_agreement"] is not None]
    return ["", "Continuous variation (agreement of two halves on the place of each particle; 0.5 is asked for):",
            *(f"  {state_name(row['label'])}: {row['motion_agreement']:.2f}" for row in known)] if known else []


def evidence_lines(details: Dict[str, Any], rows: Sequence[Dict[str, Any]]) -> List[str]:
    """The verdict and the numbers behind it, from `states.json` and `clusters.json`, as lines of text."""
    lines = [f"Verdict: {details['verdict']}", "",
             f"Images that took no part in the start: log likelihood {details['unseen_log_evidence']:.1f} per image "
             f"against an empty map; {details['least_log_evidence']:g} is asked for."]
    lines += [f"The same of starts from {wording.start_text(row)}." for row in details["starts"]]
    if details["masks"]:
        text = wording.mask_text(details["masks"])
        lines += [f"{text[0].upper()}{text[1:]}."]
    for row in details["restarts"]:
        text = wording.restart_text(row)
        lines += [f"{text[0].upper()}{text[1:]}."]
    if details["contrast_spread"]:
        lines += [f"Contrast of the particles: standard deviation {100 * details['contrast_spread']:.0f} %; "
                  f"below {100 * details['least_contrast_spread']:g} % it is not modelled."]
    junk = details["junk"]
    if junk:
        lines += ["", f"Set aside: {junk['n_junk']} images ({100 * junk['fraction']:.1f} %), {junk['n_misfit']} for "
                  f"their misfit (limit {junk['misfit_limit']:.2f}, median {junk['median_misfit']:.2f}, 1 expected), "
                  f"{junk['n_empty']} because nothing of a state is seen in them, {junk['n_outliers']} because "
                  "they are like no group of images and fit badly."]
    if details["pairs"]:
        lines += ["", "Pairs of states (agreement of two halves: 1 = perfect; valley: 0 = parted, 1 = no gap; by view: "
                  "part that the viewing direction explains; all images: log likelihood that they together give to a "
                  "valley):"]
        lines += [f"  {state_name(a)} and {state_name(b)}: {separation_text(pair)}"
                  for pair in details["pairs"] for a, b in [pair["states"]]]
    return lines + motion_lines(rows)


def separation_text(pair: Dict[str, Any]) -> str:
    """The evidence that two states differ."""
    return (f"agreement {pair['agreement']:.2f}, valley {pair['valley']:.2f}, by view {pair['by_view']:.2f}, "
            f"all images {pair['valley_evidence']:.0f}")


def evidence_size_in(details: Dict[str, Any], rows: Sequence[Dict[str, Any]]) -> Tuple[float, float]:
    """Width and height of `draw_evidence`."""
    return 9.0, 0.6 + 0.24 * len(_shown(details, rows))


def draw_evidence(figure: Figure, details: Dict[str, Any], rows: Sequence[Dict[str, Any]]) -> Figure:
    """The verdict with its evidence as text; the file has what does not fit."""
    figure.text(0.03, 1 - 0.25 / figure.get_size_inches()[1], "\n".join(_shown(details, rows)), va="top", fontsize=9,
                family="monospace", linespacing=1.4)
    return figure


def _shown(details: Dict[str, Any], rows: Sequence[Dict[str, Any]]) -> List[str]:
    lines = [part for line in evidence_lines(details, rows)
             for part in (textwrap.wrap(line, LINE_CHARS, subsequent_indent="    ", drop_whitespace=True,
                                        replace_whitespace=False) or [""])]
    left = len(lines) - MOST_ROWS
    return lines if left <= 1 else [*lines[:MOST_ROWS], f"... and {left} lines more: see states.json"]
