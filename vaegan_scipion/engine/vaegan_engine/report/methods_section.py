"""A paragraph for the methods section of a paper: what was done, with versions, settings and citations as links."""
from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from ..contract import result_files, run_json
from ..contract.answer import StatesSearch, evaluation_methods, fullres_methods, states_methods, versions_text
from ..contract.settings import Classes2dRun, ClusterRun, FullresRun, ReportRun, StatesRun, TrainRun
from ..contract.status import Status, read_status
from ..data.particle_tables import read_cluster_rows
from .evaluation_section import evaluated
from .fullres_section import read_fullres
from .html import Section
from .states_section import read_summary

CITATIONS = {  # short name -> doi
    "Scheres 2012": "10.1016/j.jsb.2012.09.006", "Larsen et al. 2016": "10.48550/arXiv.1512.09300",
    "McInnes et al. 2018": "10.21105/joss.00861", "McInnes et al. 2017": "10.21105/joss.00205",
    "Kingma & Welling 2014": "10.48550/arXiv.1312.6114"}
CITED_HERE = "[Scheres2012]"  # in a text that is escaped before the link is put in


def methods_section(run: ReportRun) -> Section:
    """The paragraph for the folders that there are."""
    texts = (classes_text(run.classes_dir), states_text(run.states_dir), fullres_text(run.fullres_dir),
             training_text(run.run_dir), clusters_text(run.clusters_dir), evaluation_text(run))
    parts = [text for text in texts if text]
    return Section("methods", "Methods, to paste", (
        '<p class="note">Check it against what you did before and after.</p>'
        f'<p id="methods-text">{" ".join(parts)}</p>'))


def cited(name: str) -> str:
    """A citation as a link."""
    return f'<a href="https://doi.org/{CITATIONS[name]}">{html.escape(name)}</a>'


def _read(folder: str) -> tuple[Any, Status]:
    """Settings and status of a results folder; (None, an empty one) where there are none."""
    if not folder or not (Path(folder) / result_files.RUN_JSON).exists():
        return None, Status()
    return run_json.read_run(Path(folder) / result_files.RUN_JSON), read_status(folder)


def _or(value: int | None, otherwise: str) -> str:
    return otherwise if value is None else str(value)


def states_text(folder: str) -> str:
    """What ``states`` did."""
    run, status = _read(folder)
    if not isinstance(run, StatesRun):
        return ""
    start = ("the poses that the particles carried" if run.data.input_poses else
             "random maps and those of clusters" if run.clusters_dir else "random maps")
    start += ", maps ending at a given mask" * bool(run.mask)
    box_px = status.box_px or run.data.box_px  # that of a training whose images were taken is not in its run
    search = StatesSearch(status.n_particles, box_px, start, run.compute.seed, versions_text(status))
    text = states_methods(search, read_summary(folder), read_cluster_rows(folder), CITED_HERE)
    return html.escape(text).replace(CITED_HERE, f"({cited('Scheres 2012')})")


def fullres_text(folder: str) -> str:
    """What ``fullres`` did."""
    run, _ = _read(folder)
    if not isinstance(run, FullresRun):
        return ""
    before, _ = _read(run.states_dir)
    mask_given = bool(run.mask or (isinstance(before, StatesRun) and before.mask))
    return fullres_methods(read_fullres(folder), mask_given, f"({cited('Scheres 2012')})")


def classes_text(folder: str) -> str:
    """What ``classes2d`` did."""
    run, status = _read(folder)
    if not isinstance(run, Classes2dRun):
        return ""
    rows, versions = read_cluster_rows(folder), html.escape(versions_text(status))
    good = [row for row in rows if not row.of_class.junk]
    pixel = f" of {rows[0].of_class.pixel_size_ang:.2f} Å" if rows else ""
    kept = sum(row.n_particles - row.of_class.n_junk for row in good)
    return (f"{_or(status.n_particles, 'The')} particles (box {run.data.box_px} px{pixel}) were classified in the "
            f"plane by expectation maximisation over class, turn and shift ({cited('Scheres 2012')}) as implemented in "
            f"scipion-em-vaegan{f' ({versions})' if versions else ''}, from {run.n_classes} classes, seed "
            f"{run.compute.seed}: {len(good)} classes of {kept} particles were kept.")


def training_text(folder: str) -> str:
    """What the training did."""
    run, status = _read(folder)
    if not isinstance(run, TrainRun):
        return ""
    seen = status.images_seen
    length = f" for {seen / 1000:.0f} thousand images" if seen else ""
    if run.data.posed:
        poses = ("With the in-plane alignment of class averages" if run.command == "train2d"
                 else "At the poses of the states" if run.data.poses_dir else "At the poses that the particles carried")
        kind = "VAE-GAN" if run.training.adversarial_weight > 0 else "variational autoencoder"
        return (f"{poses} a {kind} ({cited('Kingma & Welling 2014')}, "
                f"{cited('Larsen et al. 2016')}; preset {html.escape(run.preset)}, {run.model.n_normal} latent "
                f"coordinates, Fourier shells up to {run.training.band_shells:g}) was trained{length}.")
    kind, model = "3D" if run.command == "train3d" else "2D", run.model
    parts = (f"{model.n_categories} components" if model.n_categories else "one structure" if model.homogeneous
             else f"{model.n_normal} latent coordinates")
    return (f"A {kind} VAE-GAN ({cited('Larsen et al. 2016')}; preset {html.escape(run.preset)}, "
            f"{parts}) was trained without poses{length}.")


def clusters_text(folder: str) -> str:
    """What ``cluster`` did."""
    run, status = _read(folder)
    if not isinstance(run, ClusterRun):
        return ""
    by = (f"HDBSCAN ({cited('McInnes et al. 2017')})" if run.method == "hdbscan" else html.escape(run.method))
    return (f"The latent vectors were projected with UMAP ({cited('McInnes et al. 2018')}; {run.n_neighbors} "
            f"neighbours, minimal distance {run.min_dist:g}, seed {run.compute.seed}) and grouped with {by}: "
            f"{_or(status.clusters, '?')} clusters.")


def evaluation_text(run: ReportRun) -> str:
    """What ``evaluate`` compared, and how."""
    return html.escape(evaluation_methods(*evaluated(run))) if run.evaluation_dir else ""
