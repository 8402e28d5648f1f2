"""Point groups of rotations: their matrices, one pose of all that show the same, and what keeps their axes.

Axes are RELION's (``relion_refine --print_symmetry_ops``), x, y, z of the map:

* Cn: n-fold along z. Dn: the same and a 2-fold along x.
* T: a 3-fold along z and a 2-fold along (0, sqrt(2), 1); not the usual setting with 2-folds along x, y, z.
* O: 4-folds along x, y, z.
* I2 (also I): 2-folds along x, y, z, the 5-folds next to z in the plane of x and z. I1: the same turned by 90 degrees
  about z.

A map V of a group is ``V(G r) = V(r)``, and a pose A shows the same as ``A G`` (``rotations``), G of the group.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..contract.symmetry import family_and_fold
from .rotations import rotation_distance_deg

_OFF_AXES = 0.8214, 0.2706, 0.5021  # a direction on no axis of any group
_TIE = 1e-6


def group_of(name: str) -> Tensor:
    """Rotations ``(g, 3, 3)`` of a group, the identity first. Raises ConfigError where it is no group's name."""
    return torch.from_numpy(np.stack(_matrices(*family_and_fold(name))).astype(np.float32))


@lru_cache(maxsize=32)
def _matrices(family: str, fold: int) -> tuple[np.ndarray, ...]:
    """The matrices of a group, the identity first."""
    made = Rotation.create_group(family[0] if family in ("T", "O", "I1", "I2") else f"{family}{fold}")
    turn = {"T": _to_three_fold(), "I2": Rotation.from_rotvec([0, 0, np.pi / 2])}.get(family)
    if turn is not None:
        made = turn * made * turn.inv()
    order = np.argsort(made.magnitude(), kind="stable")
    return tuple(made[order].as_matrix())


def _to_three_fold() -> Rotation:
    """From 2-folds along x, y, z to RELION's axes of T."""
    turn, _ = Rotation.align_vectors([[0, 0, 1], [0, np.sqrt(2 / 3), np.sqrt(1 / 3)]],
                                     [[np.sqrt(1 / 3)] * 3, [0, 0, 1]])
    return turn


def in_one_unit(A: Tensor, group: Tensor) -> Tensor:
    """Which of rotations ``(n, 3, 3)`` stand for all that show the same ``(n,)`` bool: about n / g of them.

    Those whose viewing direction (row 2) is, of all its g copies, nearest to a direction that lies on no axis: whatever
    is asked of a view holds for its in-plane rotations too. Where none of few views is, all stand.
    """
    near = torch.einsum("ni,gij,j->ng", A[:, 2], group, A.new_tensor(_OFF_AXES))
    tried = (near <= near[:, :1] + _TIE).all(1)
    return tried if bool(tried.any()) else torch.ones_like(tried)


def distance_deg(A: Tensor, B: Tensor, group: Tensor, frame: Tensor | None = None) -> Tensor:
    """Least angle in degrees ``(n,)`` between rotations A and ``B G F`` ``(n, 3, 3)``, G of the group, F one frame."""
    turns = group if frame is None else group @ frame
    return torch.stack([rotation_distance_deg(A, B @ turn) for turn in turns]).amin(0)


def keeping_axes(R: Tensor, name: str, mirrored: bool) -> Tensor:
    """The rotation next to ``R`` (3, 3) that carries a map of a group, or its mirror image in z, to one of that group.

    As in ``map_alignment``: ``aligned(r) = moving'(R r)``. What carries a group G onto itself are its normaliser's
    rotations N, ``N^-1 G N = G``: of Cn all that keep its axis, of Dn those of D2n (D2: O), of T, O those of O, of I
    its own. The mirror image has the group ``Z G Z``, Z = diag(1, 1, -1), which is G turned by 180 degrees about z.
    """
    family, fold = family_and_fold(name)
    if (family, fold) == ("C", 1):
        return R
    half_turn = R.new_tensor([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]) if mirrored else torch.eye(3).to(R)
    own = half_turn @ R
    if family == "C":
        kept = torch.zeros_like(own)
        kept[2, 2] = 1.0 if float(own[2, 2]) >= 0 else -1.0
        angle = torch.atan2(own[1, 0] - kept[2, 2] * own[0, 1], own[0, 0] + kept[2, 2] * own[1, 1])
        kept[0, 0], kept[1, 0] = angle.cos(), angle.sin()
        kept[0, 1], kept[1, 1] = -kept[2, 2] * angle.sin(), kept[2, 2] * angle.cos()
        return half_turn @ kept
    normaliser = _normaliser(family, fold).to(R)
    return half_turn @ normaliser[int(torch.einsum("ij,gij->g", own, normaliser).argmax())]


def _normaliser(family: str, fold: int) -> Tensor:
    """Rotations that carry a group with more than one axis onto itself."""
    if family == "D":
        return group_of("O" if fold == 2 else f"D{2 * fold}")
    if family == "T":
        turn = torch.from_numpy(_to_three_fold().as_matrix().astype(np.float32))
        return turn @ group_of("O") @ turn.T
    return group_of(family)
