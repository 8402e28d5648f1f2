"""Which one of the processes of a run this is, by the variables that ``torchrun`` and ``launch`` set.

RANK and WORLD_SIZE, of all machines; LOCAL_RANK and LOCAL_WORLD_SIZE, of this one.
"""
from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """This process among those of the run, and among those of them on this machine."""

    number: int = 0
    count: int = 1
    number_here: int = 0
    count_here: int = 1


def place() -> Place:
    """Where this process was started as one of several; alone, it is the first of one."""
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
    return Place(*(int(os.environ[name]) for name in names)) if all(name in os.environ for name in names) else Place()


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return place().number == 0
