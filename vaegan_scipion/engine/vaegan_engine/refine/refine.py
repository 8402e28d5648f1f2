"""``states``: states, poses and maps from particles, without a training.

1. *Ab initio* (``ab_initio``): a few maps at coarse resolution, from the clusters' maps, random blobs, or both.
2. *Rounds* (``rounds``), until the number of states stays: the mask of the maps is chosen (``mask_choice``), each
   state is split into the groups that its landscape shows (``landscape``), all images are searched in all
   states' maps (``assignment``), states that two halves of the images cannot tell apart are joined (``join_states``),
   small ones dissolved. A state that is explained far worse than the others is started anew from its own images
   (``restart_states``). From the second round on, at finer detail, images whose coarse search may have been wrong are
   searched once more (``second_search``). Images that no state explains are set aside (``junk``), and every
   particle's contrast is measured (``contrast``).
3. *Each state* (``each_state``): poses of states that move are searched along their motion (``moving_poses``); two
   halves are refined apart, the band growing with their FSC (``half_maps``); all states are laid in one frame
   (``common_frame``); then the continuous variation of each is found (``motion``).

Where the particles carry poses that are to be used, steps 1 and 2 search none (``known_poses``).

Some images take no part in step 1; whether maps made without them explain them better than an empty map
decides if there is structure at all. Every step is kept (``step_store``), to go on from after a stop.
"""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..contract import result_files, run_json, wording
from ..contract.errors import ConfigError, DataError
from ..contract.labels import UNASSIGNED
from ..contract.record import read_record, write_records
from ..contract.records import StatesSummary
from ..contract.settings import StatesRun
from ..contract.symmetry import is_symmetric
from ..data.given_mask import MaskBox, check_symmetry, read_mask
from ..data.particle_tables import read_cluster_rows
from ..data.pose_table import read_poses
from ..data.prepared_images import ParticleCache
from ..physics.symmetry import group_of
from ..reconstruction.masked_images import masked
from ..runtime import compute, processes
from ..runtime.journal import Journal
from ..runtime.place import is_first
from ..runtime.step_store import Checkpoints
from ..runtime.stop_signals import stoppable
from .costs import stage_costs
from .detail.common_frame import lay_in_one_frame
from .detail.each_state import find_motions, follow_motions, half_sets_of_all, refine_details
from .detail.motion import Motion
from .image_mask import around, capped, circle_of
from .inputs import open_images, with_data
from .output import output
from .problem import GivenPoses, Problem, Recorder
from .resume import settings_of
from .rounds import mask_choice
from .rounds.rounds import find_states
from .start.ab_initio import ab_initio
from .start.known_poses import given_poses, known_start
from .start.resolutions import hollow_text, shells_text, with_grids, with_shells
from .tuning import TUNING, RefineTuning


def check(run: StatesRun, cache: ParticleCache, min_state: int = TUNING.min_state) -> None:
    """Refuse settings and particles that cannot be run, by name, value, limit and remedy."""
    n, box_px, min_particles = len(cache), cache.box_px, 4 * min_state
    for name in ("start_shells", "search_shells", "state_shells"):
        if getattr(run, name) > box_px / 2:
            raise ConfigError(f"{name} is {getattr(run, name):g}.", f"Use at most {box_px / 2:g}, half of the box.")
    if n < min_particles:
        raise DataError(f"{run.data.particles}: {n} particles are too few for maps.",
                        f"Give at least {min_particles} particles.")
    if len(np.unique(cache.half_set)) < 2:
        raise DataError(f"{run.data.particles}: all particles in use are of half set {cache.half_set[0]}; two halves "
                        "are compared.", "Give all particles (data.half_set 0).")


def run_states(asked: StatesRun, out_dir: Path, resume: bool = False, tuning: RefineTuning = TUNING) -> StatesSummary:
    """Find states into ``out_dir``, with ``resume`` from its checkpoints; returns what ``states.json`` holds.

    Raises ConfigError, DataError or, after a signal, StoppedError.
    """
    out_dir, run = Path(out_dir), with_data(asked)
    device = compute.prepare_device(run.compute)
    compute.work_in_parts(run.compute)
    with processes.joined(device):
        cache = processes.in_turn(partial(open_images, run, out_dir, resume))
        check(run, cache, tuning.min_state)
        problem = problem_of(run, cache, device, tuning, out_dir / result_files.CACHE)
        maps = cluster_maps(run, cache.box_px, cache.pixel_size_ang)
        steps = Checkpoints(out_dir, settings_of(run, cache, maps, problem.poses,
                                                 problem.mask if run.mask else None), device, resume)
        if resume and steps.finished():
            print(f"{out_dir}: the refinement is finished")
            return read_record(StatesSummary, out_dir / result_files.STATES_JSON, "states")
        if is_first():
            run_json.write_run(asked, out_dir / result_files.RUN_JSON)
        recorder = Recorder(Journal(out_dir, resumed=bool(steps.names())), steps)
        print(f"{len(cache)} particles of {cache.box_px} px, {cache.pixel_size_ang:.3f} A/px, "
              f"on {compute.describe(device)}")
        print(f"resolution: {shells_text(problem.settings, problem.images)}", flush=True)
        if problem.tuning.start.tries_cubic and problem.poses is None and not is_symmetric(run.symmetry):
            print(hollow_text(problem.images), flush=True)
        with stoppable(out_dir):
            problem, refined = refine(problem, maps, recorder)
            if is_first():
                output.write(problem, replace(cache, half_set=problem.half_set), refined, out_dir)
                write_costs(recorder, out_dir)
            processes.wait()
    steps.clear()
    return read_record(StatesSummary, out_dir / result_files.STATES_JSON, "states")


def write_costs(recorder: Recorder, out_dir: Path) -> None:
    """``costs.json``, and the same as a table on the screen."""
    costs = stage_costs(result_files.read_jsonl(out_dir / result_files.LOG_JSONL), recorder.journal.seconds)
    write_records(out_dir / result_files.COSTS_JSON, costs)
    print(wording.costs_text(costs), flush=True)


def refine(problem: Problem, maps: Tensor | None, recorder: Recorder) -> tuple[Problem, output.Refined]:
    """All steps, and the problem as it is known after them; ``maps`` (c, d, d, d) to start from, where there are."""
    start = partial(ab_initio, problem, maps, recorder) if problem.poses is None else partial(known_start, problem)
    problem, assignment, evidence = find_states(problem, recorder.step("ab_initio", start), recorder)
    problem = replace(problem, half_set=half_sets_of_all(problem, assignment))
    moving = [False] * assignment.n_states
    if evidence.structured:
        assignment, moving = follow_motions(problem, assignment, recorder)
    halves, assignment = refine_details(problem, assignment, moving, recorder)
    assignment, halves, frames = recorder.step("frame", partial(lay_in_one_frame, problem, assignment, halves))
    motions: list[Motion | None] = [None] * len(halves)
    if evidence.structured:
        motions = find_motions(problem, assignment, recorder)
    return problem, output.Refined(assignment, halves, frames, motions, evidence)


def problem_of(run: StatesRun, cache: ParticleCache, device: torch.device, tuning: RefineTuning, folder: Path
               ) -> Problem:
    """The problem before anything is known of contrasts, with the first mask. Raises ConfigError or DataError.

    ``folder`` is for transforms that there is no room for in memory.
    """
    poses = poses_of(run, cache, device)
    images = cache.on(device)
    circle = circle_of(run, images, poses, tuning.mask)
    circle_frac = run.data.particle_radius_frac
    if circle is not None:
        images = masked(images, circle, around(run, poses, cache.near_ang, images, circle))
        tuning = replace(tuning, mask=capped(tuning.mask, circle_frac, circle, images.box_px))
    smallest_frac = max(run.smallest_frac, tuning.min_state / len(images))
    settings = with_shells(replace(run, smallest_frac=smallest_frac), images, tuning.shells)
    mask = mask_of(run, cache, device)
    if mask is None:
        mask = mask_choice.candidate_masks(images.box_px, circle_frac, device, tuning.mask)[tuning.mask.first]
    problem = Problem(images, settings, mask, cache.half_set, circle_frac,
                      run.max_shift_frac * images.box_px, with_grids(tuning, settings, images), poses, cache.twin_id)
    return replace(problem, images=images.with_stored(problem.max_shell(1), folder))


def mask_of(run: StatesRun, cache: ParticleCache, device: torch.device) -> Tensor | None:
    """The mask that was given ``(d, d, d)``; None where there is none. Raises DataError."""
    if not run.mask:
        return None
    widths_ang = (cache.box_px * cache.pixel_size_ang, cache.original_box_px * cache.original_pixel_size_ang)
    mask = read_mask(run.mask, MaskBox(cache.box_px, cache.pixel_size_ang, widths_ang))
    if is_symmetric(run.symmetry):
        check_symmetry(run.mask, mask, group_of(run.symmetry))
    return mask.to(device)


def poses_of(run: StatesRun, cache: ParticleCache, device: torch.device) -> GivenPoses | None:
    """The poses that the particles carry; None where they are to be searched. Raises DataError."""
    if not run.data.input_poses:
        return None
    table = read_poses(run.data)
    if is_symmetric(table.symmetry) and not (is_symmetric(run.symmetry) or run.relax_symmetry):
        print(f"warning: the given poses are of symmetry {table.symmetry}, maps are made without: what breaks it "
              f"lies at any of its places. Give relax_symmetry {table.symmetry} to bring it to one", flush=True)
    return given_poses(table, cache.particle_id, cache.pixel_size_ang, device)


def cluster_maps(run: StatesRun, box_px: int, voxel_size_ang: float) -> Tensor | None:
    """Maps of the clusters ``(c, d, d, d)``, the unassigned left out; None where no clusters are given."""
    from ..data.mrc_files import read_map

    if not run.clusters_dir:
        return None
    maps = []
    for row in read_cluster_rows(run.clusters_dir):
        path = Path(run.clusters_dir) / row.file
        if row.label == UNASSIGNED:
            continue
        array, size_ang = read_map(path)
        if array.shape[0] != box_px or abs(size_ang / voxel_size_ang - 1) > 0.01:
            raise DataError(f"{path}: {array.shape[0]} px of {size_ang:.3f} A, the particles have {box_px} px "
                            f"of {voxel_size_ang:.3f} A.", "Give clusters of a training with this box and kept part.")
        maps.append(torch.from_numpy(array))
    if not maps:
        raise DataError(f"{run.clusters_dir}: there is no cluster map.", "Give the --out folder of cluster.")
    return torch.stack(maps)
