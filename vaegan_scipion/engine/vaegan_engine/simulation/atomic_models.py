"""Density maps of atomic models (PDB, mmCIF; gzipped too), limited in resolution.

Equation: ``F(g) = sum_a f_a(|g|) exp(-B_a |g|^2 / 4) exp(-2 pi i g.r_a)`` with ``f`` the electron form factor
(International Tables C 4.3.2.2, neutral atoms), times a low-pass that is 1 below ``1 / resolution`` and falls
by a cosine over two shells of the box. The map holds no solvent. Atoms are laid on a fine grid by gemmi.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..contract.errors import ConfigError, DataError

SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz")
_EDGE_SHELLS = 2.0


def is_model(path: str | Path) -> bool:
    """Whether a file name is that of an atomic model."""
    return str(path).lower().endswith(SUFFIXES)


def read_model(path: str | Path) -> Any:
    """First model of a structure file, without hydrogens' or waters' being touched. Raises DataError."""
    import gemmi

    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: no atomic model can be read ({error}).", "Give a PDB or mmCIF file.") from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise DataError(f"{path}: there are 0 atoms.", "Give a PDB or mmCIF file with coordinates.")
    return structure[0]


def center_ang(model: Any) -> np.ndarray:
    """Centre of mass ``(3,)`` (x, y, z) in A."""
    return np.array(model.calculate_center_of_mass().tolist())


def density(model: Any, box_px: int, voxel_size_ang: float, resolution_ang: float,
            origin_ang: np.ndarray | None = None) -> np.ndarray:
    """Map ``(d, d, d)`` float32 (z, y, x) of a model with ``origin_ang`` (default: its centre) at ``d // 2``.

    Raises ConfigError where the resolution is finer than two voxels, DataError where atoms lie outside the box.
    """
    import gemmi

    if not resolution_ang >= 2 * voxel_size_ang:
        raise ConfigError(f"The resolution is {resolution_ang:g} A, two voxels are {2 * voxel_size_ang:g} A.",
                          "Use a resolution of two voxels or more.")
    box_ang = box_px * voxel_size_ang
    origin = center_ang(model) if origin_ang is None else origin_ang
    shift = voxel_size_ang * (box_px // 2) - origin
    moved = model.clone()
    for cra in moved.all():
        position = np.array(cra.atom.pos.tolist()) + shift
        if (position < 0).any() or (position > box_ang).any():
            raise DataError(f"an atom lies {np.abs(position - box_ang / 2).max():.0f} A from the centre of a box of "
                            f"{box_ang:.0f} A.", "Use a larger box or voxel, or centre the model.")
        cra.atom.pos = gemmi.Position(*position)
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min = min(resolution_ang, 10.0)
    calculator.rate = 1.5
    calculator.set_refmac_compatible_blur(moved)
    calculator.grid.set_unit_cell(gemmi.UnitCell(box_ang, box_ang, box_ang, 90, 90, 90))
    calculator.grid.spacegroup = gemmi.SpaceGroup("P1")
    calculator.put_model_density_on_grid(moved)
    fine = np.asarray(calculator.grid.array, np.float64).transpose(2, 1, 0)
    transform = np.fft.fftn(fine) * (box_ang ** 3 / fine.size)
    k = np.fft.fftfreq(box_px, 1 / box_px).astype(np.int64)
    kept = np.abs(k) < min(box_px, *fine.shape) / 2
    picked = np.zeros((box_px,) * 3, np.complex128)
    picked[np.ix_(kept, kept, kept)] = transform[np.ix_(*(k[kept] % n for n in fine.shape))]
    k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2
    edge = np.clip((np.sqrt(k2) - box_ang / resolution_ang) / _EDGE_SHELLS, 0, 1)
    # gemmi blurs atoms to fit its grid; exp(blur g^2 / 4) takes that back
    factor = 0.5 * (1 + np.cos(np.pi * edge)) * np.exp(np.minimum(calculator.blur * k2 / box_ang ** 2 / 4, 300))
    factor[edge >= 1] = 0
    return (np.fft.ifftn(picked * factor).real / voxel_size_ang ** 3).astype(np.float32)
