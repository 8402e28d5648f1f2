"""Which particles share a noise spectrum: those of a micrograph, or of an optics group."""
from __future__ import annotations

import numpy as np

from .star_files import OPTICS_GROUP, RelionTable

MICROGRAPH_COLUMNS = ("rlnMicrographName", "rlnGroupName")  # the first that is there


def noise_groups(table: RelionTable, rows: np.ndarray, min_images: int) -> np.ndarray:
    """Number from 0 of the group of some rows ``(n,)``: their micrograph, where that has ``min_images`` of these rows.

    The others share that of their optics group; where none is known, all are one group.
    """
    group = np.zeros(len(rows), np.int64)
    if table.has(OPTICS_GROUP):
        _, group = np.unique(table.numbers(OPTICS_GROUP)[rows], return_inverse=True)
    micrographs = next((name for name in MICROGRAPH_COLUMNS if table.has(name)), None)
    if micrographs is not None:
        _, own, counts = np.unique(np.array(table.text(micrographs))[rows], return_inverse=True, return_counts=True)
        group = np.where(counts[own] >= min_images, group.max() + 1 + own, group)
    _, numbers = np.unique(group, return_inverse=True)
    return numbers.astype(np.int64)
