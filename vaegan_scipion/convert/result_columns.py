"""What a run knows of each particle, by the names of its tables' columns, and columns of its particles."""
import os
from typing import Any, Dict, List, Optional

import numpy as np

from ..constants import EMBEDDING_DIR
from ..engine.vaegan_engine.contract import result_files
from .columns import ColumnError, read_column
from .from_engine import Clusters, z_std
from .selection import SelectionError

ALL_STD = "z_std"
NO_VALUES = ("particle_id", "junk_reason", "label")  # label: groups are selected by their numbers, from 1


def known_columns(run: Any) -> List[str]:
    """Columns of the tables of a run of clusters, states or classes."""
    names = [name for table in _tables(run) for name in result_files.csv_header(table)]
    latents = _latents_path(run)
    if latents:
        stored = result_files.read_npz(latents)
        numbers = range(1, stored["z"].shape[1] + 1)
        names += [f"z_{k}" for k in numbers]
        names += [ALL_STD, *(f"z_{k}_std" for k in numbers)] if "precision" in stored else []
    return list(dict.fromkeys(name for name in names if name not in NO_VALUES))


def read_values(run: Any, name: str) -> Dict[int, float]:
    """Particle id -> number of one column: of the run's tables, a latent coordinate, or one of its particles.

    Particles that have no value are left out. Raises SelectionError.
    """
    known = known_columns(run)
    if name in known:
        numbers = _latent(run, name) if name.startswith("z_") else _of_tables(run, name)
        if not numbers:
            raise SelectionError(f"No particle of this run has a value of '{name}'. Choose another coordinate.")
        return numbers
    try:
        values = read_column(run.getParticlesPointer().get(), name)
    except ColumnError as error:
        raise SelectionError(f"{error} This run knows {', '.join(known)} too.") from error
    given = {i: _number(value) for i, value in values.items()}
    numbers = {i: value for i, value in given.items() if value is not None}
    if not numbers:
        raise SelectionError(f"The column '{name}' holds no numbers. Choose another one.")
    return numbers


def ids_in_range(values: Dict[int, float], low: Optional[float], high: Optional[float]) -> set:
    """Particles whose value is from `low` to `high`, both of them too; None: no limit."""
    return {i for i, value in values.items()
            if (low is None or value >= low) and (high is None or value <= high)}


def of_groups(values: Dict[int, float], clusters: Clusters) -> Dict[int, float]:
    """The values of the particles that belong to a group: none of those that were set aside."""
    kept = set(clusters.particle_id[clusters.label >= 0].tolist())
    return {i: value for i, value in values.items() if i in kept}


def _tables(run: Any) -> List[str]:
    folder = run.getClustersDir()
    paths = [os.path.join(folder, name) for name in (result_files.PARTICLES_CSV, result_files.CLUSTERS_CSV)]
    return [path for path in paths if os.path.exists(path)]


def _latents_path(run: Any) -> str:
    path = run._getExtraPath(EMBEDDING_DIR, result_files.LATENTS_NPZ)
    return path if os.path.exists(path) else ""


def _latent(run: Any, name: str) -> Dict[int, float]:
    """A coordinate z_1, its standard deviation z_1_std, or the root of the mean variance of all, z_std."""
    stored = result_files.read_npz(_latents_path(run))
    if name == ALL_STD:
        values = np.sqrt((z_std(stored) ** 2).mean(axis=1))
    elif name.endswith("_std"):
        values = z_std(stored)[:, int(name[2:-len("_std")]) - 1]
    else:
        values = stored["z"][:, int(name[2:]) - 1]
    return dict(zip(stored["particle_id"].tolist(), values.tolist()))


def _of_tables(run: Any, name: str) -> Dict[int, float]:
    table = next(path for path in _tables(run) if name in result_files.csv_header(path))
    rows = result_files.read_columns(table, {"particle_id": int, name: str})
    values_by_id = {i: _number(value) for i, value in zip(rows["particle_id"].tolist(), rows[name].tolist())}
    return {i: value for i, value in values_by_id.items() if value is not None}


def _number(value: Any) -> Optional[float]:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
