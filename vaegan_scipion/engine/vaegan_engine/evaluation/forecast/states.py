"""What ``states`` will take: its searches, refinements and passes over all images, measured and counted."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...contract.records import Forecast
from ...contract.settings import StatesRun
from ...physics.fourier_band import make_band
from ...physics.memory_limit import share_bytes
from ...physics.symmetry import group_of
from ...reconstruction.images import Images, image_power, stored_bytes
from ...reconstruction.least_squares import misfits
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.polar_search import PART_IMAGES
from ...reconstruction.pose_search import Batches, Course, PoseGrid, Stage, run_stage, search_all
from ...reconstruction.posed_images import HELD_PART, MOST_HELD, Coefficients, PosedImages
from ...reconstruction.principal_maps import first_maps, one_pass, stepped
from ...refine.assignment import state_map
from ...refine.inputs import with_data
from ...refine.problem import Problem
from ...refine.rounds.landscape import WorkingImages
from ...refine.rounds.mask_choice import candidate_masks
from ...refine.states import Assignment, State
from ...refine.tuning import TUNING
from ...runtime.memory import resident_gb
from ...runtime.place import place
from .measured import (
    GB,
    Line,
    Span,
    count_images,
    divided,
    forecast_of,
    line_of,
    made_images,
    prepared_device,
    prepared_gb,
    seconds_of,
)

USUAL_PARTS, USUAL_ROUNDS, LONG_ROUNDS = 2 / 3, 2, 4  # of a start's steps until two agree; rounds of states
MOTION_PASSES = 60  # passes over the images of a state, of a pose refinement's cost each, that its variation takes
NEAR_PART = 0.3  # of the time of a search at all shifts, that one near known shifts takes; in long runs they fall back
DETAIL_SEARCHES, LONG_DETAIL_SEARCHES = 4, 5  # of each half, with those in coarse bands


@dataclass(frozen=True)
class Costs:
    """Seconds of what a refinement does most, on this machine."""

    step_alone: float  # one step of a start, one map
    step_several: float  # the same, all maps
    search: Line  # of images in one map
    fine_search: Line
    refined: Line  # poses of images in one state
    map: Line  # a reconstruction and its noise
    landscape: Line  # one round of principal maps
    detail: Line  # poses and maps at Nyquist
    tried: Line  # images at one copy of their poses


def states_forecast(asked: StatesRun, n_made: int) -> Forecast:
    """Of a run without given poses; with them, of its rounds and detail. Raises ConfigError or DataError.

    Measured on ``n_made`` images.
    """
    run = with_data(asked)
    device = prepared_device(run.compute)
    n, d = count_images(run.data), run.data.box_px
    images, rotations = made_images(n_made, d, device)
    problem = problem_of(run, images)
    costs = measured(problem, rotations)
    stages = counted(problem.settings, costs, n)
    count = place().count
    of_start = max(1, min(count, steps_batch(problem.settings, n) // PART_IMAGES))
    stages = divided(stages, {**dict.fromkeys(stages, count), "starts": of_start})
    return forecast_of("states", n, stages, memory_gb(run, problem, n), prepared_gb(n, d) if not run.run_dir else 0.0)


def problem_of(run: StatesRun, images: Images) -> Problem:
    """The made images as a problem; what is left to the particle is as for one that fills its circle."""
    d, shells = images.box_px, TUNING.shells
    finer = min(max(shells.typical_radius_frac / run.data.particle_radius_frac, 1.0), shells.max_finer)
    start, search, states = (given or min(finer * usual, d / 2) for given, usual in (
        (run.start_shells, shells.start), (run.search_shells, shells.search), (run.state_shells, shells.states)))
    run = replace(run, start_shells=start, search_shells=max(start, search), state_shells=max(start, search, states))
    mask = candidate_masks(d, run.data.particle_radius_frac, images.device, TUNING.mask)[TUNING.mask.first]
    problem = Problem(images, run, mask, 1 + np.arange(len(images)) % 2, run.data.particle_radius_frac,
                      run.max_shift_frac * d)
    return replace(problem, images=images.with_stored(problem.max_shell(1)))


def measured(problem: Problem, rotations: torch.Tensor) -> Costs:
    """All costs, on the problem's made images."""
    run, tuning, device = problem.settings, problem.tuning, problem.device
    max_shell, nyquist, many = problem.max_shell(1), problem.box_px / 2, len(problem)
    few = many // 3
    state = State(np.arange(many), rotations, torch.zeros(many, 2, device=device), problem.mask)
    band = make_band(problem.box_px, max_shell, device)
    map_, noise = mapped(problem, state, many, max_shell)

    def step(n_maps: int) -> float:
        model = MapMixture(map_[None].repeat(n_maps, 1, 1, 1), image_power(problem.images), problem.constraint)
        stage = Stage(run.start_shells, tuning.start.n_rotations, 1, min(run.batch_size, many),
                      problem.max_shift_px)
        course = Course(Batches(np.arange(many), 0), torch.Generator().manual_seed(0))
        one = seconds_of(lambda: run_stage(problem.images, model, stage, course), device)
        return one * run.batch_size / stage.batch

    def searched(radius: float, n_rotations: int) -> Line:
        model = MapMixture(map_[None], noise, problem.constraint)
        grid = PoseGrid(radius, n_rotations, problem.max_shift_px)
        return line_of(lambda n: search_all(problem.images, model, np.arange(n), grid), few, many, device)

    def refined(radius: float) -> Line:
        wide = make_band(problem.box_px, radius, device)
        precision = wide.weight / noise[wide.shell]
        return line_of(lambda n: posed(problem, state, n, radius).refined(
            map_, precision, tuning.rounds.pose_iterations), few, many, device)

    def principal(n: int) -> None:
        working = WorkingImages(problem, state.part(np.arange(many) < n), max_shell)
        start = first_maps(working, tuning.landscape.n_components, working.constraint)
        random = torch.randn(n, tuning.landscape.n_components, device=device)
        for _ in range(2):
            total = one_pass(start, working.part, torch.arange(n), lambda rows, _: (
                random[rows], random[rows, :, None] * random[rows, None]), shared=True)
            stepped(start, total, working.constraint)

    maps = line_of(lambda n: mapped(problem, state, n, band.radius), few, many, device)
    wide = line_of(lambda n: mapped(problem, state, n, nyquist), few, many, device)
    fine = refined(nyquist)
    both = line_of(principal, few, many, device)
    tried = line_of(lambda n: misfits(posed(problem, state, n, max_shell), map_, band.weight / noise[band.shell]), few,
                    many, device)
    return Costs(step(1), step(run.n_maps), searched(run.search_shells, tuning.search.n_rotations),
                 searched(max_shell, tuning.search.second_n_rotations), refined(max_shell), maps,
                 Line(both.fixed / 2, both.each / 2), Line(fine.fixed + wide.fixed, 1.5 * fine.each + wide.each), tried)


def posed(problem: Problem, state: State, n: int, radius: float) -> PosedImages:
    """Some of the made images at their poses."""
    band = make_band(problem.box_px, radius, problem.device)
    return PosedImages(Coefficients(problem.images, np.arange(n), band), state.rotations[:n], state.shifts_px[:n])


def mapped(problem: Problem, state: State, n: int, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A map of some of them, and its noise."""
    band, rows = make_band(problem.box_px, radius, problem.device), np.arange(n)
    one = Assignment(np.zeros(len(state.rows), np.int64), np.zeros((len(state.rows), 1), np.float32),
                     state.rotations[:, None], state.shifts_px[:, None], problem.mask[None],
                     torch.ones(problem.box_px // 2 + 1, device=problem.device), np.zeros(len(state.rows), bool))
    return state_map(problem, one, rows, band, torch.ones_like(band.weight))


def counted(run: StatesRun, costs: Costs, n: int) -> dict[str, Span]:
    """How often each is done, for n images; as many states as maps are tried."""
    k, stages, smaller = run.n_maps, {}, steps_batch(run, n) / run.batch_size
    if not run.data.input_poses:
        usual = run.start_steps * USUAL_PARTS * (2 * costs.step_alone)
        long = run.start_steps * run.n_starts * costs.step_alone
        longer = 2 * run.search_steps * costs.step_alone
        kinds = (0 if k == 1 else 2) + bool(run.clusters_dir)
        several = kinds * run.start_steps * costs.step_several
        again = 2 * run.search_steps * costs.step_several
        stages["starts"] = Span(smaller * (usual + USUAL_PARTS * (longer + several)),
                                smaller * (long + longer + several + again))
        once = k * costs.search.of(n)
        near = NEAR_PART * (2 * once + k * costs.fine_search.of(n))
        stages["pose searches"] = Span(costs.search.of(n) + near,
                                       3 * once + (LONG_ROUNDS - 1) * k * costs.fine_search.of(n))
    settled = (TUNING.rounds.first_settle_rounds + 1) * (k * costs.refined.of(n) + k * costs.map.of(n / k))
    landscape = principal_rounds(costs, n, 4) + TUNING.split.settle_rounds * (costs.refined.of(n) + costs.map.of(n))
    stages["states and landscapes"] = Span(USUAL_ROUNDS * (settled + landscape), LONG_ROUNDS * (settled + landscape))
    if run.relax_symmetry:
        stages["relaxed symmetry"] = relaxed(run, costs, n)
    searches = 0.0 if run.data.input_poses else costs.search.of(n)
    rounds = TUNING.half_maps.rounds * k * costs.detail.of(n / k)
    usual_searches = 1 + NEAR_PART * (DETAIL_SEARCHES - 1)
    stages["detail of halves"] = Span(usual_searches * searches + 0.6 * rounds,
                                      LONG_DETAIL_SEARCHES * searches + rounds)
    moved = min(n, k * TUNING.motion.max_curve_images) * costs.refined.each * MOTION_PASSES
    stages["variation"] = Span(moved, 2 * moved)
    return stages


def relaxed(run: StatesRun, costs: Costs, n: int) -> Span:
    """Principal maps, then turns in which each image tries all copies of its pose, as it does in every state later."""
    copies = len(group_of(run.relax_symmetry)) * costs.tried.of(n)
    principal, turn = principal_rounds(costs, n), copies + costs.map.of(n)
    usual, long = (principal + turns * turn + rounds * run.n_maps * copies for turns, rounds in (
        (TUNING.relax.max_turns / 2, USUAL_ROUNDS), (TUNING.relax.max_turns, LONG_ROUNDS)))
    return Span(usual, long)


def principal_rounds(costs: Costs, n: int, more: int = 0) -> float:
    """Seconds of the rounds of a landscape of n images, the first of which take a part each, and of some ``more``."""
    tuning = TUNING.landscape
    n_parts = max(1, min(tuning.most_parts, n // tuning.part_images))
    in_parts = tuning.map_rounds - tuning.whole_rounds
    return in_parts * costs.landscape.of(n / n_parts) + (tuning.whole_rounds + more) * costs.landscape.of(n)


def steps_batch(run: StatesRun, n: int) -> int:
    """Images of a step of the start."""
    return min(run.batch_size, max(TUNING.start.least_batch, int(TUNING.start.max_batch_frac * n)))


def memory_gb(run: StatesRun, problem: Problem, n: int) -> float:
    """Of the process: what is held of every image, of a band, and of maps at full box."""
    k, d = run.n_maps, problem.box_px
    n_points = len(make_band(d, problem.max_shell(1)).index)
    held = 12 * min(n * n_points, MOST_HELD)
    held = held if held <= share_bytes(HELD_PART) else 0
    of_image = 3 * k * (36 + 8 + 4) + 1500  # poses in every state thrice, the landscape's points
    volumes = 6 * 12 * (2 * d) ** 3 // 2
    return resident_gb() + (stored_bytes(n, n_points) + held + n * of_image + volumes) / GB

