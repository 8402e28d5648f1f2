"""A star file with some of the particles of another, every column kept."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import starfile

from .particles import PARTICLE_ID, particle_ids
from .stacks import locate_stacks
from .star_files import IMAGE_NAME, RelionTable


def write_subset(table: RelionTable, particle_id: np.ndarray, path: Path) -> int:
    """Write the rows of ``table`` with these ids, in its order, to ``path``; returns how many.

    Image names are made relative to the folder of ``path`` where the stack is found, else kept.
    """
    ids = particle_ids(table)
    rows = np.flatnonzero(np.isin(ids, particle_id))
    particles = table.particles.iloc[rows].copy()
    particles[PARTICLE_ID] = ids[rows]  # an id that is the row number is another one in the subset
    parts = particles[IMAGE_NAME].astype(str).str.rpartition("@")
    names = sorted(set(parts[2]))
    found = dict(zip(names, locate_stacks(names, table.star)[0], strict=True))
    shown = {name: name if stack is None else os.path.relpath(stack, path.parent) for name, stack in found.items()}
    particles[IMAGE_NAME] = parts[0] + parts[1] + parts[2].map(shown)
    blocks = {"particles": particles} if table.optics is None else {"optics": table.optics, "particles": particles}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    starfile.write(blocks, part)
    os.replace(part, path)
    return len(rows)
