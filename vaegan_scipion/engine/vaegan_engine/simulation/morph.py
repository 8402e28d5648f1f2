"""Maps along the straight morph between two atomic models of one molecule.

Atoms that both models have (chain, residue number, residue and atom name) move on straight lines after the second
model was superposed on the first by least squares (Kabsch 1976); the others are left out.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..contract.errors import DataError
from . import atomic_models

BOX_FILL_FRAC = 0.6  # of the box that the morph may fill


def common_atoms(first: Any, second: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """The first model cut to the common atoms, and their positions ``(n, 3)`` in both. Raises DataError."""
    def key(cra: Any) -> tuple[str, str, str, str, str]:
        return cra.chain.name, str(cra.residue.seqid), cra.residue.name, cra.atom.name, cra.atom.altloc

    places = {key(cra): np.array(cra.atom.pos.tolist()) for cra in second.all()}
    kept = first.clone()
    start, end = [], []
    for chain in kept:
        for residue in chain:
            for index in reversed(range(len(residue))):
                place = places.get((chain.name, str(residue.seqid), residue.name, residue[index].name,
                                    residue[index].altloc))
                if place is None:
                    del residue[index]
    for cra in kept.all():
        start.append(np.array(cra.atom.pos.tolist()))
        end.append(places[key(cra)])
    if len(start) < 3:
        raise DataError(f"the two models have {len(start)} atoms in common.",
                        "Give two models of one molecule with the same chains and numbering.")
    return kept, np.array(start), np.array(end)


def superposed(moving: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``moving`` ``(n, 3)`` rotated and shifted onto ``target`` by least squares."""
    from scipy.spatial.transform import Rotation

    rotation, _ = Rotation.align_vectors(target - target.mean(axis=0), moving - moving.mean(axis=0))
    return rotation.apply(moving - moving.mean(axis=0)) + target.mean(axis=0)


def morph_maps(first_path: str, second_path: str, n_frames: int, box_px: int) -> tuple[np.ndarray, float]:
    """Maps ``(n, d, d, d)`` of the frames, first to last, and their voxel size. Raises DataError."""
    import gemmi

    model, start, end = common_atoms(atomic_models.read_model(first_path), atomic_models.read_model(second_path))
    end = superposed(end, start)
    origin = (start.mean(axis=0) + end.mean(axis=0)) / 2
    reach_ang = max(np.linalg.norm(points - origin, axis=1).max() for points in (start, end))
    voxel_size_ang = float(2 * reach_ang / BOX_FILL_FRAC / box_px)
    made = []
    for share in np.linspace(0, 1, n_frames):
        for cra, position in zip(model.all(), start + share * (end - start), strict=True):
            cra.atom.pos = gemmi.Position(*position)
        made.append(atomic_models.density(model, box_px, voxel_size_ang, 3 * voxel_size_ang, origin))
    return np.stack(made), voxel_size_ang
