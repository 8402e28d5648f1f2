"""The part of the HTML report that compares several runs on the same particles (``consensus``)."""
from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from ..contract.analysis_records import STABLE, ConsensusSummary
from ..contract.labels import GROUPS
from ..contract.record import read_record
from ..contract.result_files import CONSENSUS_JSON, read_picture
from ..data.particle_tables import groups_in, read_cluster_rows
from . import pictures
from .html import Section, table


def read_consensus(folder: str) -> ConsensusSummary:
    """``consensus.json`` of a folder. Raises DataError."""
    return read_record(ConsensusSummary, Path(folder) / CONSENSUS_JSON, "consensus")


def run_names(folders: list[str]) -> list[str]:
    """What tells folders apart: their paths less the parts that all have at the beginning and at the end."""
    paths = [Path(folder).parts for folder in folders]
    first, last = (sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, zip(*parts, strict=False)))
                   for parts in (paths, [path[::-1] for path in paths]))
    return ["/".join(path[first:len(path) - last]) or path[-1] for path in paths]


def consensus_section(folder: str) -> Section:
    """How often each group came back, how far the runs agree, and the maps of the run whose groups they are."""
    made, rows = read_consensus(folder), {row.label: row for row in read_cluster_rows(folder)}
    naming = GROUPS[groups_in(folder)]
    n_runs, names = len(made.runs), run_names([run.folder for run in made.runs])
    body = ('<p class="note">Groups are matched by the particles that they share. Overlap: particles in common over '
            f"those in either (Jaccard), the mean over the other runs; from {STABLE:g} on a group is taken to be "
            "stable (Hennig 2007).</p>")
    body += table(["group", "particles", "found in", "overlap"], [
        (naming.name(group.label), group.n_particles, f"{group.found_in} of {n_runs} runs",
         f"{group.stability:.2f}") for group in made.groups])
    body += "<h3>Runs</h3>" + table(["run", "groups", "agreement with the others (AMI)", ""], [
        (name, run.groups, f"{run.agreement:.2f}", "its groups are shown" if run.folder == made.chosen else "")
        for name, run in zip(names, made.runs, strict=True)])
    body += table(["two runs", "particles in a group of both", "ARI", "NMI"], [
        (" and ".join(names[k] for k in pair.runs), pair.n_particles, f"{pair.ari:.2f}",
         f"{pair.nmi:.2f}") for pair in made.pairs])
    for label, row in rows.items():
        colour = naming.colour(label)
        array = read_picture(Path(folder) / row.file, row.index)
        shown = pictures.surfaces(array, colour) if array.ndim == 3 else pictures.views(array)
        figures = "".join(pictures.figure_html(uri, caption, "surface" * (array.ndim == 3)) for caption, uri in shown)
        body += (f'<div class="card" style="--colour: {colour}"><h3><span class="swatch"></span>{naming.name(label)}, '
                 f'{row.n_particles} particles in most runs</h3><div class="views">{figures}</div></div>')
    return Section("consensus", "Several runs compared", body)
