"""Digests of the arrays, columns and values in a results file, for ``same_bits.py``.

What is compared, entry by entry: arrays of npz and npy (dtype, shape, bytes), tensors and plain values of pt, data
and header of mrc and mrcs, pixels of png, columns of csv and star, leaves of json and jsonl, text and pictures of
html, text of txt; columns in their order, JSON keys and blocks in any. What is left out:

* keys and columns of ``LEFT_OUT``: wall times, rates, dates, memory, the contract's version, and the digests of a
  cache over files with dates; the same rates in the html of a report;
* comment lines of star files and labels of mrc files, which hold dates;
* ``Words.folders``, where a text holds them (relative paths are compared).
"""
from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from matplotlib.image import imread

LEFT_OUT = frozenset({
    "seconds", "minutes", "seconds_left", "stage_seconds_left", "images_per_second", "peak_gb", "date",
    "commit", "contract_version",
    "stacks", "star_sha256",  # of a cache's meta.json: times of the stacks; the star file, with its date
})
RATE = re.compile(r"(<td[^>]*>(?:images per second|seconds|minutes)</td><td[^>]*>)[^<]*", re.IGNORECASE)
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")

Keys = tuple[str, ...]
Leaves = Iterator[tuple[Keys, Any]]


def leaves(value: Any, keys: Keys = ()) -> Leaves:
    """Each leaf of nested dictionaries, lists and tuples with the keys that lead to it; empty ones are leaves."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*keys, str(key)))
    elif isinstance(value, (list, tuple)) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*keys, str(index)))
    else:
        yield keys, value


def read_npz(path: Path) -> Leaves:
    """Arrays by name."""
    with np.load(path, allow_pickle=False) as stored:
        yield from ((tuple(name.split(".")), stored[name]) for name in stored.files)


def read_npy(path: Path) -> Leaves:
    """One array."""
    yield (), np.load(path, allow_pickle=False)


def read_pt(path: Path) -> Leaves:
    """Tensors (as arrays) and plain values; code in the file is never run."""
    for keys, leaf in leaves(torch.load(path, map_location="cpu", weights_only=True)):
        parts = tuple(part for key in keys for part in key.split("."))
        yield parts, leaf.numpy() if isinstance(leaf, torch.Tensor) else leaf


def read_mrc(path: Path) -> Leaves:
    """Data, voxel size and the other fields of the header, without its labels."""
    with mrcfile.open(path) as stored:
        yield ("data",), np.array(stored.data)
        yield ("voxel_size_ang",), np.array([float(stored.voxel_size[axis]) for axis in "xyz"])
        for name in stored.header.dtype.names:
            if name not in ("label", "nlabl"):
                yield ("header", name), np.array(stored.header[name])


def read_png(path: Path | io.BytesIO) -> Leaves:
    """Pixels."""
    yield (), imread(path, format="png")


def read_table(header: list[str], rows: list[list[str]], keys: Keys = ()) -> Leaves:
    """Columns, each as one text, and their order."""
    kept = [name for name in header if name not in LEFT_OUT]
    yield (*keys, "(columns)"), "\n".join(kept)
    yield (*keys, "(rows)"), len(rows)
    for name, values in zip(header, zip(*rows, strict=True), strict=bool(rows)):
        yield (*keys, name), "\n".join(values)


def read_csv(path: Path) -> Leaves:
    """Columns of a comma-separated table."""
    with open(path, newline="") as stream:
        header, *rows = list(csv.reader(stream)) or [[]]
    yield from read_table(header, rows)


def read_star(path: Path) -> Leaves:
    """Columns (or single values) of every block of a STAR file; comments are left out."""
    blocks: dict[str, tuple[list[str], list[list[str]]]] = {}
    header: list[str] = []
    rows: list[list[str]] = []
    for line in map(str.strip, path.read_text().splitlines()):
        if not line or line.startswith("#") or line == "loop_":
            continue
        if line.startswith("data_"):
            header, rows = blocks[line] = [], []
        elif line.startswith("_"):
            name, *value = shlex.split(line, comments=True)
            header.append(name)
            if value:
                rows[:] = [[*(rows[0] if rows else []), *value]]
        else:
            rows.append(shlex.split(line))
    for block, (header, rows) in blocks.items():
        yield from read_table(header, rows, (block,))


def read_json(path: Path) -> Leaves:
    """Leaves of a JSON value."""
    yield from leaves(json.loads(path.read_text()))


def read_jsonl(path: Path) -> Leaves:
    """Leaves of the JSON value in each line."""
    yield from leaves([json.loads(line) for line in path.read_text().splitlines()])


def read_html(path: Path) -> Leaves:
    """The text without rates, and the pixels of each picture in it."""
    text = path.read_text()
    for index, match in enumerate(PICTURE.finditer(text)):
        for _, pixels in read_png(io.BytesIO(base64.b64decode(match[1]))):
            yield ("picture", str(index)), pixels
    yield ("text",), RATE.sub(r"\1", PICTURE.sub("(picture)", text))


def read_txt(path: Path) -> Leaves:
    """The text."""
    yield ("text",), path.read_text()


def read_bytes(path: Path) -> Leaves:
    """The bytes of a file of another kind."""
    yield ("bytes",), hashlib.sha256(path.read_bytes()).hexdigest()


READERS: dict[str, Callable[[Path], Leaves]] = {
    ".npz": read_npz, ".npy": read_npy, ".pt": read_pt, ".mrc": read_mrc, ".mrcs": read_mrc, ".png": read_png,
    ".csv": read_csv, ".star": read_star, ".json": read_json, ".jsonl": read_jsonl, ".html": read_html,
    ".txt": read_txt,
}


@dataclass(frozen=True)
class Words:
    """How names and texts of one checkout's outputs are brought to the common form."""

    renamed: dict[str, str] = field(default_factory=dict)  # old name -> new name
    folders: tuple[str, ...] = ()  # that texts are freed of

    def name(self, text: str, separator: str) -> str:
        """A name: renamed as a whole, or each of its parts."""
        if text in self.renamed:
            return self.renamed[text]
        return separator.join(self.renamed.get(part, part) for part in text.split(separator))

    def text(self, text: str) -> str:
        """A text of one or more lines: folders left out, lines that are old names renamed."""
        for folder in self.folders:
            text = text.replace(folder, "(folder)")
        return "\n".join(self.name(line, "/") for line in text.split("\n")) if self.renamed else text


def digest(leaf: Any, words: Words) -> str:
    """SHA-256 of an array (dtype, shape, bytes) or of a plain value as JSON."""
    if isinstance(leaf, np.ndarray):
        head = f"{leaf.dtype.str} {leaf.shape} ".encode()
        return hashlib.sha256(head + np.ascontiguousarray(leaf).tobytes()).hexdigest()
    if isinstance(leaf, str):
        leaf = words.text(leaf)
    return hashlib.sha256(json.dumps(leaf).encode()).hexdigest()


def contents_of(path: Path, words: Words) -> dict[str, str]:
    """Digest of every entry of a file that is not left out; a name that comes again gets a stroke."""
    read = READERS.get(path.suffix, read_bytes)
    entries: dict[str, str] = {}
    for keys, leaf in read(path):
        if not LEFT_OUT.intersection(keys):
            name = words.name(".".join(keys), ".")
            while name in entries:
                name += "'"
            entries[name] = digest(leaf, words)
    return entries
