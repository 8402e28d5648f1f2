"""``ceiling``: what a classifier of the encoder's own shape reaches when it is shown the true labels.

No method without labels can be asked for more than that from the same images. Each particle is
predicted once, by a network that has not seen it (k-fold cross-validation). In training, images are
shifted cyclically by up to ``max_shift_frac`` and turned by 90 degrees or mirrored: the mirror
image of a projection is the same object's projection from behind. The Wiener-filtered channel is
computed first and turned with its image, so an astigmatic CTF turns along.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...contract.errors import DataError
from ...contract.record import write_record
from ...contract.run_json import read_training
from ...contract.setting import check_settings, section, setting
from ...contract.settings import ComputeConfig, DataConfig, ModelConfig
from ...data.particle_tables import read_truth, rows_of
from ...runtime.compute import describe, prepare_device
from ...runtime.progress import progress_bar
from ...stats.label_agreement import agreement

CEILING_JSON = "ceiling.json"
BATCH = 64
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class CeilingOptions:
    """What to classify and how long to train."""

    particles: str = setting("", "RELION star file", path=True, required=True, metavar="STAR")
    truth_csv: str = setting("", "truth.csv of simulate (columns id and map)", path=True, required=True)
    run_dir: str = setting("", "Take image and network settings from this training", path=True)
    data: DataConfig = section(DataConfig, shown=("box_px", "crop_frac", "max_images"))
    epochs: int = setting(30, "Passes over the images per fold", low=1, high=10**4)
    folds: int = setting(5, "Parts of the cross-validation", low=2, high=100)
    compute: ComputeConfig = section(ComputeConfig)


@dataclass(frozen=True)
class Ceiling:
    """``ceiling.json``: what the classifier reaches, and how it was trained."""

    accuracy: float
    nmi: float
    ami: float
    ari: float
    n_particles: int
    states: list[str]
    epochs: int
    folds: int
    seed: int
    box_px: int
    encoder_width: int


def run_ceiling(options: CeilingOptions, out_dir: Path) -> Ceiling:
    """Cross-validate and write ``ceiling.json`` into ``out_dir``; returns what it holds.

    Raises ConfigError or DataError.
    """
    from ...data.run_images import open_run_cache
    from ...physics.ctf import ctf_2d

    check_settings(options)
    device = prepare_device(options.compute)
    data, model, same = settings(options)
    truth = read_truth(options.truth_csv)
    cache = open_run_cache(data, options.run_dir if same else out_dir)
    label = truth.label[rows_of(truth.particle_id, cache.particle_id, options.truth_csv)]

    def channels(rows: np.ndarray) -> Tensor:
        from ...networks.critic_encoder import input_channels

        images = torch.from_numpy(np.asarray(cache.images[rows], np.float32)).to(device)
        ctf = torch.from_numpy(cache.ctf[rows]).to(device)
        return input_channels(images, ctf_2d(ctf, cache.box_px, cache.pixel_size_ang), model)

    print(f"ceiling: {len(label)} particles of {len(truth.names)} states, {options.folds} folds of "
          f"{options.epochs} epochs, on {describe(device)}", flush=True)
    predicted = cross_validate(Labelled(channels, label, cache.box_px, device), model, options)
    ceiling = Ceiling(float((predicted == label).mean()), **agreement(predicted, label), n_particles=len(label),
                      states=truth.names, epochs=options.epochs, folds=options.folds, seed=options.compute.seed,
                      box_px=cache.box_px, encoder_width=model.encoder_width)
    write_record(Path(out_dir) / CEILING_JSON, ceiling)
    for name, value in (("accuracy", ceiling.accuracy), ("NMI", ceiling.nmi), ("AMI", ceiling.ami)):
        print(f"ceiling {name} {value:.3f}", flush=True)
    return ceiling


def settings(options: CeilingOptions) -> tuple[DataConfig, ModelConfig, bool]:
    """Image and network settings: of the training named, else the defaults.

    The last value says whether that training has these very particles in its cache.
    """
    if not options.run_dir:
        return replace(options.data, particles=options.particles), ModelConfig(), False
    run = read_training(options.run_dir)
    same = os.path.realpath(options.particles) == os.path.realpath(run.data.particles)
    others = replace(run.data, particles=options.particles, stack="", max_images=0, half_set=0, prepared_dir="")
    return run.data if same else others, run.model, same


def folds_of(label: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold 0 .. n_folds - 1 of each particle, every state spread evenly. Raises DataError."""
    counts = np.bincount(label)
    if counts[counts > 0].min() < n_folds:
        raise DataError(f"a state has {counts[counts > 0].min()} particles, the cross-validation {n_folds} folds.",
                        "Use more particles per state, or fewer --folds.")
    rng, fold = np.random.default_rng(seed), np.empty(len(label), np.int64)
    for state in np.flatnonzero(counts):
        members = rng.permutation(np.flatnonzero(label == state))
        fold[members] = np.arange(len(members)) % n_folds
    return fold


def augmented(x: Tensor, max_shift_px: int, rng: torch.Generator) -> Tensor:
    """Channels ``(n, c, d, d)``: each image shifted cyclically, turned by a multiple of 90 degrees, mirrored."""
    n, _, d, _ = x.shape
    grid = torch.arange(d)
    shift = torch.randint(-max_shift_px, max_shift_px + 1, (2, n, 1), generator=rng)
    rows, columns = ((grid + s) % d for s in shift)
    index = torch.arange(n)[:, None, None]
    shifted = x.permute(0, 2, 3, 1)[index.to(x.device), rows[:, :, None].to(x.device),
                                    columns[:, None, :].to(x.device)].permute(0, 3, 1, 2)
    turn = torch.randint(8, (n,), generator=rng).to(x.device)
    result = torch.empty_like(shifted)
    for kind in range(8):
        chosen = turn == kind
        turned = torch.rot90(shifted[chosen], kind % 4, (2, 3))
        result[chosen] = turned.flip(3) if kind >= 4 else turned
    return result


@dataclass(frozen=True)
class Labelled:
    """Images with their true states."""

    channels: Callable[[np.ndarray], Tensor]  # rows -> what the network sees (m, c, d, d)
    label: np.ndarray  # (n,)
    box_px: int
    device: torch.device


@dataclass(frozen=True)
class Part:
    """What one classifier is trained on, and for how long."""

    rows: np.ndarray
    n_steps: int
    seed: int


def cross_validate(images: Labelled, model: ModelConfig, options: CeilingOptions) -> np.ndarray:
    """Predicted state of every particle, by the network of the folds it is not in."""
    label = images.label
    fold = folds_of(label, options.folds, options.compute.seed)
    steps = [math.ceil((fold != k).sum() / BATCH) * options.epochs for k in range(options.folds)]
    predicted = np.empty(len(label), np.int64)
    with progress_bar(sum(steps), "ceiling", "batches") as bar:
        for k in range(options.folds):
            part = Part(np.flatnonzero(fold != k), steps[k], options.compute.seed + k)
            network = train_classifier(images, part, model, bar)
            held_out = np.flatnonzero(fold == k)
            with torch.no_grad():
                for start in range(0, len(held_out), 4 * BATCH):
                    rows = held_out[start:start + 4 * BATCH]
                    predicted[rows] = network(images.channels(rows)).argmax(1).cpu().numpy()
    return predicted


def train_classifier(images: Labelled, part: Part, model: ModelConfig, bar: Any) -> nn.Module:
    """A trained classifier of the encoder's shape: Adam, one warm-up and a cosine to 0, cross-entropy."""
    from ...networks.critic_encoder import build_encoder

    device, n_steps = images.device, part.n_steps
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(part.seed)
        network = build_encoder(model, int(images.label.max()) + 1, images.box_px).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    rng, order = torch.Generator().manual_seed(part.seed), np.random.default_rng(part.seed)
    target = torch.from_numpy(images.label).to(device)
    max_shift_px = max(1, round(model.max_shift_frac * images.box_px))
    queue = np.empty(0, np.int64)
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps)
        if len(queue) < BATCH:
            queue = np.concatenate((queue, order.permutation(part.rows)))
        batch, queue = np.sort(queue[:BATCH]), queue[BATCH:]
        scores = network(augmented(images.channels(batch), max_shift_px, rng))
        loss = functional.cross_entropy(scores, target[torch.from_numpy(batch).to(device)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        bar.update(1)
    return network.eval()


def learning_rate(step: int, n_steps: int) -> float:
    """``lr/2 (1 + cos(pi step / n))``, after a linear rise over the first 5 % of the steps."""
    rise = min(1.0, (step + 1) / max(1.0, 0.05 * n_steps))
    return LEARNING_RATE * rise * 0.5 * (1 + math.cos(math.pi * step / n_steps))
