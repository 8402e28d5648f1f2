"""``states`` from poses that the particles carry: no start from nothing and no global search, local refinement alone.

Images that no state explains are the exception: they are searched once, as always, before they are set aside.

Poses come from a refinement of all particles as one structure, so they are of one frame, which all states share. What
their own search would give does not matter here; whether the poses are any good is still asked: a map made without
some images must explain these better than an empty map, and than a map from the same angles dealt out to other images.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...contract import wording
from ...contract.errors import DataError
from ...contract.records import StartRow
from ...data.pose_table import PoseTable
from ...physics.fourier_band import make_band
from ...physics.rotations import euler_to_matrix
from ...physics.symmetry import group_of
from ...reconstruction.images import low_passed
from ...reconstruction.least_squares import misfits, reconstruction
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.posed_images import Coefficients, PosedImages
from ..assignment import joint_noise, state_log_posterior
from ..problem import GivenPoses, Problem
from ..states import Assignment, State
from .ab_initio import CoarseMaps, Trial, trial_of

N_DEALS, DEAL_DEVIATIONS = 4, 3.0  # times angles are dealt out; what they must be above their mean, in deviations


def given_poses(table: PoseTable, particle_id: np.ndarray, pixel_size_ang: float, device: torch.device) -> GivenPoses:
    """Poses of the particles ``(n,)``, joined by id; shifts in pixels of the prepared images. Raises DataError."""
    rows, here = table.rows_of(particle_id)
    if len(rows) < len(particle_id):
        missing = np.setdiff1d(np.arange(len(particle_id)), rows)
        raise DataError(f"{len(missing)} of {len(particle_id)} particles have no pose, the first is particle "
                        f"{particle_id[missing[0]]}.", "Give every particle a pose, or search the poses.")
    angles_deg = torch.from_numpy(table.angles_deg[here])
    shifts_px = torch.from_numpy(table.shifts_ang[here] / pixel_size_ang)
    return GivenPoses(euler_to_matrix(*angles_deg.T).float().to(device), shifts_px.float().to(device))


def one_state(problem: Problem, rows: np.ndarray | None = None) -> State:
    """Images, all or some, at the given poses, and their map at the resolution of the pose search."""
    poses = problem.poses
    assert poses is not None
    rows = np.arange(len(problem)) if rows is None else rows
    band = make_band(problem.box_px, problem.settings.search_shells, problem.device)
    at = torch.from_numpy(rows).to(problem.device)
    images = PosedImages(Coefficients(problem.images, rows, band), poses.rotations[at], poses.shifts_px[at])
    map_ = reconstruction(images, torch.ones_like(band.weight), problem.constraint)
    return State(rows, images.rotations, images.shifts_px, map_)


def known_start(problem: Problem) -> CoarseMaps:
    """The map at the given poses, the noise, and what images that the map was made without say of it.

    The same is asked of maps from the same angles dealt out to other images, a few times. Where these are as good, the
    angles are of no worth, and a warning says so.
    """
    trial = trial_of(problem)
    seen = trial.seen
    unseen, rng = unseen_log_evidence(problem, trial, seen), np.random.default_rng(problem.seed)
    dealt = [unseen_log_evidence(dealt_out(problem, seen, rng), trial, seen) for _ in range(N_DEALS)]
    row = StartRow("given", dealt, unseen, kept=True)
    print(f"start from {wording.start_text(row)} ({len(trial.held)} unseen images)", flush=True)
    if unseen < np.mean(dealt) + DEAL_DEVIATIONS * np.std(dealt, ddof=1):
        print("warning: the given angles are no better than angles dealt out at random; leave input_poses out, so that "
              "they are searched", flush=True)
    state = one_state(problem)
    return CoarseMaps(state.map[None], joint_noise(problem, [state], problem.settings.search_shells), unseen, [row])


def dealt_out(problem: Problem, rows: np.ndarray, rng: np.random.Generator) -> Problem:
    """The same with the angles of some images given to others of them at random; shifts stay."""
    poses, source = problem.poses, np.arange(len(problem))
    assert poses is not None
    source[rows] = rng.permutation(rows)
    return replace(problem, poses=GivenPoses(poses.part(source).rotations, poses.shifts_px))


def unseen_log_evidence(problem: Problem, trial: Trial, seen: np.ndarray) -> float:
    """Mean log likelihood ratio of the unseen images, the map of the others against an empty one."""
    return float(trial.unseen_log_evidence(unseen_model(problem, seen), trial.stages()[1]).mean())


def unseen_model(problem: Problem, seen: np.ndarray) -> MapMixture:
    """The map of some images at the given poses, and its noise."""
    max_shell, state = problem.settings.search_shells, one_state(problem, seen)
    noise = joint_noise(problem, [state], max_shell)
    return MapMixture(low_passed(state.map[None], max_shell), noise, problem.constraint)


def copies_of(problem: Problem) -> Tensor:
    """Rotations ``(g, 3, 3)`` by which each given pose may be another; the identity alone where nothing is relaxed."""
    return group_of(problem.settings.relax_symmetry or "C1").to(problem.device)


def best_copies(images: PosedImages, map_: Tensor, precision: Tensor, copies: Tensor, spread: float = 0.0
                ) -> tuple[PosedImages, Tensor]:
    """Images each at the copy of its pose that a map explains best, and ``misfits`` ``(n,)`` there."""
    costs = torch.stack([misfits(PosedImages(images.source, images.rotations @ copy, images.shifts_px), map_, precision,
                                 spread) for copy in copies])
    best, which = costs.min(0)
    return PosedImages(images.source, images.rotations @ copies[which], images.shifts_px), best


def at_own_poses(problem: Problem, states: list[State]) -> Assignment:
    """All images in all states' maps at the pose that they have; those of no state at the pose they were given.

    Where a symmetry is relaxed, at the copy of it that suits each map.
    """
    poses, images, max_shell = problem.poses, problem.images, problem.settings.search_shells
    assert poses is not None
    rotations, shifts_px = poses.rotations.clone(), poses.shifts_px.clone()
    for state in states:
        at = torch.from_numpy(state.rows).to(rotations.device)
        rotations[at], shifts_px[at] = state.rotations, state.shifts_px
    noise = joint_noise(problem, states, max_shell)
    maps = low_passed(torch.stack([state.map for state in states]), max_shell)
    band = make_band(problem.box_px, max_shell, problem.device)
    precision = band.weight / noise[band.shell]
    posed = PosedImages(Coefficients(images, np.arange(len(images)), band), rotations, shifts_px)
    copies = copies_of(problem)
    tried = [best_copies(posed, map_, precision, copies, images.contrast_spread) for map_ in maps]
    log_posterior = state_log_posterior([cost for _, cost in tried], np.array([len(state.rows) for state in states]))
    return Assignment(log_posterior.argmax(1), log_posterior, torch.stack([at.rotations for at, _ in tried], 1),
                      shifts_px[:, None].repeat(1, len(states), 1), maps, noise, np.zeros(len(images), bool))
