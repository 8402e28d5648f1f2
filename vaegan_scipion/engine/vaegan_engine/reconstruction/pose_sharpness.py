"""How well an image's orientation is determined: its posterior against the uniform one."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from ..physics.fourier_band import make_band, shift_phases
from ..physics.rotations import super_fibonacci_rotations
from ..physics.shards import shared_parts
from .images import Images
from .map_mixture import MapMixture
from .pose_search import PoseGrid, shift_grid_of

_FLOATS = 2 ** 22  # log likelihoods held at a time


def orientation_gain(data: Images, model: MapMixture, rows: Tensor, poses: PoseGrid) -> Tensor:
    """Information that each image gives on its orientation ``(n,)``, in nats.

    ``KL = sum_R p(R | X) log(p(R | X) M)`` over the M rotations of an even grid: 0 where the posterior is uniform,
    log M where it is one rotation. Of a symmetric map those that show the same count once. Shifts are summed over; with
    several maps it is the mean over these by their probability.
    """
    band = make_band(data.box_px, poses.radius, data.device)
    grid = model.constraint.rotations(super_fibonacci_rotations(poses.n_rotations, data.device))
    phases = shift_phases(band, shift_grid_of(data, poses.radius, poses.largest_shift_px, poses.finer_shifts))
    templates, precision = model.templates(band, grid), model.precision(band)
    flat = templates.slices.reshape(-1, templates.slices.shape[-1])
    real, norms = torch.cat((flat.real, flat.imag), -1), flat.abs().square().T
    chunk = max(1, _FLOATS // (len(phases) * len(flat)))

    def part(first: int, end: int) -> Tensor:
        transforms, ctf = data.coefficients(rows[first:end].cpu().numpy(), band)
        shifted = (transforms * ctf * precision)[:, None] * phases
        scores = torch.cat((shifted.real, shifted.imag), -1) @ real.T
        log_likelihood = (scores - 0.5 * ((precision * ctf.square()) @ norms)[:, None]).logsumexp(1)
        by_map = log_likelihood.view(end - first, model.n_maps, len(grid))
        log_p = by_map.log_softmax(2)
        gain = (log_p.exp() * (log_p + math.log(len(grid)))).sum(2)
        return (gain * by_map.logsumexp(2).softmax(1)).sum(1)

    return torch.cat(shared_parts(part, len(rows), chunk))


def open_angle_deg(gain: float) -> float:
    """Radius in degrees of a ball of rotations that leaves as much open as a posterior of this gain (nats).

    A ball of rotations up to the angle a has the share ``(a - sin a) / pi`` of all; of it ``exp(-gain)`` is wanted. 180
    degrees: nothing is known.
    """
    low, high = 0.0, math.pi
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (middle - math.sin(middle)) / math.pi < math.exp(-gain) else (low, middle)
    return math.degrees(0.5 * (low + high))
