"""Records of results for the tests: every field has a value, those that a test is about are given."""
from dataclasses import replace

from vaegan_engine.contract.map_records import HalvesProof, MapComparison, StateFigures
from vaegan_engine.contract.records import (
    Clustering,
    ClusterRow,
    HalfMaps,
    HalvesRow,
    JunkNumbers,
    LandscapeNumbers,
    Separation,
    Shells,
    StatesSummary,
    Valley,
)

FALLING = [1 - k / 8 for k in range(9)]


def comparison(fsc=None, **fields):
    """Two maps in a box of 16."""
    return replace(MapComparison(FALLING if fsc is None else fsc, 12.34, 0.73, True, 18.0, 0.5, True), **fields)


def halves_row(cluster, halves, n=40):
    """Two halves of a cluster that were compared."""
    files = [f"maps/cluster_{cluster:02d}_half{half}.mrc" for half in (1, 2)]
    return HalvesRow(cluster, n, n, compared=HalfMaps(4.5, 0.9, False, files, halves))


def proof(shared_shell=1, **fields):
    """Of what half maps claim."""
    return replace(HalvesProof(FALLING, FALLING, shared_shell, 24.0, 10.0, 14.5, [0.0, 0.0, 1.0], True, 13.0), **fields)


def state_row(label, n_particles, fraction, halves=None, proven=None, **figures):
    """A state of ``clusters.json``."""
    stem = f"maps/cluster_{label:02d}"
    state = StateFigures([f"{stem}_half1.mrc", f"{stem}_half2.mrc"], 4.5, 1.0, False, None, [], halves or comparison(),
                         proven or proof())
    return ClusterRow(label, n_particles, fraction, [], f"{stem}.mrc", label, state=replace(state, **figures))


def cluster_row(label, n_particles=100, fraction=0.5):
    """A cluster of ``clusters.json``."""
    return ClusterRow(label, n_particles, fraction, [], f"maps/cluster_{label:02d}.mrc", label)


def separation(states=(0, 1), **fields):
    """Two states that plainly differ."""
    return replace(Separation(list(states), 100, 50, 0.98, 0.04, 312.4, 0.01, 9.0), **fields)


def junk_numbers(n_junk=0, fraction=0.0, **fields):
    """What was set aside."""
    return replace(JunkNumbers(n_junk, fraction, 3, 1.3, 1.0, n_junk, 0, 0.0), **fields)


def landscape(n_states=1, **fields):
    """Of one state's images."""
    pairs = [Valley([0, 1], 40.0, 33.0, 0.4)] * (n_states > 1)
    return replace(LandscapeNumbers(100, n_states, n_states, [5.0, 3.0], 0.5, 0, 0.0, [50] * n_states, pairs), **fields)


def states_summary(**fields):
    """``states.json`` of two states."""
    return replace(StatesSummary(2, "2 states", Shells(6.0, 8.0, 10.0), [], 123.45, 3.0, 0.0, 0.08, [], [],
                                 [separation()], None), **fields)


def clustering(**fields):
    """``clustering.json`` of three clusters by density."""
    return replace(Clustering("hdbscan", 200, 3, 0.05, 0.03, []), **fields)
