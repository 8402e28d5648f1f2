"""Dropout that is the same in a training that was resumed, and in one that several processes share."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..contract.settings import TrainRun


def seed_of(*numbers: int) -> int:
    """One seed, below 2^63, of several numbers that are not below 0."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded_dropout(run: TrainRun, place: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Seed dropout, which draws from torch's global generator, by run and place; then restore it.

    ``place``: numbers that no other use of dropout in this run has, such as images seen, step and part.
    """
    if run.model.dropout == 0:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(run.compute.seed, *place))
        yield
