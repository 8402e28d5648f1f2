"""STAR files as blocks of columns whose values stay the bytes that stand in the file.

An own reader and writer, and not the ``starfile`` package, for one reason: what we hand back to RELION must be
what RELION wrote. ``starfile`` turns columns into numbers (``001`` becomes 1, 2.5e-07 becomes 0.000000, ids of 19
digits pass through float64), replaces ``'`` by ``"``, cuts names at ``#``, and drops rows without a word where two
blocks have one name or a value begins with ``data_``. Here every line that is neither blank nor a comment is used
or refused with its number.

Rules (Hall & Spadaccini, J. Chem. Inf. Comput. Sci. 34 (1994), as RELION uses them: one line per row):

* values are separated by ASCII blanks; one that starts with a quote ends at that quote before a blank;
* ``#`` starts a comment at the start of a line, and after a row that is already whole;
* ``data_NAME`` alone on its line starts a block, except as the only value of a row of one column;
* a block holds one loop or pairs of key and value. Line ends are LF, CRLF or CR; bytes need not be UTF-8.
"""
from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract.errors import DataError
from .stacks import unreadable

ROWS_AT_ONCE = 50_000  # split into values together, which bounds the memory of a large file
_QUOTES = b"\"'"
_VALUE = re.compile(rb"""'(?:[^']|'(?!\s|$))*'(?=\s|$)|"(?:[^"]|"(?!\s|$))*"(?=\s|$)|\S+""")
_BARE = re.compile(rb"(?i:(?!data_|loop_)[^\s\"'#_;]\S*)")  # a value that needs no quotes
_IS_VALUE = bytes(character not in b" \t\n\r\x0b\x0c" for character in range(256))
_ONE_VALUE = "Each row needs as many values as the loop has columns, on one line."


@dataclass(frozen=True)
class StarBlock:
    """One block; every column ``(n,)`` of bytes as they stand in the file, quotes included."""

    name: str  # without data_
    columns: dict[str, np.ndarray]  # by label, without the leading _
    is_loop: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __contains__(self, label: str) -> bool:
        return label in self.columns

    def text(self, label: str) -> list[str]:
        """Values as text, without quotes; bytes that are not UTF-8 as the file system has them (surrogateescape)."""
        return decoded(self.columns[label])

    def rows(self, chosen: np.ndarray) -> StarBlock:
        """Some rows, by number or mask."""
        return StarBlock(self.name, {label: values[chosen] for label, values in self.columns.items()}, self.is_loop)

    def changed(self, new: dict[str, np.ndarray], without: Sequence[str] = ()) -> StarBlock:
        """The block with columns replaced or added, and others left out."""
        kept = {label: values for label, values in self.columns.items() if label not in without}
        return StarBlock(self.name, {**kept, **new}, self.is_loop)


def decoded(values: np.ndarray) -> list[str]:
    """Text of ``(n,)`` bytes, without quotes."""
    if len(values) == 0:
        return []
    texts = b"\n".join(values.tolist()).decode("utf-8", "surrogateescape").split("\n")
    return [text[1:-1] if text[:1] in ("'", '"') and len(text) > 1 and text[-1] == text[0] else text
            for text in texts]


def encoded(texts: Sequence[str]) -> np.ndarray:
    """``(n,)`` bytes of texts, quoted where STAR needs it."""
    raw = [text.encode("utf-8", "surrogateescape") for text in texts]
    if not raw:
        return np.empty(0, "S1")
    return np.array([value if _BARE.fullmatch(value) else _quoted(value) for value in raw])


def _quoted(value: bytes) -> bytes:
    quote = b'"' if not re.search(rb'"\s', value) else b"'"
    return quote + value + quote


def read_blocks(star: Path) -> tuple[list[StarBlock], str]:
    """All blocks of a STAR file in order, and the SHA-256 of its bytes. Raises DataError."""
    try:
        content = star.read_bytes()
    except OSError as error:
        raise unreadable("star file", star, error) from error
    digest = hashlib.sha256(content).hexdigest()
    content = content.removeprefix(codecs.BOM_UTF8)
    if b"\0" in content:
        raise DataError(f"{star}: cannot be read as a STAR file (it holds zero bytes: no text, or UTF-16).",
                        "Give a RELION star file, saved as plain text.")
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    blocks = list(_Reader(star, lines).blocks())
    return blocks, digest


def count_rows(star: Path, label: str) -> int:
    """Rows of the blocks that have a column, counted by their lines and not read. Raises OSError."""
    column, n, counted = b"_" + _raw(label), 0, False
    with open(star, "rb") as stream:
        for line in stream:
            words = line.split(None, 1)
            if not words or words[0][:1] == b"#":
                continue
            if words[0][:5].lower() == b"data_":
                counted = False
            elif words[0] == column:
                counted = True
            elif counted and words[0][:1] != b"_":
                n += 1
    return n


class _Reader:
    """Walks over the lines of one file."""

    def __init__(self, star: Path, lines: list[bytes]) -> None:
        self.star, self.lines, self.at = star, lines, 0

    def error(self, line: int, what: str, hint: str = _ONE_VALUE) -> DataError:
        return DataError(f"{self.star}: cannot be read as a STAR file (line {line + 1}: {what}).", hint)

    def skip(self) -> bytes:
        """Go to the next line that is neither blank nor a comment; returns it, stripped (empty at the end)."""
        while self.at < len(self.lines):
            line = self.lines[self.at].strip()
            if line and line[:1] != b"#":
                return line
            self.at += 1
        return b""

    def blocks(self) -> Iterator[StarBlock]:
        started: dict[str, int] = {}
        while line := self.skip():
            values = line.split()
            if values[0][:5].lower() != b"data_" or (len(values) > 1 and values[1][:1] != b"#"):
                raise self.error(self.at, f"{_shown(line)} stands in no block", "A block begins with data_NAME.")
            name = values[0][5:].decode("utf-8", "surrogateescape")
            if name in started:
                raise self.error(self.at, f"the block data_{name} was there before, in line {started[name] + 1}",
                                 "Join star files with relion_star_handler --combine, not by writing one behind "
                                 "the other.")
            started[name] = self.at
            self.at += 1
            yield self.block(name)

    def block(self, name: str) -> StarBlock:
        line = self.skip()
        if line.split()[:1] and line.split()[0].lower() == b"loop_":
            self.at += 1
            return self.loop(name)
        columns: dict[str, np.ndarray] = {}
        while (line := self.skip())[:1] == b"_":
            values = _values(line, 2) or _values(line, 1)
            if values is None:
                raise self.error(self.at, f"{_shown(line)} is no pair of a label and a value",
                                 "Put a value with blanks into quotes.")
            self.add(columns, values[0], np.array([values[1] if len(values) > 1 else b'""']))
            self.at += 1
        if line.lower().startswith(b"loop_") and columns:
            raise self.error(self.at, f"a loop in block data_{name}, which holds single values",
                             "A block of a RELION star file holds one table.")
        return StarBlock(name, columns, is_loop=False)

    def add(self, columns: dict[str, np.ndarray], label: bytes, values: np.ndarray) -> None:
        name = label[1:].decode("utf-8", "surrogateescape")
        if name in columns:
            raise self.error(self.at, f"the column _{name} is there twice", "Keep one of them.")
        columns[name] = values

    def loop(self, name: str) -> StarBlock:
        columns: dict[str, np.ndarray] = {}
        while (line := self.skip())[:1] == b"_":
            values = line.split()
            if len(values) > 1 and values[1][:1] != b"#":
                break  # a row whose first value begins with _
            self.add(columns, values[0], np.empty(0, "S1"))
            self.at += 1
        parts: list[list[np.ndarray]] = []
        while part := self.plain_columns(len(columns)) or [np.array(column) for column in
                                                           zip(*self.rows(len(columns), name), strict=True)]:
            parts.append(part)
        for i, label in enumerate(columns):
            columns[label] = np.concatenate([part[i] for part in parts]) if parts else columns[label]
        return StarBlock(name, columns)

    def plain_columns(self, n: int) -> list[np.ndarray]:
        """The columns of the next lines up to a blank one, if all are n values without quotes or comments; else []."""
        self.skip()
        end = min(len(self.lines), self.at + ROWS_AT_ONCE)
        with contextlib.suppress(ValueError):
            end = self.lines.index(b"", self.at, end)
        lines = self.lines[self.at:end]
        text = b"\n".join(lines)
        if n < 2 or not lines or b"'" in text or b'"' in text or not (_value_counts(text) == n).all():
            return []
        values = text.split()
        if any(value[:1] == b"#" for value in values[::n]):
            return []
        self.at = end
        return [np.array(values[i::n]) for i in range(n)]

    def rows(self, n: int, name: str) -> list[list[bytes]]:
        """The next rows of a loop of n columns, at most ``ROWS_AT_ONCE``."""
        rows: list[list[bytes]] = []
        while self.at < len(self.lines) and len(rows) < ROWS_AT_ONCE:
            line = self.lines[self.at]
            values = line.split()
            if not values or values[0][:1] == b"#":
                self.at += 1
                continue
            may_be_quoted = (b"'" in line or b'"' in line) and any(value[:1] in _QUOTES for value in values)
            if len(values) != n or n == 1 or may_be_quoted:
                if self.ends(values, n, name):
                    break
                row = _values(line, n)
                if row is None:
                    raise self.error(self.at, f"{len(_VALUE.findall(line))} values in a row of block data_{name}, "
                                              f"which has {n} columns")
                values = row
            rows.append(values)
            self.at += 1
        return rows

    def ends(self, values: list[bytes], n: int, name: str) -> bool:
        """Whether a line of a loop begins another block."""
        word = values[0][:5].lower()
        alone = len(values) == 1 or values[1][:1] == b"#"
        if not alone or word not in (b"data_", b"loop_") or (word == b"loop_" and len(values[0]) > 5):
            return False
        if word == b"loop_" and n != 1:
            raise self.error(self.at, f"a second loop in block data_{name}",
                             "A block of a RELION star file holds one table.")
        if n != 1:
            return True
        at, self.at = self.at, self.at + 1
        following, self.at = self.skip(), at
        return word == b"data_" and (not following or following[:1] == b"_" or following.lower().startswith(b"loop_"))


def _value_counts(text: bytes) -> np.ndarray:
    """How many values each line of a text has."""
    characters = np.frombuffer(text, np.uint8)
    is_value = np.frombuffer(text.translate(_IS_VALUE), bool)
    starts = is_value.copy()
    starts[1:] &= ~is_value[:-1]
    line_starts = np.r_[0, np.flatnonzero(characters == ord("\n")) + 1]
    if line_starts[-1] == len(characters):  # the last line is empty
        return np.r_[np.add.reduceat(starts, line_starts[:-1], dtype=np.int64), 0]
    return np.add.reduceat(starts, line_starts, dtype=np.int64)


def _values(line: bytes, n: int) -> list[bytes] | None:
    """The n values of a line: with quotes or without, whole or up to a comment; None where no way gives n."""
    for values in (_VALUE.findall(line), line.split()):
        if len(values) == n:
            return values
        if len(values) > n and values[n][:1] == b"#":
            return values[:n]
    return None


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", "replace"))


def write_blocks(blocks: Sequence[StarBlock], path: Path) -> None:
    """Write blocks as a STAR file, complete or not at all; with a block of optics as RELION 3.1 marks its files."""
    version = b"\n# version 30001\n" if any(block.name == "optics" for block in blocks) else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    with open(part, "wb") as stream:
        for block in blocks:
            stream.write(version + b"\ndata_" + _raw(block.name) + b"\n\n")
            if block.is_loop:
                labels = [b"_%s #%d" % (_raw(label), i) for i, label in enumerate(block.columns, 1)]
                stream.write(b"\n".join([b"loop_", *labels]) + b"\n")
                for start in range(0, len(block), ROWS_AT_ONCE):
                    columns = [values[start:start + ROWS_AT_ONCE].tolist() for values in block.columns.values()]
                    stream.write(b"\n".join(map(b" ".join, zip(*columns, strict=True))) + b"\n")
            else:
                stream.writelines(b"_%s %s\n" % (_raw(label), values[0]) for label, values in block.columns.items())
            stream.write(b"\n")
    os.replace(part, path)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
