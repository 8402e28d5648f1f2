"""Prepared images of some particles out of those of all: what a run on a part of a set is given."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..contract.prepared import IMAGE_FIELDS, IMAGES_NPY, META_JSON, TABLE_NPZ, read_meta
from ..contract.record import to_json
from ..contract.result_files import read_npz
from ..contract.settings import DataConfig
from .prepared_images import SPARE_BYTES, digest, fingerprint_of, whole_or_nothing, write_header


def write_part(source: Path, data: DataConfig, rows: np.ndarray, folder: Path) -> bool:
    """The images of some rows of the cache ``source`` in the cache ``folder``; whether it held these already.

    ``data``: the settings that ``open_cache`` will ask ``folder`` for, ``data.half_set`` the half set of all ``rows``.
    Raises DataError on a folder that cannot be written and a full disk; then what was there stays.
    """
    whole, stored = read_meta(source), read_meta(folder)
    assert whole is not None  # it was opened
    table, images = read_npz(source / TABLE_NPZ), np.load(source / IMAGES_NPY, mmap_mode="r")
    pixels = digest(np.array([fingerprint_of(images[row]) for row in rows], np.uint64))
    meta = replace(whole, data={name: getattr(data, name) for name in IMAGE_FIELDS}, pixels=pixels)
    own = {name: table[name][rows] for name in ("particle_id", "ctf", "twin_id", "near_ang") if name in table}
    was_there = stored is not None and stored.pixels == pixels and np.array_equal(own["particle_id"], _ids_in(folder))
    if was_there and stored == meta:
        return True
    needed_bytes = sum(value.nbytes for value in own.values()) + len(rows) * (1 + images[0].nbytes) + SPARE_BYTES
    with whole_or_nothing(folder, needed_bytes) as parts:
        with open(parts[IMAGES_NPY], "wb") as stream:
            write_header(stream, len(rows), images.shape[-1])
            for row in rows:
                stream.write(images[row].tobytes())
        with open(parts[TABLE_NPZ], "wb") as stream:
            np.savez(stream, half_set=np.full(len(rows), data.half_set, np.uint8), stack_files=table["stack_files"],
                     **own)
        parts[META_JSON].write_text(json.dumps(to_json(meta), indent=2, allow_nan=False) + "\n")
    return was_there


def _ids_in(folder: Path) -> np.ndarray:
    """Ids of the particles in a cache; none where its table is not whole, as a power cut may leave it."""
    try:
        return read_npz(folder / TABLE_NPZ)["particle_id"]
    except (OSError, ValueError, KeyError):
        return np.empty(0, np.int64)
