"""The parts of the HTML report about ``states``: the states with maps and sizes, resolution and views, the evidence."""
from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..contract import result_files, wording
from ..contract.errors import DataError
from ..contract.labels import STATES, state_colour, state_name
from ..contract.record import read_record
from ..contract.records import ClusterRow, Separation, StatesSummary
from ..contract.result_files import read_picture
from ..contract.view_counts import draw_view_counts, view_counts
from ..data.particle_tables import read_cluster_rows
from ..figures import drawing, fsc_curves
from . import pictures
from .html import Section, table
from .result_reading import resolutions


def read_summary(folder: str) -> StatesSummary:
    """``states.json`` of a states folder. Raises DataError."""
    return read_record(StatesSummary, Path(folder) / result_files.STATES_JSON, "states")


def states_section(folder: str) -> Section:
    """Every state with its size, resolution and map. Raises DataError."""
    rows = read_cluster_rows(folder)
    body = table(["state", "particles", "share", "FSC 0.143", "FSC 0.5", "of Nyquist", "half maps",
                  "map and half maps"], [
        (state_name(row.label), row.n_particles, f"{100 * row.fraction:.1f} %", *resolutions(row.of_state.halves),
         wording.with_ring(wording.halves_text(row.of_state.halves, row.of_state.proof)),
         ", ".join((row.file, *row.of_state.files))) for row in rows])
    body += f'<div class="cards">{"".join(card(folder, row) for row in rows)}</div>'
    body += ('<p class="note">Maps are reconstructions of all images of a state, unfiltered, inside a soft sphere, '
             "all in the frame and hand of the largest state; whether that hand is the true one is not determined. "
             "Surfaces at 0.35 of the densest thousandth; sections through the middle, white is dense.</p>")
    return Section("states", "States", body)


def resolution_section(folder: str) -> Section:
    """FSC of the half maps, and how the particles of each state look. Raises DataError."""
    rows = read_cluster_rows(folder)
    labels, rot_deg, tilt_deg = read_views(folder)
    halves = [fsc_curves.HalvesFsc(row.label, row.of_state.voxel_size_ang, row.of_state.halves, row.of_state.proof)
              for row in rows]
    curves = [curve for one in halves for curve in one.curves(STATES)]
    picture = pictures.fsc_uri(curves, "Half maps apart", STATES, fsc_curves.unproven_per_ang(halves))
    notes = {row.label: wording.views_text(row.of_state.scf, row.of_state.unsampled_frac) for row in rows}
    body = ('<p class="note">The halves of a state search and refine their poses in their own maps alone, from a '
            "common coarse map: what lies on grey they share, and it is not proven. FSC inside a mask made of the map, "
            "corrected by random phases (Chen et al. 2013); dashed: without mask. Views are counted in bins of equal "
            "area; SCF after Baldwin and Lyumkis (2020).</p>")
    body += f'<div class="columns"><img src="{picture}" alt="FSC of half maps">'
    body += f'<img src="{views_uri(labels, (rot_deg, tilt_deg), notes)}" alt="viewing directions"></div>'
    return Section("resolution", "Resolution and views", body)


def evidence_section(folder: str) -> Section:
    """The verdict of ``states`` and the numbers behind it. Raises DataError."""
    details = read_summary(folder)
    body = f'<p class="verdict">{html.escape(details.verdict)}</p>{table(None, evidence(details))}'
    return Section("evidence", "Evidence for the states", body + pairs_table(details.pairs))


def evidence(details: StatesSummary) -> list[tuple[str, str]]:
    """(what, numbers) behind the verdict that hold for all states."""
    rows = [("log likelihood of unseen images against an empty map",
             f"{details.unseen_log_evidence:.1f} per image; {details.least_log_evidence:g} is asked for")]
    if details.ball_null is not None:
        null = details.ball_null
        rows.append(("the same, maps against balls of the same profile",
                     f"{null.gain:.2f} +- {null.gain_error:.2f} per image of {null.n_images}"))
        rows.append(("orientation that an unseen image leaves open", f"{null.open_deg:.0f} degrees on average"))
    rows += [("the same of starts", f"from {wording.start_text(row)}") for row in details.starts]
    if details.masks:
        rows.append(("where the maps end", wording.with_ring(wording.mask_text(details.masks))))
    rows += [("a start within a state", wording.restart_text(row)) for row in details.restarts]
    rows += [("groups of the images of one state", wording.landscape_text(row)) for row in details.landscapes]
    if details.contrast_spread:
        rows.append(("contrast of the particles, standard deviation",
                     f"{100 * details.contrast_spread:.0f} %; below {100 * details.least_contrast_spread:g} % "
                     "it is not modelled"))
    if details.junk is not None:
        rows.append(("images set aside as junk", f"{details.junk.n_junk} ({100 * details.junk.fraction:.1f} %)"))
    return rows


def pairs_table(pairs: Sequence[Separation]) -> str:
    """What says that two states differ, '' where there is one state."""
    if not pairs:
        return ""
    note = ('<p class="note">Below: agreement of two halves of the images on who belongs where (1 = perfect), and the '
            "valley between the two sides (0 = parted, 1 = no gap); by view: part that the viewing direction explains. "
            "Where single images cannot be told apart, the log likelihood that all of them together give to a valley "
            "decides.</p>")
    return f"{note}<h3>Pairs of states</h3>" + table(["pair", "agreement", "valley", "by view", "valley, all images"], [
        (" and ".join(state_name(label) for label in pair.states),
         *(f"{number:.2f}" for number in (pair.agreement, pair.valley, pair.by_view)), f"{pair.valley_evidence:.0f}")
        for pair in pairs])


def card(folder: str, row: ClusterRow) -> str:
    """Surfaces and sections of a state's map; where it moves, the maps along its motion as a film and as a strip."""
    array, colour = read_picture(Path(folder) / row.file), state_colour(row.label)
    shown = "".join(pictures.figure_html(uri, caption, "surface") for caption, uri in
                    pictures.surfaces(array, colour))
    shown += "".join(pictures.figure_html(uri, caption) for caption, uri in pictures.views(array)[:3])
    along, motion = row.of_state.motion_files, ""
    if along:
        sections = [pictures.section(read_picture(Path(folder) / file)) for file in along]
        low, high = pictures.limits(np.stack(sections))
        motion = pictures.figure_html(pictures.film_uri(sections, low, high), "the motion, there and back")
        motion += "".join(pictures.figure_html(pictures.grey_uri(image, low, high),
                                               f"motion {place + 1} of {len(along)}")
                          for place, image in enumerate(sections))
        motion = f'<h3>It varies continuously</h3><div class="strip">{motion}</div>'
    width_ang = len(array) * row.of_state.voxel_size_ang
    return (f'<div class="card" style="--colour: {colour}"><h3><span class="swatch"></span>'
            f'{state_name(row.label)}, {row.n_particles} particles; box {width_ang:.0f} Å wide</h3>'
            f'<div class="views">{shown}</div>{motion}</div>')


def read_views(folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, rot and tilt (deg) of the particles in a state. Raises DataError."""
    path = Path(folder) / result_files.PARTICLES_CSV
    if not path.exists():
        raise DataError(f"{path} is not there.", "Run vaegan states first.")
    rows = result_files.read_columns(path, {"label": int, "rot_deg": float, "tilt_deg": float})
    kept = rows["label"] >= 0
    return rows["label"][kept], rows["rot_deg"][kept], rows["tilt_deg"][kept]


def views_uri(labels: np.ndarray, angles_deg: tuple[np.ndarray, np.ndarray], notes: dict[int, str]) -> str:
    """Particles per viewing direction on an equal-area map of the sphere, a panel per state with a note on it.

    ``angles_deg``: rot and tilt of the particles.
    """
    rot_deg, tilt_deg = angles_deg
    states = np.unique(labels)
    figure = drawing.new_figure(7.0, 3.4 * len(states) + 0.3)
    for row, state in enumerate(states, start=1):
        axes = figure.add_subplot(len(states), 1, row, projection="mollweide")
        counts = view_counts(rot_deg[labels == state], tilt_deg[labels == state])
        mesh = draw_view_counts(axes, counts)
        note = f"; {notes[int(state)]}" if notes.get(int(state)) else ""
        axes.set_title(f"{state_name(state)}: {int((labels == state).sum())} particles{note}", fontsize=9,
                       color=state_colour(int(state)))
        figure.colorbar(mesh, ax=axes, shrink=0.8, label=f"particles; even: {counts.mean():.1f}")
    return pictures.figure_uri(figure)
