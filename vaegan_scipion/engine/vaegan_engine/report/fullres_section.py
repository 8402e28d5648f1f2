"""The part of the HTML report about ``fullres``: resolution, maps, local resolution, and how RELION goes on."""
from __future__ import annotations

from pathlib import Path

from ..contract import drawings, wording
from ..contract.answer import fullres_answer
from ..contract.fullres_records import FullresState, FullresSummary
from ..contract.labels import STATES, state_colour, state_name
from ..contract.record import read_record
from ..contract.records import ClusterRow
from ..contract.result_files import FULLRES_JSON, read_picture
from ..data.particle_tables import doubt_of, read_cluster_rows
from ..figures import drawing, fsc_curves
from . import pictures
from .html import Section, table
from .result_reading import resolutions

ROW_IN = 2.6  # height of a state's sections of local resolution


def read_fullres(folder: str) -> FullresSummary:
    """``fullres.json`` of a folder. Raises DataError."""
    return read_record(FullresSummary, Path(folder) / FULLRES_JSON, "fullres")


def refined_answer(folder: str) -> str:
    """To what resolution, and whether the states say that they are to be trusted. Raises DataError."""
    return fullres_answer(read_fullres(folder), doubt_of(folder))


def fullres_section(folder: str) -> Section:
    """Every state at full resolution. Raises DataError."""
    summary, rows = read_fullres(folder), read_cluster_rows(folder)
    body = resolution_table(summary, rows)
    body += ('<p class="note">Poses were refined locally in the particles\' own box, the half sets apart. FSC inside a '
             "mask about the particle, corrected by random phases (Chen et al. 2013); dashed: without mask; what lies "
             "on grey the halves share, and it is not proven. Local resolution is where the FSC inside a small ball "
             "falls below 0.5.</p>")
    body += f'<div class="columns"><img src="{fsc_uri(rows)}" alt="FSC at full resolution">'
    body += f'<img src="{local_uri(folder, summary)}" alt="local resolution"></div>'
    body += f'<div class="cards">{"".join(card(folder, summary, state) for state in summary.states)}</div>'
    return Section("fullres", "Full resolution", body + hand_over(summary))


def resolution_table(summary: FullresSummary, rows: list[ClusterRow]) -> str:
    """What each state claims, in A and of Nyquist, and by what it was sharpened, as HTML."""
    of_label = {row.label: row.of_state for row in rows}
    return table(["state", "particles", "before", "FSC 0.143", "FSC 0.5", "of Nyquist", "half maps", "B-factor",
                  "local resolution (10, 50, 90 %)", "poses turned", "moved"], [
        (state_name(state.label), state.n_particles, f"{state.resolution_before_ang:.1f} Å",
         *resolutions(of_label[state.label].halves),
         wording.with_ring(wording.halves_text(of_label[state.label].halves, of_label[state.label].proof)),
         sharpened_text(state), ", ".join(f"{value:.1f}" for value in state.local_resolution_ang) + " Å",
         f"{state.turned_deg:.1f}°", f"{state.moved_ang:.1f} Å") for state in summary.states])


def sharpened_text(state: FullresState) -> str:
    """The B-factor and where it is from, or why there is none."""
    source = wording.with_ring(state.b_factor_from)
    return source if state.b_factor_ang2 is None else f"{state.b_factor_ang2:.0f} Å² ({source})"


def fsc_uri(rows: list[ClusterRow]) -> str:
    """FSC of the half maps of all states."""
    halves = [fsc_curves.HalvesFsc(row.label, row.of_state.voxel_size_ang, row.of_state.halves, row.of_state.proof)
              for row in rows]
    curves = [curve for one in halves for curve in one.curves(STATES)]
    return pictures.fsc_uri(curves, "Half maps apart, full resolution", STATES, fsc_curves.unproven_per_ang(halves))


def local_uri(folder: str, summary: FullresSummary) -> str:
    """Sections of every state's local resolution, inside its mask. Raises DataError."""
    inside = [drawings.inside_mask(read_picture(Path(folder) / state.local_resolution_file),
                                   read_picture(Path(folder) / state.mask_file)) for state in summary.states]
    figure = drawing.new_figure(7.0, ROW_IN * len(inside) + 0.3)
    grid = figure.subplots(len(inside), len(drawings.PLANES), squeeze=False).tolist()
    shown = drawings.draw_local_resolution(
        grid, inside, [state_name(state.label) for state in summary.states],
        [state_colour(state.label) for state in summary.states], summary.voxel_size_ang)
    figure.colorbar(shown, ax=figure.axes, label=drawings.LOCAL_RESOLUTION, shrink=0.8)
    return pictures.figure_uri(figure)


def card(folder: str, summary: FullresSummary, state: FullresState) -> str:
    """Surfaces and sections of a state's map, and sections of the sharpened one, as HTML. Raises DataError."""
    array, colour = read_picture(Path(folder) / state.map_file), state_colour(state.label)
    shown = "".join(pictures.figure_html(uri, caption, "surface") for caption, uri in pictures.surfaces(array, colour))
    shown += "".join(pictures.figure_html(uri, caption) for caption, uri in pictures.views(array)[:3])
    if state.b_factor_ang2 is not None:
        sharpened = read_picture(Path(folder) / state.sharpened_file)
        shown += "".join(pictures.figure_html(uri, f"sharpened, {caption}")
                         for caption, uri in pictures.views(sharpened)[:3])
    return (f'<div class="card" style="--colour: {colour}"><h3><span class="swatch"></span>'
            f'{state_name(state.label)}, {state.n_particles} particles; box '
            f'{summary.box_px * summary.voxel_size_ang:.0f} Å wide</h3><div class="views">{shown}</div></div>')


def hand_over(summary: FullresSummary) -> str:
    """Files for other programs, and what goes on with them, as HTML."""
    return ('<h3>To go on with</h3><p class="note">File names are relative to the results folder. The script is '
            "RELION's own refinement of a state about these poses, its half sets kept: <code>sh SCRIPT</code>, with "
            "MPI and THREADS set before where there are more than two cores.</p>"
            + table(["state", "map", "half maps", "sharpened", "mask", "particles", "script for RELION"], [
                (state_name(state.label), state.map_file, ", ".join(state.half_files), state.sharpened_file,
                 state.mask_file, state.star_file, state.relion_file) for state in summary.states]))
