"""Reference maps in the box of a run, and the agreement of a map with them."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...contract import result_files
from ...contract.errors import DataError
from ...data.image_preparation import fourier_matrix
from ...data.mrc_files import read_map
from ...data.particle_tables import JUNK


@dataclass(frozen=True)
class Reference:
    """A map to compare with, in the run's box."""

    name: str
    map: np.ndarray  # (d, d, d) float32


def resampled(array: np.ndarray, voxel_size_ang: float, box_px: int, new_voxel_size_ang: float) -> np.ndarray:
    """A map ``(D, D, D)`` in another box and voxel size, its centre staying at ``d // 2``.

    The field of view is cut (or filled with zeros) to ``d * new voxel``, then Fourier-cropped.
    Raises DataError where the new voxels are smaller than the old ones.
    """
    field_px = round(box_px * new_voxel_size_ang / voxel_size_ang)
    if field_px < box_px:
        raise DataError(f"its voxels are {voxel_size_ang:g} A wide, those of the run {new_voxel_size_ang:g}.",
                        "Give a reference with voxels no larger than the run's.")
    old, cut = len(array), min(len(array), field_px)
    field = np.zeros((field_px,) * 3, np.float64)
    source = slice(old // 2 - cut // 2, old // 2 - cut // 2 + cut)
    target = slice(field_px // 2 - cut // 2, field_px // 2 - cut // 2 + cut)
    field[target, target, target] = array[source, source, source]
    matrix = fourier_matrix(field_px, box_px)
    return np.einsum("ai,bj,ck,ijk->abc", matrix, matrix, matrix, field, optimize=True).astype(np.float32)


def read_references(paths: list[str], truth_csv: str | Path, box_px: int, voxel_size_ang: float) -> list[Reference]:
    """The maps given, or the phantom's states where ``simulation.json`` beside the truth names it."""
    if paths:
        made = []
        for path, name in zip(paths, distinct_names(paths), strict=True):
            array, size = read_map(path)
            try:
                made.append(Reference(name, resampled(array, size, box_px, voxel_size_ang)))
            except DataError as error:
                raise DataError(f"{path}: {error.message}", error.hint) from error
        return made
    record = Path(truth_csv).parent / "simulation.json"
    if not record.exists():
        return []
    try:
        simulation = result_files.read_json(record)
        n_states = int(simulation["options"]["phantom"])
    except (OSError, ValueError, KeyError, TypeError):  # of another program
        return []
    if n_states == 0:
        return []
    from ...simulation.phantom import phantom_states

    states = phantom_states(n_states, box_px, voxel_size_ang)
    return [Reference(name, state) for name, state in zip(simulation["map_files"], states, strict=True)]


def distinct_names(paths: Sequence[str]) -> list[str]:
    """File names of maps; where two have one name, the number of the map before it."""
    names = [Path(path).name for path in paths]
    return [name if names.count(name) == 1 else f"{number}_{name}" for number, name in enumerate(names, 1)]


def references_of_states(states: Sequence[str], references: Sequence[Reference]) -> list[int | None]:
    """Which reference each true state was simulated from, None: none of them.

    By file name where that tells one state and one reference, else by order; junk has none.
    """
    own = [Path(name).name for name in states]
    theirs = [Path(reference.name).name for reference in references]
    made: list[int | None] = []
    for number, name in enumerate(own):
        if name == JUNK:
            made.append(None)
        elif own.count(name) == theirs.count(name) == 1:
            made.append(theirs.index(name))
        else:
            made.append(number if number < len(references) else None)
    return made
