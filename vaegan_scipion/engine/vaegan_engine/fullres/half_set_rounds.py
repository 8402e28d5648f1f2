"""Local refinement of one state, its half sets apart, in a band that follows their FSC.

A round is: a map of each half from its own images at their poses; the FSC of the two inside a mask of their mean,
corrected for it (``masked_fsc``; in a sphere, noise around the particle hides what the halves share, and the band stays
where it is); each half's most probable map inside a mask of its own, the signal's power being what the FSC says of it
(Wiener filter, Scheres 2012); the poses of each half's images refined in its own map, within the band that the FSC
reaches; the noise spectrum of every group of images from what the map leaves of them. So detail comes in as fast as
both halves agree on it, and nothing goes from one half to the other but the band, the filter and the noise spectra,
which are means of all. What the halves share is what the ``states`` that they come from say
(``HalvesProof.shared_ang``).

Images are read from disk in chunks, as often as they are needed; maps are held in the working box of the band.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..contract.fullres_records import FullresRound
from ..contract.symmetry import NO_SYMMETRY
from ..physics.fourier_band import Band, make_band, shell_sums
from ..physics.fsc import resolution_at
from ..physics.map_resize import mask_in_box
from ..physics.masked_fsc import masked_fsc
from ..physics.rotations import rotation_distance_deg
from ..physics.slices import map_box_px
from ..physics.symmetry import group_of
from ..reconstruction.images import Images, spread_rows
from ..reconstruction.least_squares import residual_power_sums, solved, sums_of
from ..reconstruction.posed_images import Coefficients, PosedImages, in_chunks
from ..refine.detail.half_maps import HALF_SETS, particle_masks, reached_shell
from ..runtime.step_store import stored
from .tuning import FullresTuning

FSC_LIMITS = 1e-3, 0.999  # of the FSC that the signal's power is taken from
stored(FullresRound)


@dataclass(frozen=True)
class StateImages:
    """The images of one state and what is fixed; arrays have one row per image."""

    images: Images  # of all states
    rows: np.ndarray  # (n,) of this one's
    half_set: np.ndarray  # (n,) 1 or 2
    noise_group: np.ndarray  # (n,) int64 from 0
    mask: Tensor  # (d, d, d)
    mask_is_given: bool  # else it is a sphere, in which a mask is made of every round's maps
    tuning: FullresTuning
    symmetry: str = NO_SYMMETRY  # that its maps are held to

    @property
    def box_px(self) -> int:
        """Side of the images."""
        return self.images.box_px

    @property
    def group(self) -> Tensor:
        """Rotations ``(g, 3, 3)`` of the symmetry."""
        return group_of(self.symmetry).to(self.mask)


@stored
@dataclass(frozen=True)
class Refinement:
    """Where the refinement of a state is. Never changed: every round makes another one."""

    rotations: Tensor  # (n, 3, 3)
    shifts_px: Tensor  # (n, 2)
    noise: Tensor  # (n_groups, d//2 + 1) variance of a coefficient
    shells: float  # band of the poses so far
    rounds: list[FullresRound]


@dataclass(frozen=True)
class Half:
    """The images of one half set in a band."""

    at: np.ndarray  # their numbers among the state's
    images: PosedImages
    noise: Tensor  # (n_groups, d//2 + 1)
    group: Tensor  # (m,) int64 of each image

    def precision(self, band: Band) -> Callable[[slice], Tensor]:
        """Degrees of freedom / noise variance of some images' coefficients ``(m, p)``."""
        return lambda rows: band.weight / self.noise[self.group[rows]][:, band.shell]


def half_of(state: StateImages, refinement: Refinement, half: int, band: Band, max_held: int) -> Half:
    """Half set 1 or 2 at its poses."""
    at = np.flatnonzero(state.half_set == half)
    here = torch.from_numpy(at).to(refinement.rotations.device)
    group = torch.from_numpy(state.noise_group[at]).to(refinement.noise.device)
    source = Coefficients(state.images, state.rows[at], band, max_held)
    return Half(at, PosedImages(source, refinement.rotations[here], refinement.shifts_px[here]),
                refinement.noise, group)


def begin(state: StateImages, rotations: Tensor, shifts_px: Tensor, shells: float) -> Refinement:
    """Before the first round, at poses that were found within ``shells``: the noise is all that the images hold."""
    return Refinement(rotations, shifts_px, group_powers(state), shells, [])


def group_powers(state: StateImages) -> Tensor:
    """Mean squared coefficient per noise group and shell ``(g, d//2 + 1)`` of some of the images."""
    band = make_band(state.box_px, state.box_px / 2, state.images.device)
    at = spread_rows(len(state.rows), state.tuning.max_power_images)
    counts = shell_sums(torch.ones_like(band.weight), band).clamp_min(1)

    def part(some: slice) -> Tensor:
        power = state.images.transforms(state.rows[at[some]], band).abs().square()
        return power.new_zeros(len(power), band.n_shells).index_add_(1, band.shell, power) / counts

    powers = torch.cat(in_chunks(part, len(at), len(band.index)))
    powers[:, -1] = powers[:, -2]  # the corner shell has too few points inside the Nyquist circle
    return group_means(powers, state.noise_group[at], int(state.noise_group.max()) + 1)


def group_means(powers: Tensor, group: np.ndarray, n_groups: int) -> Tensor:
    """Mean of rows ``(n, k)`` in each group ``(g, k)``; of all rows where a group has none."""
    index = torch.from_numpy(group).to(powers.device)
    total = powers.new_zeros(n_groups, powers.shape[1]).index_add_(0, index, powers)
    count = powers.new_zeros(n_groups).index_add_(0, index, powers.new_ones(len(powers)))[:, None]
    return torch.where(count > 0, total / count.clamp_min(1), powers.mean(0))


def refine_round(state: StateImages, before: Refinement) -> Refinement:
    """One round: maps, FSC, poses, noise."""
    tuning, nyquist = state.tuning, state.box_px / 2
    wide = make_band(state.box_px, min(nyquist, before.shells * (1 + tuning.wider_frac) + tuning.wider_shells),
                     state.images.device)
    halves = [half_of(state, before, half, wide, tuning.max_held) for half in HALF_SETS]
    sums = [sums_of(half.images, half.precision(wide), state.group) for half in halves]
    map_px = map_box_px(wide.radius, state.box_px)
    half_maps = np.stack([solved(*own_sums, map_px, wide.radius).cpu().numpy() for own_sums in sums])
    own = mask_in_box(state.mask, map_px).cpu().numpy()
    masks = particle_masks(half_maps, own, state.mask_is_given)
    fsc = masked_fsc(half_maps, masks[0], draws=1).corrected
    reached = reached_shell(fsc, wide.radius, tuning.min_fsc)
    shells = float(min(max(reached + tuning.next_shells, tuning.min_shells), wide.radius))
    band = make_band(state.box_px, shells, state.images.device)
    prior, powers = noise_over_signal(fsc, reached).to(state.mask), torch.zeros_like(before.noise)
    rotations, shifts_px = before.rotations.clone(), before.shifts_px.clone()
    for half, own_sums, mask in zip(halves, sums, masks[1:], strict=True):
        map_ = solved(*own_sums, map_px, wide.radius, prior) * torch.from_numpy(mask).to(state.mask)
        narrow = PosedImages(half.images.source.within(band), half.images.rotations, half.images.shifts_px)
        refined, _ = narrow.refined(map_, half.precision(band), tuning.pose_iterations)
        at = torch.from_numpy(half.at).to(rotations.device)
        rotations[at], shifts_px[at] = refined.rotations, refined.shifts_px
        refined = PosedImages(half.images.source, refined.rotations, refined.shifts_px)
        powers += residual_power_sums(refined, map_, half.group, len(powers))
    noise = powers / torch.bincount(torch.cat([half.group for half in halves]), minlength=len(powers))[:, None]
    shell = torch.arange(wide.n_shells, device=noise.device)
    turned_deg = rotation_distance_deg(rotations, before.rotations).median()
    moved_px = (shifts_px - before.shifts_px).norm(dim=1).median()
    this_round = FullresRound(shells, resolution_of(fsc[:int(wide.radius) + 1], state), float(turned_deg),
                         float(moved_px) * state.images.pixel_size_ang)
    return Refinement(rotations, shifts_px, torch.where(shell < int(wide.radius), noise, before.noise), shells,
                      [*before.rounds, this_round])


def resolution_of(fsc: np.ndarray, state: StateImages) -> float:
    """Resolution in A at ``FullresTuning.min_fsc`` of an FSC of the first shells; the last one where it stays above."""
    box_ang = state.box_px * state.images.pixel_size_ang
    resolution = resolution_at(fsc, state.tuning.min_fsc, state.box_px, state.images.pixel_size_ang)
    return resolution.ang if resolution.crossed else box_ang / (len(fsc) - 1)


def noise_over_signal(fsc: np.ndarray, reached: int) -> Tensor:
    """``(1 - FSC) / FSC`` per shell ``(d//2 + 1,)``: of a half map, what ``solved`` calls its prior.

    Beyond the shell ``reached`` there is no signal that the halves agree on.
    """
    sure = np.clip(fsc, *FSC_LIMITS)
    sure[0], sure[reached + 1:] = FSC_LIMITS[1], FSC_LIMITS[0]
    return torch.from_numpy((1 - sure) / sure).float()


def is_settled(rounds: list[FullresRound], tuning: FullresTuning) -> bool:
    """Whether another round is not worth it: the band did not grow in the last one, and hardly a particle turned.

    The measure is the angle that moves the band's last shell by one.
    """
    if len(rounds) < tuning.min_rounds:
        return False
    one_shell_deg = np.degrees(1 / rounds[-1].shells)
    return bool(rounds[-1].shells <= rounds[-2].shells and rounds[-1].turned_deg < tuning.settled_frac * one_shell_deg)


def final_half_maps(state: StateImages, refinement: Refinement) -> np.ndarray:
    """Half maps ``(2, d, d, d)`` float32 to Nyquist, not masked, not filtered."""
    band = make_band(state.box_px, state.box_px / 2, state.images.device)
    made = np.empty((len(HALF_SETS), *(state.box_px,) * 3), np.float32)
    for k, number in enumerate(HALF_SETS):
        half = half_of(state, refinement, number, band, max_held=0)
        sums = sums_of(half.images, half.precision(band), state.group)
        made[k] = solved(*sums, state.box_px, band.radius).cpu().numpy()
        del sums
    return made
