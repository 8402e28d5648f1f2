"""What ``cluster`` will take: UMAP of the particles that are laid out, and clusterings of parts and of clouds."""
from __future__ import annotations

import numpy as np
import torch

from ...contract.records import Forecast
from ...contract.settings import ClusterRun
from ...data.particle_tables import read_latents
from ...latent import large_sets, stability
from ...latent.cluster import TRIES
from ...latent.density_clustering import SWEEP_FRACS, density_labels, embed_2d, jittered
from ...runtime.memory import resident_gb
from .measured import GB, Span, equal, forecast_of, seconds_of

N_MEASURED = 1500
MOST_LONG_EPOCHS, LONG_EPOCHS, SHORT_EPOCHS = 10_000, 500, 200  # of UMAP: up to so many particles; epochs of more
BYTES_LAID_OUT = 6000  # of a particle: neighbours, graph, tree


def cluster_forecast(run: ClusterRun) -> Forecast:
    """All of it but the maps of the clusters. Raises DataError."""
    raw = read_latents(run.embedding_dir).z
    n, device = len(raw), torch.device("cpu")
    laid_out = len(large_sets.laid_out_rows(n, run.compute.seed))
    some = jittered(raw[np.linspace(0, n - 1, min(n, N_MEASURED)).astype(int)], 0)
    by_epoch = seconds_of(lambda: embed_2d(some, run.n_neighbors, run.min_dist, 0), device) / (len(some) * LONG_EPOCHS)
    points = embed_2d(some, run.n_neighbors, run.min_dist, 0, by_tree=True)
    grouping = seconds_of(lambda: density_labels(points, max(2, len(some) // 30), run.min_samples), device) / len(some)
    near = seconds_of(lambda: large_sets.nearest_rows(some, some), device) / len(some) ** 2
    layout = laid_out * by_epoch * (LONG_EPOCHS if laid_out <= MOST_LONG_EPOCHS else SHORT_EPOCHS)
    part = stability.subset_size(n)
    of_part = part * (LONG_EPOCHS * by_epoch + 1.2 * grouping)
    is_dense, repeats = run.method == "hdbscan", run.stability_repeats
    groups = (TRIES + len(SWEEP_FRACS)) * laid_out * grouping + near * laid_out * (n - laid_out)
    stages = {"layouts": equal((TRIES if is_dense else 1) * layout), "groups": equal(groups)}
    if repeats:
        clouds = max(repeats, stability.NULL_DRAWS) if is_dense else 0
        sweeps = len(SWEEP_FRACS) * repeats * part * grouping
        stages["repeats and clouds"] = Span(2 * repeats * of_part + sweeps,
                                            (repeats + clouds) * of_part + sweeps)
    memory = resident_gb() + (laid_out * BYTES_LAID_OUT + 6 * raw.nbytes) / GB
    return forecast_of("cluster", n, stages, memory, 60 * n / GB)
