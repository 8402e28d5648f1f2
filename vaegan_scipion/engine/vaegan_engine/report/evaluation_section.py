"""The part of the HTML report about ``evaluate``: groups against labels, maps beside their references, FSC, poses."""
from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contract.answer import Majority, majorities, short
from ..contract.drawings import Curve, frequencies_per_ang
from ..contract.labels import GROUPS, Naming
from ..contract.records import Evaluation, LabelScores, MapEvaluation
from ..contract.result_files import read_picture
from ..contract.settings import ReportRun
from ..data.particle_tables import read_cluster_rows
from . import pictures
from .html import Section, table
from .result_reading import read_evaluation


def evaluated(run: ReportRun) -> tuple[Evaluation, str]:
    """The evaluation of a report, and what it compared (a key of ``GROUPS``). Raises DataError.

    Files of before they said it are of the results beside them: clusters, else states, else classes.
    """
    values = read_evaluation(run.evaluation_dir)
    beside = ("states" if run.states_dir else "classes" if run.classes_dir else "clusters")
    return values, values.groups or ("clusters" if run.clusters_dir else beside)


def evaluation_section(run: ReportRun) -> Section:
    """Comparison with labels and reference maps. Raises DataError."""
    values, groups = evaluated(run)
    naming, labels = GROUPS[groups], values.labels
    found = {} if labels is None else majorities(labels)
    body = f'<div class="columns">{table(None, scores(values))}'
    if labels is not None:
        body += counts_table(labels, naming)
    if values.maps:
        body += maps_table(values, naming, groups) + fsc_picture(values.maps, naming)
    elif values.pose_errors:
        body += table(["", "median error of the poses"], [
            (naming.name(row.label), f"{row.median_deg:.2f}°") for row in values.pose_errors])
    body += "</div>"
    if values.maps:
        body += ('<p class="note">Each map was turned and shifted onto its reference (mirrored where that fits '
                 "better), and stands above it: surfaces, then sections through the middle, white is dense.</p>")
        folder = Path(run.evaluation_dir)
        folder = folder if folder.is_dir() else folder.parent
        body += f'<div class="cards">{"".join(card(folder, row, naming) for row in values.maps)}</div>'
    if groups == "classes" and run.classes_dir and found:
        body += averages(run.classes_dir, found)
    return Section("truth", "Comparison with the truth", body)


def scores(values: Evaluation) -> list[tuple[str, Any]]:
    """(what, value) of the agreement with labels."""
    labels, ceiling = values.labels, values.ceiling
    facts: list[tuple[str, Any]] = []
    if labels is not None:
        facts += [("NMI", f"{labels.nmi:.3f}"), ("AMI", f"{labels.ami:.3f}"), ("ARI", f"{labels.ari:.3f}"),
                  ("in no group", f"{100 * labels.unassigned_frac:.1f} %")]
        if labels.nmi_assigned is not None:
            facts.append(("NMI of the others", f"{labels.nmi_assigned:.3f}"))
        if labels.junk_recall is not None:
            facts += [("junk that was set aside", f"{100 * labels.junk_recall:.1f} %"),
                      ("junk of what was set aside", f"{100 * (labels.junk_precision or 0):.1f} %")]
    if ceiling is not None:
        facts.append(("NMI of a supervised classifier", f"{ceiling.nmi:.3f}"))
    return facts


def counts_table(labels: LabelScores, naming: Naming) -> str:
    """Particles of each group with each label, as HTML."""
    return table(["particles of", *map(short, labels.states)],
                 [(naming.name(group), *labels.contingency[group])
                  for group in sorted(labels.contingency, key=lambda group: (group < 0, group))])


def maps_table(values: Evaluation, naming: Naming, groups: str) -> str:
    """Resolutions against the references, and what else is known of each map, as HTML."""
    poses = {row.label: row.median_deg for row in values.pose_errors}
    header = [GROUPS[groups].name(0).split()[0], "reference", "FSC 0.5", "of Nyquist", "FSC 0.143", "of Nyquist",
              "correlation", "hand", "best correlated of those tried"]
    header += ["purity"] * any(row.purity is not None for row in values.maps)
    header += ["median pose error"] * bool(poses)
    header += ["half maps claim too much"] * any(row.claim is not None for row in values.maps)
    rows = []
    for row in values.maps:
        halves = row.compared
        cells = [naming.name(row.label), short(row.reference), f"{halves.resolution_05_ang:.1f} Å",
                 f"{halves.nyquist_frac_05:.2f}", f"{halves.resolution_0143_ang:.1f} Å",
                 f"{halves.nyquist_frac_0143:.2f}", f"{row.correlation:.2f}", "other" if row.mirrored else "same",
                 short(row.best_correlated)]
        if "purity" in header:
            cells.append("" if row.purity is None else f"{row.purity:.2f}")
        if poses:
            cells.append(f"{poses[row.label]:.2f}°" if row.label in poses else "")
        if "half maps claim too much" in header:
            cells.append("" if row.claim is None else f"FSC up to {row.claim.claimed_excess:.2f}")
        rows.append(cells)
    return table(header, rows)


def fsc_picture(rows: Sequence[MapEvaluation], naming: Naming) -> str:
    """FSC of the maps with their references, as HTML."""
    curves = [Curve(row.label, frequencies_per_ang(row.compared.map_box_px, row.voxel_size_ang), row.compared.fsc)
              for row in rows]
    return f'<img src="{pictures.fsc_uri(curves, "Maps and their references", naming)}" alt="FSC with references">'


def card(folder: Path, row: MapEvaluation, naming: Naming) -> str:
    """A map above its reference, as HTML."""
    colour, shown = naming.colour(row.label), ""
    for kind in (pictures.surfaces, sections):
        for what, file, of in (("", row.aligned_file, colour), ("reference, ", row.reference_file, "#9e9e9e")):
            if file and (folder / file).exists():
                array = read_picture(folder / file)
                shown += "".join(pictures.figure_html(uri, what + caption, "surface" * (kind is pictures.surfaces))
                                 for caption, uri in kind(array, of))
    name = f"{naming.name(row.label)} and {html.escape(short(row.reference))}"
    return (f'<div class="card" style="--colour: {colour}"><h3><span class="swatch"></span>{name}</h3>'
            f'<div class="views">{shown}</div></div>')


def sections(array: Any, _colour: str) -> list[tuple[str, str]]:
    """(caption, data URI) of the three central sections of a map."""
    return pictures.views(array)[:3]


def averages(classes_dir: str, found: dict[int, Majority]) -> str:
    """Class averages with the label of most of their particles, the purest first, as HTML. Raises DataError."""
    rows = [row for row in read_cluster_rows(classes_dir) if row.label in found]
    shown = ""
    for row in sorted(rows, key=lambda row: -found[row.label].purity):
        image, of = read_picture(Path(classes_dir) / row.file, row.index), found[row.label]
        caption = f"class {row.label + 1}: {row.n_particles:,}, {100 * of.purity:.0f} % {html.escape(of.label)}"
        shown += pictures.figure_html(pictures.grey_uri(image, *pictures.limits(image)), caption)
    return ('<h3>Averages and the label of most of their particles</h3><p class="note">A class whose particles are of '
            f'several labels does not tell them apart from this side.</p><div class="strip">{shown}</div>')
