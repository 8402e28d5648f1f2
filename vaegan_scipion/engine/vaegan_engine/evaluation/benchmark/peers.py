"""Other ways to group the same particles, for the scoreboard: what ``states`` is to be compared with.

``pca``: principal components of the phase-flipped images, then UMAP and HDBSCAN with the settings of ``cluster``. It
corrects no pose. ``relion2d``: RELION's 2D classification, which is told the true number of classes, or in the plane
50, and whose averages and alignment are kept as ``classes2d`` keeps its own. ``relion3d``: its 3D classification, which
is told the true number of classes and the mean of the true maps, to ``REFERENCE_ANG``. Each writes ``clusters.csv`` as
``cluster`` does.
"""
from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ...contract import result_files, run_json
from ...contract.errors import ConfigError, DataError
from ...contract.settings import Classes2dRun, ClusterRun, ComputeConfig, TrainRun
from ...data.mrc_files import write_map
from ...data.prepared_images import ParticleCache
from ...data.run_images import open_run_cache
from ...latent import density_clustering
from ...physics.ctf import ctf_2d
from ..checks import relion_class
from ..truth.reference_maps import read_references

PCA_COMPONENTS = 50
RELION_ITERATIONS = 25
REFERENCE_ANG = 60.0
IN_OUR_TIME = "in_our_time"  # folder of the groups that a peer had after the minutes that it was told
DIAMETER_FRAC = 0.9  # of the box
_FLIPPED_AT_ONCE = 1024


@dataclass(frozen=True)
class Told:
    """What a peer is told and ``states`` is not, and what both are rated by."""

    n_states: int
    maps: tuple[str, ...] = ()  # the true ones
    truth_csv: str = ""
    minutes: float = 0.0  # that ``states`` took
    group_of: dict[str, str] = field(default_factory=dict)  # group of every map by its file's name


def run_peer(name: str, run_dir: Path, out_dir: Path, told: Told, where: ComputeConfig) -> float:
    """Group the prepared images of ``run_dir``; writes ``clusters.csv``, returns the minutes.

    Raises ConfigError where a program is missing, DataError where the run is no training or a program fails.
    """
    run = run_json.read_run(run_dir / result_files.RUN_JSON)
    if not isinstance(run, (TrainRun, Classes2dRun)):
        raise DataError(f"{run_dir} holds no training and no classes.", "Give the folder of one of them.")
    cache = open_run_cache(run.data, run_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    labels = PEERS[name](cache, out_dir, told, where)
    minutes = (time.monotonic() - started) / 60
    write_groups(out_dir, cache, labels)
    return minutes


def write_groups(folder: Path, cache: ParticleCache, labels: np.ndarray) -> None:
    """Groups ``(n,)`` of the prepared images, as ``cluster`` writes them."""
    result_files.write_csv(folder / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                           [[i, label, 1.0] for i, label in zip(cache.particle_id, labels, strict=True)])


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


def by_pca(cache: ParticleCache, out_dir: Path, told: Told, where: ComputeConfig) -> np.ndarray:
    """Labels ``(n,)``, -1 = unassigned: PCA, UMAP and HDBSCAN, which is not told the number of states."""
    from sklearn.decomposition import PCA

    images, run = phase_flipped(cache), ClusterRun()
    n_components = min(PCA_COMPONENTS, *images.shape)
    z = PCA(n_components, svd_solver="randomized", random_state=where.seed).fit_transform(images)
    z = density_clustering.jittered(z, where.seed)
    points = density_clustering.embed_2d(z, run.n_neighbors, run.min_dist, where.seed)
    size = density_clustering.smallest_cluster(len(z), run.min_cluster_size, run.min_cluster_frac)
    return density_clustering.group_by_density(z, points, size, run.min_samples, run.join_valley).labels


def by_relion_2d(cache: ParticleCache, out_dir: Path, told: Told, where: ComputeConfig,
                 iterations: int = RELION_ITERATIONS) -> np.ndarray:
    """Labels ``(n,)`` of RELION's 2D classification into ``told.n_states`` classes. Raises ConfigError or DataError."""
    classify(cache, out_dir, relion_classes(cache, told, where, iterations))
    relion_class.write_classes(out_dir, iterations, cache.pixel_size_ang)
    return labels_in(relion_class.tables(out_dir)[-1], cache)


def by_relion_3d(cache: ParticleCache, out_dir: Path, told: Told, where: ComputeConfig,
                 iterations: int = RELION_ITERATIONS) -> np.ndarray:
    """Labels ``(n,)`` of RELION's 3D classification; those of its last iteration within ``told.minutes`` are kept too.

    Raises ConfigError or DataError.
    """
    maps = [one.map for one in read_references(list(told.maps), Path(told.truth_csv), cache.box_px,
                                               cache.pixel_size_ang)]
    reference = (out_dir / "reference.mrc").absolute()
    write_map(reference, np.stack(maps).mean(0).astype(np.float32), cache.pixel_size_ang)
    began = time.time()
    asked = relion_classes(cache, told, where, iterations)
    classify(cache, out_dir, replace(asked, reference=reference, reference_ang=REFERENCE_ANG))
    in_time = [path for path in relion_class.tables(out_dir) if path.stat().st_mtime - began <= 60 * told.minutes]
    if in_time:
        write_groups(out_dir / IN_OUR_TIME, cache, labels_in(in_time[-1], cache))
    return labels_in(relion_class.tables(out_dir)[-1], cache)


def relion_classes(cache: ParticleCache, told: Told, where: ComputeConfig, iterations: int
                   ) -> relion_class.Classification:
    """What RELION is asked for in 2D."""
    return relion_class.Classification(
        DIAMETER_FRAC * cache.box_px * cache.pixel_size_ang, iterations, where.threads, where.seed,
        relion_class.ctf_flags(cache.ctf if cache.ctf_present else None), told.n_states)


def classify(cache: ParticleCache, out_dir: Path, asked: relion_class.Classification) -> None:
    """RELION's classification of the prepared images, into a folder. Raises ConfigError or DataError."""
    if shutil.which(relion_class.PROGRAM) is None:
        raise ConfigError(f"The program {relion_class.PROGRAM} is not on PATH.",
                          "Install RELION (Debian: apt-get install relion), or leave out --peer relion2d and relion3d.")
    relion_class.write_images(out_dir, np.asarray(cache.images, np.float32), cache.ctf if cache.ctf_present else None,
                              cache.particle_id, cache.pixel_size_ang)
    relion_class.classify(out_dir, asked)


def labels_in(table_star: Path, cache: ParticleCache) -> np.ndarray:
    """Labels ``(n,)`` of the prepared images in one of RELION's star files."""
    numbers = relion_class.class_numbers(table_star)
    return np.array([numbers[int(i)] for i in cache.particle_id])


Peer = Callable[[ParticleCache, Path, Told, ComputeConfig], np.ndarray]
PEERS: dict[str, Peer] = {"pca": by_pca, "relion2d": by_relion_2d, "relion3d": by_relion_3d}
