"""One colour and one name per cluster or state, the same in every picture.

Standard library only, Python 3.8 syntax: the Scipion viewers import this file.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

UNASSIGNED_COLOUR = "#9e9e9e"
# Okabe and Ito 2008, told apart by colour-blind readers too (yellow darker, to be seen on white); then their darker and
# lighter twins
CLUSTER_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900", "#000000",
    "#00395a", "#8a5f00", "#004f3a", "#7d3f62", "#1f7fb5", "#7a3500", "#5f5700", "#5b5b5b",
    "#8fd3f4", "#ffd27f", "#7fd6bd", "#f0c4dc",
)
# states, true or found, are no clusters: other colours, those of Paul Tol's "muted" set; then their lighter and darker
# twins
STATE_COLOURS = (
    "#332288", "#cc6677", "#117733", "#ddaa33", "#44aa99", "#882255", "#88ccee", "#999933", "#aa4499",
    "#8c7fd0", "#7a2936", "#63c287", "#8a6200", "#1d5c52", "#cf7ba6", "#3a7f9f", "#55551a", "#ddaad4",
)


def state_colour(state: int) -> str:
    """Colour of a state as #rrggbb; grey for what is set aside (-1). Repeats after 18 states."""
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


def class_name(label: int) -> str:
    """What a class in the plane is called in pictures."""
    return "junk" if label < 0 else f"class {label + 1}"


CLUSTERS, STATES = Naming(cluster_name, cluster_colour), Naming(state_name, state_colour)
CLASSES = Naming(class_name, cluster_colour)
GROUPS = {"clusters": CLUSTERS, "states": STATES, "classes": CLASSES}  # by what several of them are called
UNASSIGNED = -1  # label of particles in no cluster; in the results of states: junk, set aside
