"""Dropout that is the same in a training that was resumed."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..contract.settings import TrainRun


@contextmanager
def seeded_dropout(run: TrainRun, images_seen: int, device: torch.device) -> Iterator[None]:
    """Seed dropout, which draws from torch's global generator, by run and step; then restore it."""
    if run.model.dropout == 0:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(((run.compute.seed << 40) + images_seen) % 2 ** 63)
        yield
