"""Other ways to group the same particles, for the scoreboard: what ``states`` is to be compared with.

``pca``: principal components of the phase-flipped images, then UMAP and HDBSCAN with the settings of ``cluster``. It
corrects no pose. ``relion2d``: RELION's 2D classification, which is told the true number of classes, or in the plane
50, and whose averages and alignment are kept as ``classes2d`` keeps its own. Each writes ``clusters.csv`` as
``cluster`` does.
"""
from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ...contract import result_files, run_json
from ...contract.errors import ConfigError, DataError
from ...contract.settings import Classes2dRun, ClusterRun, ComputeConfig, TrainRun
from ...data.prepared_images import ParticleCache
from ...data.run_images import open_run_cache
from ...latent import density_clustering
from ...physics.ctf import ctf_2d
from ..checks import relion_class

PCA_COMPONENTS = 50
RELION_ITERATIONS = 25
DIAMETER_FRAC = 0.9  # of the box
_FLIPPED_AT_ONCE = 1024


def run_peer(name: str, run_dir: Path, out_dir: Path, n_states: int, where: ComputeConfig) -> float:
    """Group the prepared images of ``run_dir``; writes ``clusters.csv``, returns the minutes.

    Raises ConfigError where a program is missing, DataError where the run is no training or a program fails.
    """
    run = run_json.read_run(run_dir / result_files.RUN_JSON)
    if not isinstance(run, (TrainRun, Classes2dRun)):
        raise DataError(f"{run_dir} holds no training and no classes.", "Give the folder of one of them.")
    cache = open_run_cache(run.data, run_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    labels = PEERS[name](cache, out_dir, n_states, where)
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                      [[i, label, 1.0] for i, label in zip(cache.particle_id, labels, strict=True)])
    return (time.monotonic() - started) / 60


def phase_flipped(cache: ParticleCache) -> np.ndarray:
    """Images ``(n, d d)`` float32, every Fourier coefficient times the sign of its CTF, once."""
    d = cache.box_px
    flipped = np.empty((len(cache.images), d * d), np.float32)
    for first in range(0, len(flipped), _FLIPPED_AT_ONCE):
        rows = slice(first, first + _FLIPPED_AT_ONCE)
        images = torch.from_numpy(np.asarray(cache.images[rows], np.float32))
        sign = ctf_2d(torch.from_numpy(np.asarray(cache.ctf[rows], np.float32)), d, cache.pixel_size_ang).sign()
        flipped[rows] = torch.fft.irfft2(torch.fft.rfft2(images) * sign, s=(d, d)).flatten(1).numpy()
    return flipped


def by_pca(cache: ParticleCache, out_dir: Path, n_states: int, where: ComputeConfig) -> np.ndarray:
    """Labels ``(n,)``, -1 = unassigned: PCA, UMAP and HDBSCAN, which is not told the number of states."""
    from sklearn.decomposition import PCA

    images, run = phase_flipped(cache), ClusterRun()
    n_components = min(PCA_COMPONENTS, *images.shape)
    z = PCA(n_components, svd_solver="randomized", random_state=where.seed).fit_transform(images)
    z = density_clustering.jittered(z, where.seed)
    points = density_clustering.embed_2d(z, run.n_neighbors, run.min_dist, where.seed)
    size = density_clustering.smallest_cluster(len(z), run.min_cluster_size, run.min_cluster_frac)
    return density_clustering.group_by_density(z, points, size, run.min_samples, run.join_valley).labels


def by_relion(cache: ParticleCache, out_dir: Path, n_states: int, where: ComputeConfig,
              iterations: int = RELION_ITERATIONS) -> np.ndarray:
    """Labels ``(n,)`` of RELION's 2D classification into ``n_states`` classes. Raises ConfigError or DataError."""
    if shutil.which(relion_class.PROGRAM) is None:
        raise ConfigError(f"The program {relion_class.PROGRAM} is not on PATH.",
                          "Install RELION (Debian: apt-get install relion), or leave out --peer relion2d.")
    ctf = cache.ctf if cache.ctf_present else None
    relion_class.write_images(out_dir, np.asarray(cache.images, np.float32), ctf, cache.particle_id,
                              cache.pixel_size_ang)
    relion_class.classify(out_dir, relion_class.Classification(
        DIAMETER_FRAC * cache.box_px * cache.pixel_size_ang, iterations, where.threads, where.seed,
        relion_class.ctf_flags(ctf), n_states))
    relion_class.write_classes(out_dir, iterations, cache.pixel_size_ang)
    numbers = relion_class.class_numbers(out_dir, iterations)
    return np.array([numbers[int(i)] for i in cache.particle_id])


Peer = Callable[[ParticleCache, Path, int, ComputeConfig], np.ndarray]
PEERS: dict[str, Peer] = {"pca": by_pca, "relion2d": by_relion}
