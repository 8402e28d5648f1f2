"""The HTML report of an analysis: one file that holds its pictures, data, style and program.

It asks for nothing from the network and needs nothing but a browser.
"""
from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..contract import result_files, run_json
from ..contract.analysis_records import TraversalPoint, read_traversal
from ..contract.errors import ConfigError
from ..contract.labels import UNASSIGNED, cluster_colour, cluster_name
from ..contract.record import read_record
from ..contract.records import Clustering, ClusterRow, HalvesRow
from ..contract.result_files import read_picture
from ..contract.setting import Described, described
from ..contract.settings import ClusterRun, EvaluateRun, ReportRun
from ..contract.status import Status
from ..data.particle_tables import Clusters, read_cluster_rows, read_clusters
from ..evaluation.checks.halves import fsc_of
from ..latent.stability import as_deep
from . import pictures
from .answer_section import answer_section, crossed_answer_section, states_of
from .classes_section import classes_section, read_details
from .consensus_section import consensus_section, read_consensus
from .evaluation_section import evaluated, evaluation_section
from .fullres_section import fullres_section, read_fullres
from .html import Section, shown, table
from .junk_section import junk_section
from .methods_section import methods_section
from .result_reading import read_halves, resolutions
from .states_section import evidence_section, resolution_section, states_section
from .umap_section import umap_data, umap_section

PAGE = Path(__file__).with_name("assets")
FEW_NEAR_FRAC = 0.01  # of the cluster: a point with fewer particles near is marked
STAGES = (("run_dir", "Training"), ("clusters_dir", "Clustering"), ("traverse_dir", "Traversal"),
          ("halves_dir", "Two halves"), ("states_dir", "States"), ("fullres_dir", "Full resolution"),
          ("classes_dir", "Classes in the plane"), ("evaluation_dir", "Evaluation"))
PAGE_ONLY = ("states_dir", "fullres_dir", "classes_dir", "consensus_dir")  # that the picture does not show
ALONE = (*PAGE_ONLY, "evaluation_dir")  # that a page can be about without a training
GLANCE = ("n_particles", "pixel_size_ang", "box_px", "device", "seed", "images_seen", "images_per_second", "state")


@dataclasses.dataclass(frozen=True)
class Content:
    """What stands on a page."""

    title: str
    lead: str
    sections: list[Section]
    data: str = "{}"  # JSON of the UMAP
    js: str = ""


def write_report(run: ReportRun, path: str | Path) -> Path:
    """Write the page about the folders that ``run`` names. Returns the path. Raises ConfigError or DataError.

    ``run_dir`` and ``clusters_dir`` are given, the other folders may be empty; or folders of ``ALONE``.
    """
    path, content = Path(path), content_of(run)
    page = Template((PAGE / "page.html").read_text()).substitute(
        title=html.escape(run.title or content.title), lead=html.escape(content.lead),
        css=(PAGE / "page.css").read_text(), js=content.js,
        nav=" ".join(f'<a href="#{part.anchor}">{html.escape(part.heading)}</a>' for part in content.sections),
        sections="\n".join(f'<section id="{part.anchor}"><h2>{html.escape(part.heading)}</h2>\n{part.body}</section>'
                           for part in content.sections),
        data=content.data, footer="Written by scipion-em-vaegan. Particle ids are those of the input set.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    part.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files may be no text
    os.replace(part, path)
    return path


def content_of(run: ReportRun) -> Content:
    """Of a clustering and what followed, or of results that stand alone. Raises ConfigError or DataError."""
    if run.run_dir and run.clusters_dir:
        return clustering_content(run)
    given = [name for name, _ in STAGES if name not in ALONE and getattr(run, name)]
    if given or not any(getattr(run, name) for name in ALONE):
        raise ConfigError("The report has no run_dir or no clusters_dir.",
                          "Name the folders of the training and of the clustering; or states_dir, fullres_dir, "
                          "classes_dir, consensus_dir or evaluation_dir alone.")
    return content_alone(run)


def content_alone(run: ReportRun) -> Content:
    """Of states, of these at full resolution, of classes, of runs compared, of an evaluation: what is named.

    Raises DataError.
    """
    sections, leads, headings, status = [answer_section(run)], [], [], Status()
    if run.consensus_dir:
        headings.append("Several runs")
        leads.append(f"{len(read_consensus(run.consensus_dir).runs)} runs compared")
        sections.append(consensus_section(run.consensus_dir))
    if run.states_dir:
        status = status_of(run.states_dir, "states")
        headings.append("States and poses")
        leads.append(f"{status.n_particles} particles, {status.states} state{'s' * (status.states != 1)}")
        sections.append(states_section(run.states_dir))
    if run.fullres_dir:
        status = status_of(run.fullres_dir, "fullres") if status.command is None else status
        headings.append("Full resolution")
        leads.append(f"{read_fullres(run.fullres_dir).n_particles} particles refined in their own box")
        sections.append(fullres_section(run.fullres_dir))
    if run.classes_dir:
        status = status_of(run.classes_dir, "classes2d") if status.command is None else status
        headings.append("Class averages")
        details = read_details(run.classes_dir)
        leads.append(f"{details.n_particles} particles, {details.classes} classes in the plane")
        sections.append(classes_section(run.classes_dir))
    if run.evaluation_dir:
        headings.append("Evaluation")
        leads.append(compared_lead(run))
        sections.append(evaluation_section(run))
    if run.states_dir:
        sections += proof_sections(run.states_dir)
    if run.classes_dir:
        sections += junk_section(run.classes_dir, "classes")
    sections += [methods_section(run), settings_section(run, status)]
    return Content(", ".join(headings), "; ".join(leads), sections)


def compared_lead(run: ReportRun) -> str:
    """One line about an evaluation. Raises DataError."""
    values, groups = evaluated(run)
    labels = [] if values.labels is None else [f"{values.labels.clusters} {groups} against "
                                               f"{len(values.labels.states)} labels"]
    return ", ".join([*labels, *([f"{len(values.maps)} maps against references"] * bool(values.maps))])


def proof_sections(states_dir: str) -> list[Section]:
    """What the states' resolution rests on, what was set aside, and the evidence of their number."""
    return [resolution_section(states_dir), *junk_section(states_dir, "states"), evidence_section(states_dir)]


def clustering_content(run: ReportRun) -> Content:
    """The answer, the landscape, then the evidence; of every folder that is named. Raises DataError."""
    clusters, rows = read_clusters(run.clusters_dir), read_cluster_rows(run.clusters_dir)
    training = status_of(run.run_dir, "train3d or train2d")
    details = read_record(Clustering, Path(run.clusters_dir) / result_files.CLUSTERING_JSON, "cluster")
    halves = read_halves(run.halves_dir)
    sections = [crossed_answer_section(run, clusters, details)]
    if run.states_dir:
        sections.append(states_section(run.states_dir))
    if run.fullres_dir:
        sections.append(fullres_section(run.fullres_dir))
    sections += [umap_section(bool(run.states_dir)), clusters_section(run, clusters, rows, halves)]
    if run.traverse_dir:
        sections.append(traversal_section(run.traverse_dir, {row.label: row.n_particles for row in rows}))
    if run.classes_dir:
        sections.append(classes_section(run.classes_dir))
    if run.consensus_dir:
        sections.append(consensus_section(run.consensus_dir))
    sections.append(verdict_section(details, clusters))
    if halves:
        sections.append(fsc_section(halves))
    if run.states_dir:
        sections += proof_sections(run.states_dir)
    if run.evaluation_dir:
        sections.append(evaluation_section(run))
    sections += [training_section(run.run_dir), methods_section(run), settings_section(run, training)]
    return Content(f"VAE-GAN {training.command}", lead(training, clusters), sections,
                   umap_data(clusters, states_of(run.states_dir) if run.states_dir else None),
                   (PAGE / "page.js").read_text())


# ------------------------------- what is read -------------------------------
def status_of(folder: str, command: str) -> Status:
    """``status.json`` of a folder that ``command`` makes. Raises DataError."""
    return read_record(Status, Path(folder) / result_files.STATUS_JSON, command)


def lead(training: Status, clusters: Clusters) -> str:
    """One line about the analysis."""
    pixel_size_ang = training.pixel_size_ang or 0.0
    n_clusters = sum(label != UNASSIGNED for label in clusters.labels)
    return (f"{len(clusters.label)} particles, {n_clusters} cluster{'s' * (n_clusters != 1)}; {training.command}, "
            f"box {training.box_px} px, {pixel_size_ang:.3f} Å/px "
            f"(Nyquist {2 * pixel_size_ang:.1f} Å)")


# ------------------------------- sections -------------------------------
def verdict_section(details: Clustering, clusters: Clusters) -> Section:
    """The verdict where the clustering stored one, and how stable the number of clusters is."""
    if details.verdict is None:
        body = ('<p class="verdict">No verdict was stored with this clustering.</p>'
                '<p class="note">Judge the groups by the UMAP, the particles near each point of the traversal, '
                "the FSC between halves and the table below.</p>")
    else:
        body = f'<p class="verdict">{html.escape(details.verdict)}</p>' + table(None, evidence(details))
    unassigned = int((clusters.label == UNASSIGNED).sum())
    body += (f'<p class="note">{len(clusters.label) - unassigned} particles are in a cluster, {unassigned} are '
             "unassigned (in no group; they are kept as a class of their own).</p>")
    if details.sweep:
        with_null = details.null is not None
        header = ["smallest cluster", "clusters", *(["in the null"] if with_null else []), "unassigned", "agreement"]
        rows = [(row.min_cluster_size, row.clusters, *([listed(row.null_clusters or [])] if with_null else []),
                 f"{100 * row.unassigned_frac:.1f} %", f"{row.ami:.2f}") for row in details.sweep]
        body += ("<h3>Clusters against the smallest cluster that is allowed</h3>"
                 '<p class="note">A number that stays over several rows is stable; agreement is the adjusted mutual '
                 "information with the clusters shown here."
                 + (" The null is one cloud with the spread of the latent vectors; groups found in it are none."
                    if with_null else "") + "</p>" + table(header, rows))
    return Section("verdict", "Evidence for the clusters", body)


def evidence(details: Clustering) -> list[tuple[str, str]]:
    """(what, numbers) behind the verdict of a clustering."""
    rows = []
    repeats, null, valley, plateau = details.stability, details.null, details.valley, details.plateau
    if repeats is not None:
        rows += [("stability of the clusters", ", ".join(f"{value:.2f}" for value in repeats.per_cluster)
                  + f" (1 = the same in every repeat, stable from {repeats.stable_from:g})"),
                 ("clusters in repeats", f"{listed(repeats.clusters)} (each on {repeats.particles} particles)")]
    if null is not None and valley is not None and plateau is not None:
        deep = sum(as_deep(draw, details.clusters, valley) for draw in null)
        rows.append(("clusters in draws of the null", listed([draw.clusters for draw in null])))
        if details.clusters > 1:  # one group is parted from nothing
            rows.append(("of them as many, parted as deeply", f"{deep} of {len(null)} (none is asked for)"))
        rows += [("valley of the clusters parted least", f"{valley:.2f} (0 = nothing between, 1 = no gap)"),
                 ("longest plateau", f"{plateau.clusters} clusters, smallest size {plateau.first} to {plateau.last}")]
    return rows


def listed(numbers: Sequence[int]) -> str:
    """Numbers with commas."""
    return ", ".join(map(str, numbers))


def clusters_section(run: ReportRun, clusters: Clusters, rows: Sequence[ClusterRow],
                     halves: Sequence[HalvesRow]) -> Section:
    """A card per cluster."""
    by_label = {row.cluster: row for row in halves}
    cards = [cluster_card(run.clusters_dir, clusters, row, by_label.get(row.label)) for row in rows]
    note = ('<p class="note">Maps and images come from the generator at the mean of the cluster\'s latent vectors; '
            "they are not reconstructions from poses. White is dense.</p>")
    return Section("clusters", "Clusters", f'{note}<div class="cards">{"".join(cards)}</div>')


def cluster_card(folder: str, clusters: Clusters, row: ClusterRow, half: HalvesRow | None) -> str:
    """Size, certainty, resolution and views of one cluster."""
    label = row.label
    facts = [("particles", f"{row.n_particles} ({100 * row.fraction:.1f} %)")]
    if label != UNASSIGNED:
        facts.append(("mean probability of membership", f"{clusters.probability[clusters.label == label].mean():.2f}"))
    if row.stability is not None:
        facts.append(("stability", f"{row.stability:.2f}"))
    if half is not None:
        facts.append(("two halves", half.note or "not compared" if half.compared is None
                      else f"{half.compared.halves.resolution_0143_ang:.1f} Å at FSC 0.143"))
    shown = ""
    if row.file:
        shown = "".join(f'<figure><img src="{uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
                        for caption, uri in pictures.views(read_picture(Path(folder) / row.file, row.index)))
    return (f'<div class="card" style="--colour: {cluster_colour(label)}"><h3><span class="swatch"></span>'
            f'{cluster_name(label)}</h3>{table(None, facts)}<div class="views">{shown}</div></div>')


def traversal_section(folder: str, sizes: dict[int, int]) -> Section:
    """A strip per cluster and component, with the particles near each point."""
    strips: dict[tuple[int, int], list[TraversalPoint]] = {}
    for point in read_traversal(folder):
        strips.setdefault((point.cluster, point.component), []).append(point)
    body = ('<p class="note">Each strip runs along a principal component of the latent vectors inside one cluster. '
            "The bar shows how many particles lie near the point: where there are few, the generator made the map "
            "up and it says nothing about the data. Grey levels are the same along a strip.</p>")
    for (label, component), line in sorted(strips.items()):
        body += (f'<div style="--colour: {cluster_colour(label)}"><h3><span class="swatch"></span>'
                 f"{cluster_name(label)}, component {component + 1}</h3>"
                 f'<div class="strip">{strip(folder, line, sizes.get(label, 0))}</div></div>')
    return Section("traversals", "Traversals", body)


def strip(folder: str, points: Sequence[TraversalPoint], size: int) -> str:
    """Figures of one component, in order."""
    points = sorted(points, key=lambda point: point.point)
    sections = [pictures.section(read_picture(Path(folder) / point.file, point.index)) for point in points]
    low, high = pictures.limits(np.stack(sections))
    most = max(1, max(point.n_near for point in points))
    made = []
    for point, image in zip(points, sections, strict=True):
        near = point.n_near
        few = ' class="few"' if near < FEW_NEAR_FRAC * size else ""
        made.append(f'<figure><img src="{pictures.grey_uri(image, low, high)}" alt="point {point.point + 1}">'
                    f'<div class="support"><div style="width: {100 * near / most:.0f}%"></div></div>'
                    f"<figcaption>{point.position:.2f}: <span{few}>{near} near</span></figcaption></figure>")
    return "".join(made)


def fsc_section(halves: Sequence[HalvesRow]) -> Section:
    """FSC between the halves."""
    curves = [curve for row in halves for curve in fsc_of(row).curves()]
    rows = [(cluster_name(row.cluster), row.n_half1, row.n_half2, *resolutions(row.compared.halves))
            for row in halves if row.compared is not None]
    body = '<p class="note">Two trainings on half the particles each, which share nothing.</p><div class="columns">'
    if curves:
        body += f'<img src="{pictures.fsc_uri(curves, "Two halves trained apart")}" alt="FSC">'
    body += table(["cluster", "half 1", "half 2", "FSC 0.143", "FSC 0.5", "of Nyquist"], rows) + "</div>"
    return Section("fsc", "FSC between halves", body)


def training_section(folder: str) -> Section:
    """Curves of the training."""
    rows = result_files.read_jsonl(Path(folder) / result_files.LOG_JSONL)
    if not rows:
        return Section("training", "Training", '<p class="note">The training logged nothing.</p>')
    note = ("Adversarial losses do not fall to a minimum; watch for curves that run away. The encoder loss should fall "
            "and level off." if any("critic_loss" in row for row in rows) else "The losses should fall and level off.")
    return Section("training", "Training", (
        f'<p class="note">{note}</p><img src="{pictures.curves_uri(rows)}" alt="training curves">'))


def settings_section(run: ReportRun, status: Status) -> Section:
    """Every setting and version; what differs from the default is marked. ``status`` of the first stage."""
    said = {name: getattr(status, name) for name in GLANCE}
    facts = [(name.replace("_", " "), shown(value)) for name, value in said.items() if value is not None]
    facts += [(f"version of {name}", value) for name, value in sorted((status.versions or {}).items())]
    body = table(None, facts)
    body += '<p class="note">In the lists, values that differ from the default are marked.</p>'
    for name, heading in [*STAGES, ("embedding_dir", "Embedding")]:
        folder = embedding_of(run) if name == "embedding_dir" else getattr(run, name)
        if folder and (Path(folder) / result_files.RUN_JSON).exists():
            stored = run_json.read_run(Path(folder) / result_files.RUN_JSON)
            if name != "evaluation_dir" or isinstance(stored, EvaluateRun):  # it may lie in the clusters' own folder
                body += settings_table(heading, stored)
    return Section("settings", "Settings and versions", body)


def embedding_of(run: ReportRun) -> str:
    """The embed folder behind the clusters; '' when it is not known."""
    path = Path(run.clusters_dir) / result_files.RUN_JSON
    stored = run_json.read_run(path) if run.clusters_dir and path.exists() else None
    return stored.embedding_dir if isinstance(stored, ClusterRun) else ""


def settings_table(heading: str, run: Any) -> str:
    """A folded table of one ``run.json``; folders are shown by name."""
    rows = []
    for name, item, value in flattened(run):
        text = html.escape(os.path.basename(value) if os.path.isabs(str(value)) else shown(value))
        changed = ' class="changed"' if value != item.default and not item.about.path else ""
        rows.append(f"<tr><td>{html.escape(name)}</td><td{changed}>{text}</td>"
                    f"<td>{html.escape(shown(item.default))}</td></tr>")
    return (f"<details><summary>{heading}</summary><table><tr><th>setting</th><th>value</th><th>default</th></tr>"
            f"{''.join(rows)}</table></details>")


def flattened(run: Any, prefix: str = "") -> list[tuple[str, Described, Any]]:
    """(name, what is known of it, value) of every field, sections written as SECTION.NAME."""
    fields: list[tuple[str, Described, Any]] = []
    for item in described(type(run)):
        value = getattr(run, item.name)
        if dataclasses.is_dataclass(value):
            fields += flattened(value, f"{prefix}{item.name}.")
        else:
            fields.append((prefix + item.name, item, value))
    return fields
