"""Tables with one row per particle: latents, clusters, truth. Rows are joined by particle id."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..contract import result_files, run_json
from ..contract.answer import doubt_about
from ..contract.errors import DataError
from ..contract.record import read_record, read_records
from ..contract.records import ClusterRow, StatesSummary
from ..contract.settings import ClusterRun, FullresRun

TRUTH_ID_COLUMNS = ("particle_id", "id")
TRUTH_LABEL_COLUMNS = ("map", "label", "state")
TRUTH_NAME_COLUMN = "map_file"  # what a state is called, where it is there
JUNK = "junk"  # name of images that hold no particle


@dataclass(frozen=True)
class Latents:
    """z of n particles."""

    particle_id: np.ndarray  # (n,) int64
    z: np.ndarray  # (n, k) float32
    half_set: np.ndarray  # (n,) uint8, 1 or 2


@dataclass(frozen=True)
class Clusters:
    """The clustering of n particles."""

    particle_id: np.ndarray  # (n,) int64
    label: np.ndarray  # (n,) int64, -1 = unassigned
    probability: np.ndarray  # (n,)
    umap: np.ndarray  # (n, 2); (n, 0) after states

    @property
    def labels(self) -> list[int]:
        """Labels in use: 0, 1, ..., then -1 where some are unassigned."""
        in_order = sorted(set(self.label.tolist()))
        return [x for x in in_order if x >= 0] + [x for x in in_order if x < 0]


@dataclass(frozen=True)
class Truth:
    """The true state of n particles."""

    particle_id: np.ndarray  # (n,) int64
    label: np.ndarray  # (n,) int64 into names
    names: list[str]


def read_latents(embedding_dir: str | Path) -> Latents:
    """Latents of an embed folder. Raises DataError."""
    path = Path(embedding_dir) / result_files.LATENTS_NPZ
    try:
        stored = result_files.read_npz(path)
        latents = Latents(stored["particle_id"], stored["z"], stored["half_set"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the latents cannot be read ({error}).",
                        "Give the --out folder of a finished embed.") from error
    if latents.z.ndim != 2 or not len(latents.particle_id) == len(latents.z) == len(latents.half_set):
        raise DataError(f"{path}: {len(latents.particle_id)} ids for z of shape {latents.z.shape}.",
                        "Run embed again.")
    if len(latents.z) == 0:
        raise DataError(f"{path}: there are 0 particles.", "Embed at least 1 particle.")
    bad = np.flatnonzero(~np.isfinite(latents.z).all(axis=1))
    if len(bad):
        raise DataError(f"{path}: z of particle {latents.particle_id[bad[0]]} is not finite "
                        f"({len(bad)} such particles).", "Train again with smaller learning rates.")
    _check_unique(latents.particle_id, path)
    return latents


def read_clusters(clusters_dir: str | Path) -> Clusters:
    """Table ``clusters.csv`` of a cluster folder. Raises DataError."""
    path = Path(clusters_dir) / result_files.CLUSTERS_CSV
    try:
        axes = [name for name in ("umap_1", "umap_2") if name in result_files.csv_header(path)]
        table = result_files.read_columns(path, {"particle_id": int, "label": int, "probability": float,
                                                 **dict.fromkeys(axes, float)})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the clusters cannot be read ({error}).",
                        "Give the --out folder of a finished cluster or states.") from error
    n = len(table["particle_id"])
    if n == 0:
        raise DataError(f"{path}: there are 0 particles.", "Run cluster again.")
    _check_unique(table["particle_id"], path)
    return Clusters(table["particle_id"], table["label"], table["probability"],
                    np.stack([table[name] for name in axes], axis=1) if axes else np.empty((n, 0)))


def read_cluster_rows(clusters_dir: str | Path) -> list[ClusterRow]:
    """Rows of ``clusters.json``. Raises DataError."""
    return read_records(ClusterRow, Path(clusters_dir) / result_files.CLUSTERS_JSON, "cluster or states")


def groups_in(clusters_dir: str | Path) -> Literal["clusters", "states", "classes"]:
    """What the groups of a results folder are, by its ``clusters.json``. Raises DataError."""
    rows = read_cluster_rows(clusters_dir)
    if any(row.state is not None for row in rows):
        return "states"
    return "classes" if any(row.in_plane is not None for row in rows) else "clusters"


def doubt_of(states_dir: str | Path) -> str:
    """What states say against themselves; of those at full resolution the search that they began with says it.

    "" for groups of another kind, and where nothing is known. Raises DataError.
    """
    folder = Path(states_dir)
    if not (folder / result_files.STATES_JSON).exists() and (folder / result_files.FULLRES_JSON).exists():
        run = run_json.read_run(folder / result_files.RUN_JSON)
        folder = Path(run.states_dir) if isinstance(run, FullresRun) else folder
    path = folder / result_files.STATES_JSON
    return doubt_about(read_record(StatesSummary, path, "states")) if path.exists() else ""


def latents_of_clusters(clusters_dir: str | Path) -> tuple[Clusters, Latents]:
    """A clustering and the latents it was made from, row by row the same particles."""
    clusters = read_clusters(clusters_dir)
    run = run_json.read_run(Path(clusters_dir) / result_files.RUN_JSON)
    if not isinstance(run, ClusterRun):
        raise DataError(f"{clusters_dir}: its run.json is a '{run.command}', not a clustering.",
                        "Give the --out folder of cluster.")
    latents = read_latents(run.embedding_dir)
    rows = rows_of(latents.particle_id, clusters.particle_id, f"{run.embedding_dir}/{result_files.LATENTS_NPZ}")
    return clusters, Latents(latents.particle_id[rows], latents.z[rows], latents.half_set[rows])


def read_truth(path: str | Path) -> Truth:
    """Columns id (or particle_id) and map (or label, state) of a ``truth.csv``; junk is last. Raises DataError."""
    try:
        rows = result_files.read_csv(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the truth cannot be read ({error}).",
                        "Give the truth.csv that simulate writes.") from error
    columns = list(rows[0]) if rows else []
    ids = next((name for name in TRUTH_ID_COLUMNS if name in columns), None)
    state = next((name for name in TRUTH_LABEL_COLUMNS if name in columns), None)
    if ids is None or state is None:
        raise DataError(f"{path}: it has the columns {', '.join(map(str, columns)) or '(none)'}.",
                        f"It needs one of {', '.join(TRUTH_ID_COLUMNS)} and one of {', '.join(TRUTH_LABEL_COLUMNS)}, "
                        "separated by commas, and at least one row.")
    _check_truth_rows(path, rows, ids, state)
    shown = {row[state]: row.get(TRUTH_NAME_COLUMN, row[state]) for row in rows}
    states = sorted(shown, key=lambda x: (JUNK in (x, shown[x]), not x.isdecimal(), int(x) if x.isdecimal() else 0, x))
    index = {name: i for i, name in enumerate(states)}
    particle_id = np.array([int(row[ids]) for row in rows], np.int64)
    _check_unique(particle_id, path)
    return Truth(particle_id, np.array([index[row[state]] for row in rows], np.int64),
                 [shown[name] for name in states])


def _check_truth_rows(path: str | Path, rows: list[dict[str, str]], ids: str, state: str) -> None:
    """Refuse rows of another length, ids that are no numbers, empty labels and labels that are one number."""
    written: dict[int, str] = {}
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise DataError(f"{path}: row {number} has another number of values than the header.",
                            "Put a value that holds a comma into quotes.")
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", row[ids]) or not -2 ** 63 <= int(row[ids]) < 2 ** 63:
            raise DataError(f"{path}: {ids} is {row[ids]!r} in row {number}, it must be a whole number.",
                            "Give every particle its own whole number.")
        if not row[state]:
            raise DataError(f"{path}: {state} is empty in row {number} (particle {row[ids]}).",
                            f"Name its state, or {JUNK} for an image without a particle, or leave the row out.")
        if row[state].isascii() and row[state].isdigit():
            first = written.setdefault(int(row[state]), row[state])
            if first != row[state]:
                raise DataError(f"{path}: {state} is {first} and {row[state]}, which are one number.",
                                "Write each state in one way.")


def rows_of(table_ids: np.ndarray, wanted_ids: np.ndarray, where: str | Path) -> np.ndarray:
    """Row of every wanted id in a table; every one must be there. Raises DataError."""
    order = np.argsort(table_ids)
    place = np.searchsorted(table_ids[order], wanted_ids)
    place = np.minimum(place, len(order) - 1)
    rows = order[place]
    missing = np.flatnonzero(table_ids[rows] != wanted_ids)
    if len(missing):
        raise DataError(f"{where}: particle {wanted_ids[missing[0]]} is not there "
                        f"({len(missing)} of {len(wanted_ids)} are missing).",
                        "Give the files that belong to the same particles.")
    return rows


def _check_unique(particle_id: np.ndarray, path: str | Path) -> None:
    ids, counts = np.unique(particle_id, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: particle {ids[counts > 1][0]} is there {counts.max()} times.",
                        "Give every particle its own id.")
