"""The first part of the HTML report: the answer in a sentence, of whatever results there are."""
from __future__ import annotations

import html
from pathlib import Path

from ..contract import result_files
from ..contract.answer import (
    Crossing,
    classes_answer,
    clusters_answer,
    crossing,
    evaluation_answer,
    states_answer,
    trusted,
)
from ..contract.errors import DataError
from ..contract.labels import cluster_name, state_name
from ..contract.records import Clustering
from ..contract.run_json import read_training
from ..contract.settings import ReportRun
from ..data.particle_tables import Clusters, read_cluster_rows
from .classes_section import read_details
from .consensus_section import read_consensus
from .evaluation_section import evaluated
from .fullres_section import refined_answer
from .html import Section, table
from .result_reading import read_json
from .states_section import read_summary


def answer_section(run: ReportRun) -> Section:
    """Sentences for each result that stands alone: states, at full resolution, classes, several runs, an evaluation."""
    sentences = []
    if run.states_dir:
        sentences.append(states_answer(read_summary(run.states_dir), read_cluster_rows(run.states_dir)))
    if run.fullres_dir:
        sentences.append(refined_answer(run.fullres_dir))
    if run.classes_dir:
        sentences.append(classes_answer(read_details(run.classes_dir)))
    if run.consensus_dir:
        made = read_consensus(run.consensus_dir)
        sentences.append(f"Of {len(made.runs)} runs compared: {made.verdict}.")
    return Section("answer", "Answer", "".join(f'<p class="verdict">{html.escape(text)}</p>' for text in sentences)
                   + compared(run))


def and_then(run: ReportRun) -> str:
    """What full resolution and an evaluation say of a clustering's states, in paragraphs; "" where there are none."""
    refined = f"<p>{html.escape(refined_answer(run.fullres_dir))}</p>" if run.fullres_dir else ""
    return refined + compared(run)


def compared(run: ReportRun) -> str:
    """The evaluation in a paragraph, as HTML; "" where there is none."""
    if not run.evaluation_dir:
        return ""
    return f'<p class="verdict">Against what is known: {html.escape(evaluation_answer(*evaluated(run)))}</p>'


def crossed_answer_section(run: ReportRun, clusters: Clusters, details: Clustering) -> Section:
    """The answer of clusters, crossed with states where there are any, and how many particles are in both.

    Then what an evaluation says.
    """
    training = read_training(run.run_dir)
    in_plane = training.command == "train2d"
    posed = training.data.posed and not in_plane  # in the plane, views are not known
    if not run.states_dir:
        said = html.escape(clusters_answer(details, posed, in_plane))
        return Section("answer", "Answer", f'<p class="verdict">{said}</p>' + and_then(run))
    crossed = crossing(dict(zip(clusters.particle_id.tolist(), clusters.label.tolist(), strict=True)),
                       states_of(run.states_dir))
    if not crossed.n_particles:
        return Section("answer", "Answer",
                       '<p class="note">States and clusters have no particle in common.</p>' + and_then(run))
    states = read_summary(run.states_dir)
    alone = states_answer(states, read_cluster_rows(run.states_dir)) if states.has_states else ""
    return Section("answer", "Answer", (
        f'<p class="verdict">{html.escape(trusted(crossed, details, posed, states))}</p><p>{html.escape(alone)}</p>'
        f'<p class="note">Agreement of both: NMI {crossed.nmi:.3f} of {crossed.n_particles} particles that are in both '
        "(1 = the same groups).</p>" + crossing_table(crossed) + and_then(run)))


def states_of(folder: str) -> dict[int, int]:
    """State of each particle of a states folder, -1 = set aside. Raises DataError."""
    path = Path(folder) / result_files.PARTICLES_CSV
    read_json(Path(folder) / result_files.STATES_JSON, "states")
    if not path.exists():
        raise DataError(f"{path} is not there.", "Run vaegan states first.")
    rows = result_files.read_columns(path, {"particle_id": int, "label": int})
    return dict(zip(rows["particle_id"].tolist(), rows["label"].tolist(), strict=True))


def crossing_table(crossed: Crossing) -> str:
    """Particles of each cluster in each state, as HTML."""
    return table(["particles of", *map(state_name, crossed.states)],
                 [(cluster_name(label), *row) for label, row in zip(crossed.clusters, crossed.counts, strict=True)])
