"""Which one of the processes of a run this is, by the variables that ``torchrun`` and ``launch`` set.

RANK and WORLD_SIZE, of all machines; LOCAL_RANK and LOCAL_WORLD_SIZE, of this one.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NAMES = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"


@dataclass(frozen=True)
class Place:
    """This process among those of the run, and among those of them on this machine."""

    number: int = 0
    count: int = 1
    number_here: int = 0
    count_here: int = 1


def place() -> Place:
    """Where this process was started as one of several; alone, it is the first of one."""
    return Place(*(int(os.environ[name]) for name in _NAMES)) if all(name in os.environ for name in _NAMES) else Place()


@contextmanager
def as_first_of(count: int) -> Iterator[None]:
    """Within, a process that is alone has the cores and the memory of the first of ``count`` on this machine."""
    if count == 1 or place().count > 1:
        yield
        return
    os.environ.update(zip(_NAMES, ("0", str(count)) * 2, strict=True))
    try:
        yield
    finally:
        for name in _NAMES:
            del os.environ[name]


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return place().number == 0
