"""One colour and one name per cluster or state, the same in every picture.

Standard library only, Python 3.8 syntax: the Scipion viewers import this file.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

UNASSIGNED_COLOUR = "#9e9e9e"
# ten hues that differ in lightness too, then their darker twins
CLUSTER_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#5b5b5b",
    "#0d3b5c", "#9c4a00", "#145214", "#7a1516", "#4f2f70", "#4a2c25", "#8f2f75", "#636400", "#0a616b", "#2b2b2b",
)
# states, true or found, are no clusters: other colours
STATE_COLOURS = ("#111111", "#00b3a4", "#d4a800", "#b300b3", "#7a8c00", "#005fa8", "#ff6b6b", "#6d5acf")


def state_colour(state: int) -> str:
    """Colour of a state as #rrggbb; grey for what is set aside (-1). Repeats after 8 states."""
    return UNASSIGNED_COLOUR if state < 0 else STATE_COLOURS[state % len(STATE_COLOURS)]


def cluster_colour(label: int) -> str:
    """Colour of a cluster as #rrggbb; grey for the unassigned (-1). Repeats after 20 clusters."""
    return UNASSIGNED_COLOUR if label < 0 else CLUSTER_COLOURS[label % len(CLUSTER_COLOURS)]


def cluster_name(label: int) -> str:
    """What a cluster is called in pictures; numbers start at 1 as Scipion's classes do."""
    return "unassigned" if label < 0 else f"cluster {label + 1}"


def state_name(label: int) -> str:
    """What a state is called in pictures; numbers start at 1 as Scipion's classes do."""
    return "set aside" if label < 0 else f"state {label + 1}"


@dataclass(frozen=True)
class Naming:
    """How groups of one kind are called and coloured, by label."""

    name: Callable[[int], str]
    colour: Callable[[int], str]


CLUSTERS, STATES = Naming(cluster_name, cluster_colour), Naming(state_name, state_colour)
UNASSIGNED = -1  # label of particles in no cluster; in the results of states: junk, set aside
