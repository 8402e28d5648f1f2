"""Reference maps in the box of a run, and the agreement of a map with them."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...contract import result_files
from ...contract.errors import DataError
from ...data.image_preparation import fourier_matrix
from ...data.mrc_files import read_map


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
        for path in paths:
            array, size = read_map(path)
            try:
                made.append(Reference(Path(path).name, resampled(array, size, box_px, voxel_size_ang)))
            except DataError as error:
                raise DataError(f"{path}: {error.message}", error.hint) from error
        return made
    record = Path(truth_csv).parent / "simulation.json"
    if not record.exists():
        return []
    simulation = result_files.read_json(record)
    n_states = int(simulation["options"]["phantom"])
    if n_states == 0:
        return []
    from ...simulation.phantom import phantom_states

    states = phantom_states(n_states, box_px, voxel_size_ang)
    return [Reference(name, state) for name, state in zip(simulation["map_files"], states, strict=True)]


def reference_of_state(state: int, name: str, references: list[Reference]) -> int | None:
    """Which reference a true state was simulated from: by file name, else by order."""
    names = [Path(reference.name).name for reference in references]
    if Path(name).name in names:
        return names.index(Path(name).name)
    return state if state < len(references) else None
