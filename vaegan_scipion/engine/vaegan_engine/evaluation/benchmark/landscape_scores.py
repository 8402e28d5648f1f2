"""The landscape of a benchmark's task: a VAE-GAN trained with the poses of the states, its clusters held to the truth.

Nothing but the particles, and the poses and contrasts that ``states`` found, goes into it: images that it set aside are
left out, and the number of clusters is read from the density of the latent vectors.
"""
from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...contract import presets
from ...contract.record import read_record
from ...contract.settings import ClusterRun, ComputeConfig, EmbedRun
from ...data.particle_tables import read_latents
from ...simulation.options import Simulation
from ...simulation.simulate import STAR, TRUTH_CSV
from .scores import label_scores, true_table

LANDSCAPE_FIGURES = ("landscape_clusters", "landscape_nmi", "landscape_ami", "landscape_least_stability",
                     "landscape_spearman", "landscape_minutes")


def landscape_scores(out: Path, where: ComputeConfig, group_of: dict[str, str] | None = None, ordered: bool = False
                     ) -> dict[str, float]:
    """Train with the poses in ``out/states``, embed, cluster; scores of the clusters. Raises ConfigError or DataError.

    ``landscape_clusters``, their NMI and AMI with the truth among the particles that are no junk, ``least_stability``
    of a cluster, minutes; where the maps are the frames of one motion the rank correlation of the first principal
    component of z with the frame.
    """
    from ...latent.cluster import run_cluster
    from ...latent.embed import run_embed
    from ...training.train import run_train

    folders = {name: str((out / f"landscape_{name}").absolute()) for name in ("run", "embedding", "clusters")}
    box_px = read_record(Simulation, out / "data" / "simulation.json", "simulate").options.box_px
    run = presets.build_run("train3d", "posed", {
        "data": {"particles": str((out / "data" / STAR).absolute()), "box_px": box_px,
                 "poses_dir": str((out / "states").absolute())}, "compute": asdict(where)})
    started = time.monotonic()
    run_train(run, Path(folders["run"]))
    run_embed(EmbedRun(run_dir=folders["run"], compute=where), Path(folders["embedding"]))
    clustering = run_cluster(ClusterRun(embedding_dir=folders["embedding"], run_dir=folders["run"], compute=where),
                             Path(folders["clusters"]))
    minutes = (time.monotonic() - started) / 60
    truth_csv = out / "data" / TRUTH_CSV
    by_name = label_scores(Path(folders["clusters"]), truth_csv, group_of)
    values = {"landscape_clusters": float(clustering.clusters), "landscape_nmi": by_name["nmi"],
              "landscape_ami": by_name["ami"], "landscape_minutes": minutes}
    if clustering.stability is not None and clustering.stability.per_cluster:
        values["landscape_least_stability"] = min(clustering.stability.per_cluster)
    if ordered:
        values["landscape_spearman"] = first_coordinate_correlation(Path(folders["embedding"]), truth_csv)
    return values


def first_coordinate_correlation(embedding: Path, truth_csv: Path) -> float:
    """Rank correlation, without sign, of the first principal component of z with the number of the map."""
    from scipy.stats import spearmanr

    latents, truth = read_latents(embedding), true_table(truth_csv)
    centred = latents.z - latents.z.mean(0)
    coordinate = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    frames = [int(truth[int(i)]["map"] or -1) for i in latents.particle_id]
    return abs(float(spearmanr(coordinate, frames)[0]))
