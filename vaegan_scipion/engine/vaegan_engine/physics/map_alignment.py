"""Align one map to another over rotations, shifts and both hands.

A global search at low resolution (an even grid of rotations, every shift by FFT) gives starts that
are refined together, and the best of each hand is refined once more, first up to a middle resolution and at last with
all frequencies.

Equation: ``aligned(r) = moving'(R (r - t))`` with ``r`` in (x, y, z) about voxel ``d // 2`` and
``moving'`` the moving map or its mirror image in z; in Fourier space
``F_aligned(k) = F_moving'(R k) exp(-2 pi i k.t / d)``, sampled on the padded, gridding-corrected grid of
``projection``. The score is the correlation coefficient (without the mean).
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..contract.symmetry import family_and_fold, is_symmetric
from . import slice_kernels
from .projection import map_to_fourier
from .rotations import super_fibonacci_rotations
from .shards import in_parts
from .slices import as_numpy, floats
from .symmetry import keeping_axes

SEARCH_SHELLS = 6  # band of the global search: detail of a sixth of the box and coarser
SEARCH_ROTATIONS = 4608  # about 14 degrees apart, within reach of the refinement
_SEARCH_CHUNK = 256
_STARTS = 12  # kept per hand
_START_STEPS = 40
_START_RATE = 0.05  # rad, and in units of a fiftieth of the box for shifts
_MIDDLE_SHELLS = 16  # where the best start is brought near; all frequencies of a box have (d / 2 / 16)^3 as many points
_STEPS, _LAST_STEPS = 25, 6  # of L-BFGS: in the first band of one start, and with all frequencies after another band
_PAD = 2
_POINTS_TOGETHER = 2 ** 16  # of one pose, on one thread


class AlignedMap(NamedTuple):
    """A moved map and how it was moved (see the module's equation)."""

    map: np.ndarray  # (d, d, d) float32 in the reference's frame
    rotation: np.ndarray  # (3, 3) R
    shift_px: np.ndarray  # (3,) t as x, y, z
    shift_ang: np.ndarray  # (3,)
    mirrored: bool
    correlation: float
    other_hand: float = float("nan")  # correlation of the best of the other hand, where that was searched too


class _Band(NamedTuple):
    """Half-space frequencies of one resolution and the reference's values there."""

    k: Tensor  # (p, 3) x, y, z in cycles per box
    reference: Tensor  # (p,) complex
    weight: Tensor  # (p,) 1 or 2: how many coefficients of the full transform each stands for


def mirror(array: np.ndarray) -> np.ndarray:
    """Mirror image in z about voxel ``d // 2``; of an even box the first section stays first."""
    flipped = array[::-1]
    return np.roll(flipped, 1, axis=0) if len(array) % 2 == 0 else flipped


def move_map(array: np.ndarray, rotation: np.ndarray, shift_px: np.ndarray,
             mirrored: bool = False) -> np.ndarray:
    """``(d, d, d)`` float32: the map rotated, then shifted (the module's equation).

    Frequencies outside the Nyquist sphere are lost.
    """
    transform = _transform(mirror(array) if mirrored else array)
    d = len(array)
    k, index = _half_space(d, d / 2)
    motion = torch.from_numpy(np.asarray(rotation, np.float32)), torch.from_numpy(np.asarray(shift_px, np.float32))
    plane = torch.zeros(d * d * (d // 2 + 1), dtype=torch.complex64)
    plane[index] = _moved(transform, k, motion[0][None], motion[1][None])[0]
    moved = torch.fft.irfftn(plane.reshape(d, d, d // 2 + 1), s=(d, d, d))
    return torch.fft.fftshift(moved).numpy()


def align_map(moving: np.ndarray, reference: np.ndarray, voxel_size_ang: float,
              allow_mirror: bool = True) -> AlignedMap:
    """Move ``moving`` ``(d, d, d)`` onto ``reference`` ``(d, d, d)`` of the same voxel size.

    Rotations and shifts are searched over their whole range, with ``allow_mirror`` for both hands.
    """
    if moving.shape != reference.shape or len(set(moving.shape)) != 1:
        raise ValueError(f"maps of shape {moving.shape} and {reference.shape} cannot be aligned")
    d = len(moving)
    target = _transform(reference)
    coarse = _band(target, d, min(SEARCH_SHELLS, d / 2 - 1))
    full = _band(target, d, d / 2)

    def of_hand(hand: int, _: int) -> tuple[float, Tensor, Tensor, bool]:
        transform = _transform(mirror(moving) if hand else moving)
        rotations, shifts = _refined_starts(transform, coarse, d, *_search(transform, coarse, d))
        score = _correlation(transform, full, rotations, shifts)
        first = int(score.argmax())
        best, steps = (rotations[first], shifts[first]), _STEPS
        if d / 2 > _MIDDLE_SHELLS:
            best, steps = _refined(transform, _band(target, d, _MIDDLE_SHELLS), d, best)[:2], _LAST_STEPS
        rotation, shift, correlation = _refined(transform, full, d, best, steps)
        return correlation, rotation, shift, bool(hand)

    hands = in_parts(of_hand, 2 if allow_mirror else 1, 1)
    correlation, rotation, shift, mirrored = max(hands, key=lambda one: one[0])
    other_hand = min(one[0] for one in hands) if allow_mirror else float("nan")
    R, t = rotation.numpy(), shift.numpy()
    return AlignedMap(move_map(moving, R, t, mirrored), R, t, t * voxel_size_ang, mirrored, correlation, other_hand)


def _transform(array: np.ndarray) -> Tensor:
    return map_to_fourier(torch.from_numpy(np.ascontiguousarray(array, np.float32))[None], _PAD)


def _half_space(d: int, radius: float) -> tuple[Tensor, Tensor]:
    """Frequencies ``(p, 3)`` with ``|k| < radius`` of ``rfftn`` and their flat positions."""
    k = torch.fft.fftfreq(d, 1 / d)
    kx = torch.arange(d // 2 + 1, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(k, k, kx, indexing="ij")[::-1], -1).reshape(-1, 3)
    index = torch.nonzero(grid.square().sum(-1) < radius ** 2).squeeze(-1)
    return grid[index], index


def _band(target: Tensor, d: int, radius: float) -> _Band:
    k, _ = _half_space(d, radius)
    k = k[k.square().sum(-1) > 0]  # the mean does not count
    reference = _moved(target, k, torch.eye(3)[None], torch.zeros(1, 3))[0]
    return _Band(k, reference, torch.where(k[:, 0] > 0, 2.0, 1.0))


def _moved(transform: Tensor, k: Tensor, rotations: Tensor, shifts: Tensor) -> Tensor:
    """``F_moving(R k) exp(-2 pi i k.t / d)`` ``(n, p)`` for ``(n, 3, 3)`` and ``(n, 3)``."""
    d = transform.shape[1] // _PAD
    made = torch.empty(len(rotations), len(k), dtype=torch.complex64)
    slice_kernels.values_at(floats(transform).reshape(-1), len(transform[0]), as_numpy(_PAD * k), as_numpy(rotations),
                            floats(made))
    angle = (-2 * torch.pi / d) * (shifts @ k.T)
    return made.mul_(torch.polar(torch.ones_like(angle), angle))


class _Correlation(torch.autograd.Function):
    """Correlation coefficient ``(n,)`` within the band; differentiable in rotations and shifts.

    One point after the other: of all frequencies of a box of 128 px an array of neighbours and weights has 0.2 GB for
    one pose alone.
    """

    @staticmethod
    def forward(ctx: Any, rotations: Tensor, shifts: Tensor, transform: Tensor, band: _Band) -> Tensor:
        size = transform.shape[1]
        volume, reference = floats(transform).reshape(-1), floats(band.reference).reshape(-1)
        points, weight, turns = (as_numpy(part) for part in (_PAD * band.k, band.weight,
                                                             (2 * torch.pi / size) * shifts.detach()))
        sums = np.zeros((len(rotations), 2, 13))
        for R, turn, own in zip(as_numpy(rotations.detach()), turns, sums, strict=True):

            def part(first: int, end: int, R: np.ndarray = R, turn: np.ndarray = turn) -> np.ndarray:
                made = np.zeros((2, 13))
                slice_kernels.add_overlap(volume, size, points[first:end], reference[2 * first:2 * end],
                                          weight[first:end], R, turn, made)
                return made

            for more in in_parts(part, len(points), _POINTS_TOGETHER):
                own += more
        cross, power, least = sums[:, 0], sums[:, 1], float(np.finfo(np.float32).tiny)
        whole = power[:, :1] * float((band.weight * band.reference.abs().square()).sum())
        scale = np.maximum(whole, least) ** -0.5
        value = cross[:, :1] * scale
        of_power = 0.5 * value / np.maximum(power[:, :1], least)
        slopes = torch.from_numpy(cross[:, 1:] * scale - of_power * power[:, 1:]).to(rotations)
        ctx.slopes = slopes[:, :9].reshape(-1, 3, 3), (2 * torch.pi / size) * slopes[:, 9:]
        return torch.from_numpy(value[:, 0]).to(rotations)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of rotations and shifts."""
        of_rotations, of_shifts = ctx.slopes
        return gradient[:, None, None] * of_rotations, gradient[:, None] * of_shifts, None, None


def _correlation(transform: Tensor, band: _Band, rotations: Tensor, shifts: Tensor) -> Tensor:
    """Correlation coefficient ``(n,)`` within the band."""
    value: Tensor = _Correlation.apply(rotations, shifts, transform, band)
    return value


def _search(transform: Tensor, band: _Band, d: int) -> tuple[Tensor, Tensor]:
    """Best rotations of the grid ``(_STARTS, 3, 3)`` with their best shifts ``(_STARTS, 3)``."""
    size = 2 * (int(band.k.max()) + 2)  # grid that holds the band: shifts in steps of d / size
    kx, ky, kz = band.k.long().unbind(-1)
    flat = ((kz % size) * size + ky % size) * (size // 2 + 1) + kx
    rotations = super_fibonacci_rotations(SEARCH_ROTATIONS)
    scores, places = [], []
    for chunk in rotations.split(_SEARCH_CHUNK):
        moved = _moved(transform, band.k, chunk, torch.zeros(len(chunk), 3))
        cube = torch.zeros(len(chunk), size * size * (size // 2 + 1), dtype=moved.dtype)
        cube[:, flat] = moved.conj() * band.reference
        overlap = torch.fft.irfftn(cube.reshape(-1, size, size, size // 2 + 1), s=(size,) * 3).flatten(1)
        value, place = overlap.max(1)
        scores.append(value / (band.weight * moved.abs().square()).sum(-1).sqrt())
        places.append(place)
    top = torch.cat(scores).topk(_STARTS).indices
    place = torch.cat(places)[top]
    xyz = torch.stack((place % size, place // size % size, place // size ** 2), -1)
    return rotations[top], torch.where(xyz >= size // 2, xyz - size, xyz) * (d / size)


def _small_rotation(vector: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` by ``|vector|`` radians about ``vector`` ``(..., 3)``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(
        torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3)))


def _refined_starts(transform: Tensor, band: _Band, d: int, rotations: Tensor,
                    shifts: Tensor) -> tuple[Tensor, Tensor]:
    """All starts improved together by Adam with a falling rate; each has its own parameters."""
    change = torch.zeros(len(rotations), 6, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=_START_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _START_STEPS)
    for _ in range(_START_STEPS):
        optimizer.zero_grad()
        loss = -_correlation(transform, band, *_changed(rotations, shifts, change, d)).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    return _changed(rotations, shifts, change.detach(), d)


def _changed(rotations: Tensor, shifts: Tensor, change: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Rotation vector (rad) and shift (fiftieths of the box) applied to a start."""
    return rotations @ _small_rotation(change[..., :3]), shifts + (d / 50) * change[..., 3:]


def _refined(transform: Tensor, band: _Band, d: int, start: tuple[Tensor, Tensor], steps: int = _STEPS
             ) -> tuple[Tensor, Tensor, float]:
    """One start, rotation and shift, improved in a band by L-BFGS. Also returns its correlation there."""
    rotation, shift = start
    change = torch.zeros(1, 6, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], lr=1.0, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -_correlation(transform, band, *_changed(rotation[None], shift[None], change, d)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    rotations, shifts = _changed(rotation[None], shift[None], change.detach(), d)
    with torch.no_grad():
        correlation = float(_correlation(transform, band, rotations, shifts))
    return rotations[0], shifts[0], correlation


def likest_copy(aligned: AlignedMap, reference: np.ndarray, group: Tensor, voxel_size_ang: float) -> AlignedMap:
    """Of the copies of an aligned map that show the same to a reference's point group ``(g, 3, 3)`` the likest one.

    ``reference(G r) = reference(r)`` but for what breaks the symmetry, which alone tells ``aligned(G r)`` from
    ``aligned(r)``: ``R' = R G``, ``t' = G^-1 t``. A search at low resolution does not see it. The best is refined.
    """
    if len(group) == 1:
        return aligned
    d = len(reference)
    full, transform = _band(_transform(reference), d, d / 2), _transform(aligned.map)
    turned = _correlation(transform, full, group.float(), torch.zeros(len(group), 3))
    best = int(turned.argmax())
    if best == 0:  # the identity: as it is
        return aligned
    own, shift, correlation = _refined(transform, full, d, (group[best].float(), torch.zeros(3)))
    rotation = aligned.rotation @ own.numpy()
    moved = own.numpy().T @ aligned.shift_px + shift.numpy()
    return AlignedMap(move_map(aligned.map, own.numpy(), shift.numpy()), rotation, moved, moved * voxel_size_ang,
                      aligned.mirrored, correlation, aligned.other_hand)


def with_axes(aligned: AlignedMap, symmetry: str) -> AlignedMap:
    """The alignment next to one that was found freely that leaves the axes of two maps of a symmetry where they are.

    The rotation is ``symmetry.keeping_axes``, the shift lies along the axis of Cn and is 0 where there are several.
    Map and correlation stay those of the free one. As it is for C1.
    """
    if not is_symmetric(symmetry):
        return aligned
    along = np.array([0, 0, 1] if family_and_fold(symmetry)[0] == "C" else [0, 0, 0], np.float32)
    R = keeping_axes(torch.from_numpy(np.asarray(aligned.rotation, np.float32)), symmetry, aligned.mirrored)
    return aligned._replace(rotation=R.numpy(), shift_px=aligned.shift_px * along, shift_ang=aligned.shift_ang * along)


def mirrored_rows(A: Tensor) -> Tensor:
    """Rotations ``(n, 3, 3)`` whose slices of a map are those along ``A`` of its mirror image in z."""
    rows = A[:, :2] * A.new_tensor([1.0, 1.0, -1.0])
    return torch.cat((rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]), 1)


def carried(A: Tensor, shifts_px: Tensor, aligned: AlignedMap, forward: bool) -> tuple[Tensor, Tensor]:
    """Poses in map b of poses in map a (``forward``), or the reverse; ``aligned``: b aligned to a."""
    R = torch.from_numpy(np.asarray(aligned.rotation, np.float32)).to(A)
    t = torch.from_numpy(np.asarray(aligned.shift_px, np.float32)).to(A)
    if forward:
        moved = A @ R.T
        return (mirrored_rows(moved) if aligned.mirrored else moved), shifts_px + A[:, :2] @ t
    own = (mirrored_rows(A) if aligned.mirrored else A) @ R
    return own, shifts_px - own[:, :2] @ t
