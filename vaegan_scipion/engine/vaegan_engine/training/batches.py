"""Shuffled batches from a cache; the order is a pure function of seed and position."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..physics.memory_limit import share_bytes

IN_MEMORY_BYTES = 4 << 30  # smaller caches are put on the device whole
IMAGES_PART = 0.5  # of the memory that a run may hold, on a CPU


class Rows:
    """Row numbers of batch ``i`` of a run, for any ``i``: epochs are seeded permutations, joined end to end."""

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.n)
        return self._orders[epoch]

    def rows(self, start: int) -> np.ndarray:
        """Row numbers of the batch that begins at image ``start`` of the endless stream."""
        positions = np.arange(start, start + self.batch_size)
        return np.array([self._order(p // self.n)[p % self.n] for p in positions.tolist()])


class RowBatches(Rows):
    """Batches of row numbers alone."""

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device) -> None:
        super().__init__(n, batch_size, seed)
        self.device = device

    def read(self, start: int) -> tuple[Tensor]:
        """Row numbers ``(n,)`` on the device."""
        return (torch.from_numpy(self.rows(start)).to(self.device),)


class Batches(Rows):
    """Batches of images."""

    def __init__(self, images: np.ndarray, ctf: np.ndarray, batch_size: int, seed: int,
                 device: torch.device) -> None:
        super().__init__(len(images), batch_size, seed)
        self.images, self.device = images, device
        self.ctf = torch.from_numpy(np.ascontiguousarray(ctf)).to(device)
        self.resident: Tensor | None = None
        if images.nbytes <= IN_MEMORY_BYTES and (device.type != "cpu" or images.nbytes <= share_bytes(IMAGES_PART)):
            self.resident = torch.from_numpy(np.array(images)).to(device)

    def read(self, start: int) -> tuple[Tensor, Tensor]:
        """Images ``(n, d, d)`` float32 and CTF rows ``(n, 8)`` on the device."""
        rows = self.rows(start)
        index = torch.from_numpy(rows).to(self.device, non_blocking=True)
        if self.resident is not None:
            images = self.resident[index].float()
        else:
            order = np.argsort(rows)
            block = np.empty((len(rows), *self.images.shape[1:]), np.float32)
            block[order] = self.images[rows[order]]
            images = torch.from_numpy(block).to(self.device, non_blocking=True)
        return images, self.ctf[index]
