"""Which particles a user means: cluster numbers and particle ids as text, to ids.

Numbers are those of the pictures and summaries: cluster l + 1 is the engine's label l. A file of particle ids is what
the lasso of the UMAP and the report write: whole numbers parted by spaces, commas or new lines; lines that
begin with # are left out.
"""
import re
from pathlib import Path
from typing import Iterable, List, NamedTuple, Set

import numpy as np

from ..engine.vaegan_engine.contract.labels import UNASSIGNED, cluster_name
from .from_engine import Clusters

UNASSIGNED_WORD = cluster_name(UNASSIGNED)
SEPARATORS = re.compile(r"[\s,;]+")
NUMBER, RANGE = re.compile(r"\d{1,9}"), re.compile(r"(\d{1,9})-(\d{1,9})")
MAX_DIGITS = 18  # of a particle id: larger ones are no 64-bit numbers


class SelectionError(ValueError):
    """A selection that cannot be read or names what is not there; one sentence and a remedy."""


class Selection(NamedTuple):
    """Ids to take, and how many of those named are disabled in the set and so left out."""

    ids: List[int]
    n_disabled: int


def parse_cluster_labels(text: str, present: Iterable[int]) -> Set[int]:
    """Engine labels that "1 3-5 unassigned" means, out of those `present`. Raises SelectionError."""
    known, named = set(map(int, present)), set()
    names = ", ".join(UNASSIGNED_WORD if label == UNASSIGNED else str(label + 1)
                      for label in sorted(known, key=lambda label: (label == UNASSIGNED, label)))
    for word in filter(None, SEPARATORS.split(text.strip())):
        span = RANGE.fullmatch(word)
        if word.lower() == UNASSIGNED_WORD:
            labels = [UNASSIGNED]
        elif span:
            first, last = int(span.group(1)) - 1, int(span.group(2)) - 1
            if last > max(known, default=UNASSIGNED):  # before a list of that many is made
                labels = []
            else:
                labels = list(range(first, last + 1))
        elif NUMBER.fullmatch(word):
            labels = [int(word) - 1]
        else:
            raise SelectionError(f"Clusters: '{word}' is not a number, a range such as 2-4 or '{UNASSIGNED_WORD}'. "
                                 f"There are {names}.")
        for label in labels or [-2]:
            if label not in known or (label == UNASSIGNED and word.lower() != UNASSIGNED_WORD):
                raise SelectionError(f"Clusters: '{word}' names a cluster that is not there. There are {names}.")
        named.update(labels)
    if not named:
        raise SelectionError(f"Clusters is empty. Give one or more of {names}.")
    return named


def read_particle_ids(path: str) -> Set[int]:
    """Ids in a text file. Raises SelectionError."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()  # editors may put a mark before the first id
    except (OSError, UnicodeDecodeError) as error:
        raise SelectionError(f"{path}: the particle ids cannot be read ({error}). "
                             "Give a text file of whole numbers.") from error
    ids: Set[int] = set()
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("#"):
            continue
        for word in filter(None, SEPARATORS.split(line)):
            if not (word.isdecimal() and len(word) <= MAX_DIGITS):
                raise SelectionError(f"{path}, line {number}: '{word[:40]}' is not a particle id. "
                                     "Ids are whole numbers parted by spaces, commas or new lines.")
            ids.add(int(word))
    if not ids:
        raise SelectionError(f"{path}: there is no particle id in it. Select particles first.")
    return ids


def ids_of_clusters(clusters: Clusters, labels: Iterable[int], min_probability: float) -> Set[int]:
    """Particles with one of `labels`; those of clusters only from `min_probability` on (the unassigned have none)."""
    label, wanted = clusters.label, np.isin(clusters.label, sorted(labels))
    sure = (clusters.probability >= min_probability) | (label == UNASSIGNED)
    return set(clusters.particle_id[wanted & sure].tolist())


def select(wanted: Set[int], known: Set[int], disabled: Set[int], invert: bool, what: str) -> Selection:
    """Enabled ids of the set that are (or, with `invert`, are not) in `wanted`, rising.

    known: all ids of the set; disabled: those of them that are disabled. Raises SelectionError.
    """
    strangers = sorted(wanted - known)
    if strangers:
        raise SelectionError(f"{what}: {len(strangers)} of {len(wanted)} particle ids are not in the particles, the "
                             f"first is {strangers[0]}. Give the particles that the clusters were made from.")
    named = known - wanted if invert else wanted
    ids = sorted(named - disabled)
    if not ids:
        raise SelectionError(f"{what}: no enabled particle is left in the selection. Select others.")
    return Selection(ids, len(named & disabled))
