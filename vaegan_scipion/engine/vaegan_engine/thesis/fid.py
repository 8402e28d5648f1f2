"""``fid``: Frechet distance of generated and real images in the features of the data set's own classifier.

``FID = |m_1 - m_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` with means m and covariances S of the features (Heusel
et al., NeurIPS 2017). Generated images get CTF, shift and noise as in training, real ones are as the networks see
them. The number means something only beside others of the same feature network, which is named with it.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contract.errors import DataError
from ..contract.labels import UNASSIGNED
from ..contract.record import write_record
from ..contract.setting import check_settings, section, setting
from ..contract.settings import ComputeConfig, EmbedRun
from ..data.particle_tables import read_clusters, read_truth, rows_of
from ..data.prepared_images import ParticleCache
from ..data.run_images import check_row_ids
from ..latent.embed import particles_of
from ..runtime.compute import prepare_device
from ..training import checkpoints
from ..training.decoded import load_trained
from .feature_network import FeatureNetwork, Training, features, train_network

FID_JSON = "fid.json"


@dataclass(frozen=True)
class FidOptions:
    """Which training, which labels for the feature network, how large."""

    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    labels: str = setting("", "Classes that the feature network learns: truth.csv, or results folder of cluster",
                          path=True, required=True)
    particles: str = setting("", "Other particles than the run's own (RELION star file)", path=True, metavar="STAR")
    network: str = setting("", "File of the feature network, to use one for several trainings: read where it is there, "
                           "else written; empty = feature_network.pt in the results folder", path=True)
    n_images: int = setting(10000, "Images of each kind", low=2)
    width: int = setting(Training.width, "Width of the feature network; VGG-19 has 64", low=1, high=4096)
    steps: int = setting(Training.steps, "Training steps of the feature network", low=1)
    compute: ComputeConfig = section(ComputeConfig)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """FID of two sets of features ``(n, k)`` and ``(m, k)``.

    ``Tr (S_1 S_2)^(1/2)`` is the sum of the roots of the eigenvalues of ``S_1^(1/2) S_2 S_1^(1/2)``, which is
    symmetric, so singular covariances do no harm.
    """
    m1, m2 = first.mean(axis=0), second.mean(axis=0)
    s1, s2 = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second))
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(min=0)).sum()
    return float(np.square(m1 - m2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


@dataclass(frozen=True)
class FidFigures:
    """``fid.json``."""

    fid: float
    feature_network: str
    fid_of_real_halves: float  # what two halves of the real images have
    n_real: int
    n_generated: int
    seed: int


def run_fid(options: FidOptions, out_dir: Path) -> FidFigures:
    """Train (or read) the feature network, compare, write ``fid.json``; returns what it holds.

    Raises ConfigError or DataError.
    """
    check_settings(options)
    out_dir = Path(out_dir)
    device = prepare_device(options.compute)
    trained = load_trained(options.run_dir, options.compute)
    cache = particles_of(EmbedRun(run_dir=options.run_dir, particles=options.particles), trained, out_dir)
    if options.labels and Path(options.labels).is_dir():
        check_row_ids(options.labels, options.particles or trained.run.data.particles)
    network, name = named_network(options, cache, out_dir, device)
    order = np.random.default_rng(options.compute.seed).permutation(len(cache))
    rows = np.sort(order[:options.n_images])
    real = features(network, np.asarray(cache.images[rows], np.float32), device)
    fake = features(network, generated(trained, cache, options.n_images, options.compute.seed), device)
    halves = np.array_split(np.random.default_rng(options.compute.seed + 1).permutation(len(real)), 2)
    figures = FidFigures(frechet_distance(real, fake), name, frechet_distance(real[halves[0]], real[halves[1]]),
                         len(real), len(fake), options.compute.seed)
    write_record(out_dir / FID_JSON, figures)
    print(f"FID {figures.fid:.2f} (two halves of the real images {figures.fid_of_real_halves:.2f}), {name}", flush=True)
    return figures


def named_network(options: FidOptions, cache: ParticleCache, out_dir: Path,
                  device: torch.device) -> tuple[FeatureNetwork, str]:
    """The feature network and its name; trained and written where its file is not there."""
    path = Path(options.network) if options.network else out_dir / "feature_network.pt"
    if path.exists():
        stored = checkpoints.read(path, device)
        if stored["box_px"] != cache.box_px:
            raise DataError(f"{path}: the feature network is for {stored['box_px']} px, the images have "
                            f"{cache.box_px}.", "Give another file with --network.")
        network = FeatureNetwork(stored["width"], stored["n_classes"]).to(device)
        network.load_state_dict(stored["network"])
        return network.eval(), stored["name"]
    rows, label = labels_of(options.labels, cache)
    training = Training(options.width, options.steps, seed=options.compute.seed,
                        learning_rate=Training.learning_rate * (64 / options.width))
    network, accuracy = train_network(cache.images[rows], label, training, device)
    n_classes = int(label.max()) + 1
    name = (f"VGG-19 shape, width {options.width}, {cache.box_px} px, {n_classes} classes of "
            f"{Path(options.labels).name}, {len(rows)} images, {options.steps} steps, seed {options.compute.seed}, "
            f"held-out accuracy {accuracy:.2f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    torch.save({"network": network.state_dict(), "width": options.width, "n_classes": n_classes,
                "box_px": cache.box_px, "name": name}, part)
    part.replace(path)
    return network, name


def labels_of(source: str, cache: ParticleCache) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cache that have a class and their classes 0, 1, ...: of a truth table or of clusters."""
    if Path(source).is_dir():
        clusters = read_clusters(source)
        ids, label = clusters.particle_id[clusters.label != UNASSIGNED], clusters.label[clusters.label != UNASSIGNED]
    else:
        truth = read_truth(source)
        ids, label = truth.particle_id, truth.label
    has_label = np.isin(cache.particle_id, ids)
    rows = np.flatnonzero(has_label)
    if len(rows) < 20 or len(np.unique(label)) < 2:
        raise DataError(f"{source}: {len(rows)} particles in {len(np.unique(label))} classes.",
                        "Give at least 20 labelled particles of 2 classes.")
    classes = label[rows_of(ids, cache.particle_id[rows], source)]
    return rows, np.unique(classes, return_inverse=True)[1]


@torch.no_grad()
def generated(trained: Any, cache: ParticleCache, n: int, seed: int) -> np.ndarray:
    """``(n, d, d)`` images of the averaged generator with CTF (of real particles), shift and noise."""
    vae_gan = trained.vae_gan
    vae_gan.rng.manual_seed(seed)
    rows = np.random.default_rng([seed, 1]).integers(len(cache), size=n)
    made = []
    for start in range(0, n, 64):
        table = torch.from_numpy(np.array(cache.ctf[rows[start:start + 64]], np.float32)).to(vae_gan.device)
        fakes = vae_gan.render(vae_gan.sample_prior(len(table)), vae_gan.ctf(table), averaged=True)
        made.append(fakes.float().cpu().numpy())
    return np.concatenate(made)
