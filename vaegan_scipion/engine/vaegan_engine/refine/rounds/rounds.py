"""The rounds of a refinement: mask, splits, search, joins, restarts, second search, junk, contrasts.

They are taken until the number of states stays, twice at least.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from ...contract import wording
from ...contract.record import to_json
from ...contract.records import JunkNumbers, LandscapeNumbers, Separation
from ...physics.fourier_band import make_band
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.near_search import passes_in_one_frame, search_in_one_frame
from ...reconstruction.pose_search import search_all
from ...runtime.progress import progress_bar
from ..assignment import reassign, search_in_all_maps
from ..problem import Problem, Recorder
from ..start import known_poses
from ..start.ab_initio import CoarseMaps, start_with_contrasts, trial_of
from ..start.ball_null import BallNull, ball_null
from ..states import Assignment, State
from . import contrast, junk, mask_choice, restart_states, second_search
from .evidence import Evidence
from .join_states import join_same, separate_pairs
from .landscape import Leaf, find_landscape, leaves
from .relaxed_poses import relaxed
from .separation import settle_poses

T = TypeVar("T")
Step = tuple[Assignment, Evidence]
Split = tuple[list[Leaf], np.ndarray, list[LandscapeNumbers]]


@dataclass(frozen=True)
class Round:
    """One round: the problem as it is known by now, and where its steps are kept."""

    problem: Problem
    number: int
    rng: torch.Generator
    recorder: Recorder

    @property
    def max_shell(self) -> float:
        """Band in which states are told apart."""
        return self.problem.max_shell(self.number)

    def step(self, name: str, make: partial[T], draws: bool = False) -> T:
        """The value of a step of this round; ``draws``: it takes random numbers."""
        return self.recorder.step(f"{name}_{self.number}", make, self.rng if draws else None)


def find_states(problem: Problem, coarse: CoarseMaps, recorder: Recorder) -> tuple[Problem, Assignment, Evidence]:
    """States, poses and maps from coarse maps.

    Returns the problem with the images' contrast and the mask that was chosen, the assignment, and what speaks for it.
    """
    evidence = Evidence(coarse.unseen, problem.tuning.start.min_log_evidence, coarse.starts)
    rng = torch.Generator().manual_seed(problem.seed + 1)
    problem, states, evidence = begin(problem, coarse, evidence, recorder)
    aside, outside = np.zeros(len(problem), bool), np.zeros(len(problem), bool)
    assignment: Assignment | None = None
    for number in range(problem.tuning.rounds.max_rounds):
        this, n_before = Round(problem, number, rng, recorder), len(states)
        if evidence.structured:
            this, evidence = choose_mask(this, states, evidence)
            all_leaves, outside_now, landscapes = split(this, states, aside)
            evidence = replace(evidence, landscapes=landscapes)
            outside = outside | outside_now  # its misfit decides at the end of every round
        else:
            all_leaves = [Leaf(k, state) for k, state in enumerate(states)]
        if assignment is None:
            is_one = len(states) == 1 and len(states[0].rows) == len(problem)
            known_px = states[0].shifts_px if is_one else None  # then all maps are of its frame
            assignment = search(this, [leaf.state for leaf in all_leaves], known_px)
        else:
            assignment = taken_over(this, assignment, all_leaves)
        assignment = assignment.with_junk(aside | outside)
        assignment, evidence = settle(this, assignment, evidence, "settle")
        if evidence.structured:
            if problem.poses is None:
                assignment, evidence = restart(this, assignment, evidence)
                if number > 0:
                    assignment, evidence = search_finer(this, assignment, evidence)
            assignment, evidence = set_junk_aside(this, assignment, evidence, outside)
        problem, states, aside = this.problem, assignment.states(), assignment.aside
        print(f"{assignment.n_states} states: {', '.join(str(len(state.rows)) for state in states)} particles, "
              f"{int(aside.sum())} set aside", flush=True)
        if not evidence.structured:
            break
        problem, evidence = measure_contrasts(this, states, evidence)
        if number > 0 and len(states) == n_before:
            break
    assert assignment is not None  # there is a round at least
    return problem, assignment, evidence


def with_null(problem: Problem, coarse: CoarseMaps, evidence: Evidence, recorder: Recorder) -> Evidence:
    """The evidence with what images that no start has seen say of the coarse maps against balls."""
    ball = recorder.step("ball_null", partial(null_of_start, problem, coarse))
    recorder.note(stage="ball null", **asdict(ball))
    print(f"unseen images, maps against balls: {ball.text()}; an image leaves {ball.open_deg:.0f} degrees of rotation "
          "open", flush=True)
    return replace(evidence, ball=ball)


def null_of_start(problem: Problem, coarse: CoarseMaps) -> BallNull:
    """The coarse maps against balls, by the images that no start has seen."""
    trial = trial_of(problem)
    model = MapMixture(coarse.maps, coarse.noise, problem.constraint)
    if problem.poses is not None:  # their map is made of all images
        model = known_poses.unseen_model(problem, trial.seen)
    return ball_null(problem, model, trial.held, trial.stages()[1])


def begin(problem: Problem, coarse: CoarseMaps, evidence: Evidence, recorder: Recorder
          ) -> tuple[Problem, list[State], Evidence]:
    """All images in the coarse maps, and their contrasts; where these differ, the start once more with them.

    First the coarse maps are compared with balls; where these are as good, there are no contrasts to ask for.
    """
    if evidence.structured:
        evidence = with_null(problem, coarse, evidence, recorder)
    model = MapMixture(coarse.maps, coarse.noise, problem.constraint)
    states = recorder.step("first_states", partial(first_states, problem, model, coarse.one_frame, recorder))
    if not evidence.structured:
        return problem, states, evidence
    max_shell = problem.settings.state_shells
    problem, spread = with_contrasts(problem, states, max_shell, "contrast_first", recorder)
    if problem.images.contrast_spread and problem.poses is None:
        problem = problem.with_contrast(None, problem.tuning.start.typical_spread)
        model = MapMixture(coarse.maps, coarse.noise, problem.constraint)
        maps, noise = recorder.step("ab_initio_contrast", partial(start_with_contrasts, problem, model, recorder))
        model = MapMixture(maps, noise, problem.constraint)
        states = recorder.step("contrast_states", partial(first_states, problem, model, coarse.one_frame, recorder))
        problem, spread = with_contrasts(problem, states, max_shell, "contrast_again", recorder)
    return problem, states, replace(evidence, contrast_spread=spread)


def first_states(problem: Problem, model: MapMixture, one_frame: bool, recorder: Recorder) -> list[State]:
    """All images searched in the coarse maps, maps with few images dropped; or one state at the given poses.

    In ``one_frame`` all images are one state, each at its pose in the map that explains it best.
    """
    if problem.poses is not None:
        whole = known_poses.one_state(problem)
        return [relaxed(problem, whole) if problem.settings.relax_symmetry else whole]
    images, tuning, n_maps = problem.images, problem.tuning, model.n_maps
    recorder.stage("pose search", f"{len(images)} particles in {n_maps} maps")
    search_maps, passes = (search_in_one_frame, passes_in_one_frame(model)) if one_frame else (search_all, 1)
    with progress_bar(passes * len(images), "pose search", "images" if passes == 1 else "image searches") as bar:
        best = search_maps(images, model, np.arange(len(images)),
                           problem.pose_grid(problem.settings.search_shells), bar.update)
    shares = np.bincount(best.log_evidence.argmax(1), minlength=n_maps) / len(images)
    min_share = min(tuning.start.min_share, 0.5 / n_maps)  # of many maps each has a small one
    kept = [k for k in range(n_maps) if shares[k] > min_share]
    recorder.note(stage="pose search", shares=shares.round(4).tolist())
    if one_frame:
        own = torch.from_numpy(best.log_evidence.argmax(1)).to(best.rotations.device)
        at = torch.arange(len(images), device=own.device)
        map_ = torch.einsum("c,cijk->ijk", torch.from_numpy(shares).to(model.maps), model.maps)
        return [State(np.arange(len(images)), best.rotations[at, own], best.shifts_px[at, own], map_)]
    state_of = best.log_evidence[:, kept].argmax(1)
    states = []
    for state, k in enumerate(kept):
        rows = np.flatnonzero(state_of == state)
        at = torch.from_numpy(rows).to(best.rotations.device)
        states.append(State(rows, best.rotations[at, k], best.shifts_px[at, k], model.maps[k]))
    return states


def choose_mask(this: Round, states: list[State], evidence: Evidence) -> tuple[Round, Evidence]:
    """The mask with which the maps best explain images they were made without; one that was given is rated alone."""
    problem = this.problem
    rate = mask_choice.rate_given if problem.settings.mask else mask_choice.rate_masks
    masks = mask_choice.candidate_masks(problem.box_px, problem.particle_radius_frac, problem.device,
                                        problem.tuning.mask)
    rows = this.step("mask", partial(rate, problem, states, masks, this.max_shell))
    this.recorder.note(stage="mask", masks=[to_json(row) for row in rows])
    print(wording.mask_text(rows), flush=True)
    mask = [*masks, problem.mask][[row.kept for row in rows].index(True)]
    return replace(this, problem=replace(problem, mask=mask)), replace(evidence, masks=rows)


def split(this: Round, states: list[State], aside: np.ndarray) -> Split:
    """Every state as its landscape shows it; with the images ``(n,)`` that lie in no group of it, and the numbers."""
    return this.step("divide", partial(split_states, this, states, aside))


def split_states(this: Round, states: list[State], aside: np.ndarray) -> Split:
    """The states in the landscapes of all states, outliers, and the landscapes' numbers."""
    problem, max_shell, outside = this.problem, this.max_shell, np.zeros(len(aside), bool)
    this.recorder.stage("divide", f"{len(states)} states at {max_shell:.3g} shells")
    all_leaves: list[Leaf] = []
    landscapes: list[LandscapeNumbers] = []
    for parent, state in enumerate(states):
        settled, _, _ = settle_poses(problem, state, make_band(problem.box_px, max_shell, problem.device))
        if len(state.rows) < 2 * problem.min_state:
            all_leaves.append(Leaf(parent, settled))
            continue
        shown = find_landscape(problem, settled, max_shell)
        landscapes.append(shown.summary())
        this.recorder.note(stage="landscape", state=parent, **to_json(landscapes[-1]))
        print(f"  landscape of {len(state.rows)} particles: {wording.landscape_text(landscapes[-1])}", flush=True)
        say_small(landscapes[-1], problem)
        own = leaves(shown, parent, settled, problem)
        if own:
            outside[state.rows[shown.label < 0]] = True
        all_leaves += own or [Leaf(parent, settled)]  # no group is large enough: the state stays, whole
    return sorted(all_leaves, key=lambda leaf: -len(leaf.state.rows)), outside, landscapes


def say_small(landscape: LandscapeNumbers, problem: Problem) -> None:
    """Groups that stand apart, and are no states because of ``smallest_frac`` alone: another setting shows them."""
    small = [size for size in landscape.sizes if problem.tuning.min_state <= size < problem.min_state]
    if small:
        print(f"warning: groups of {', '.join(map(str, small))} particles stand apart and are no states: these have at "
              f"least {problem.min_state} (smallest_frac {problem.settings.smallest_frac:g}); give a smaller "
              "smallest_frac to keep them", flush=True)


def taken_over(this: Round, before: Assignment, all_leaves: list[Leaf]) -> Assignment:
    """Every image at its pose in the parent of each new state; the images of a new state begin there."""
    parents = [leaf.parent for leaf in all_leaves]
    log_posterior = before.log_posterior[:, parents].copy()
    rotations, shifts_px = before.rotations[:, parents].clone(), before.shifts_px[:, parents].clone()
    state_of = log_posterior.argmax(1)
    for k, leaf in enumerate(all_leaves):
        state, at = leaf.state, torch.from_numpy(leaf.state.rows).to(rotations.device)
        state_of[state.rows] = k
        for same in (j for j, other in enumerate(parents) if other == leaf.parent):
            rotations[at, same], shifts_px[at, same] = state.rotations, state.shifts_px
    maps = torch.stack([leaf.state.map for leaf in all_leaves])
    return Assignment(state_of, log_posterior, rotations, shifts_px, maps, before.noise, before.aside)


def search(this: Round, states: list[State], known_px: torch.Tensor | None) -> Assignment:
    """Every image in every state's map; near shifts ``(n, 2)`` that all of them have, where these are known."""
    return this.step("search", partial(search_states, this, states, known_px))


def search_states(this: Round, states: list[State], known_px: torch.Tensor | None) -> Assignment:
    """``search``, with a progress bar; where poses are given, none is searched."""
    if this.problem.poses is not None:
        return known_poses.at_own_poses(this.problem, states)
    this.recorder.stage("settle", f"{len(states)} candidate states, every image in every map")
    with progress_bar(len(this.problem), "pose search", "images") as bar:
        return search_in_all_maps(this.problem, states, known_px, bar.update)


def settle(this: Round, assignment: Assignment, evidence: Evidence, name: str) -> Step:
    """States and poses in turn, states that are the same joined; with the evidence of the pairs that stay."""
    assignment, pairs = this.step(name, partial(settle_states, this, assignment), draws=True)
    return assignment, replace(evidence, pairs=pairs)


def settle_states(this: Round, assignment: Assignment) -> tuple[Assignment, list[Separation]]:
    """What ``settle`` does, and the evidence of the pairs."""
    problem, max_shell = this.problem, this.max_shell
    settled = reassign(problem, assignment, problem.settings.state_shells,
                       problem.tuning.rounds.first_settle_rounds, all_poses=True)
    joined, pairs = join_same(problem, settled, max_shell, this.rng,
                              lambda pair: this.recorder.note(stage="join", **to_json(pair), joined=True))
    settled = reassign(problem, joined, max_shell)
    if settled.n_states != joined.n_states:
        pairs = separate_pairs(problem, settled, max_shell, this.rng)
    return settled, pairs


def restart(this: Round, assignment: Assignment, evidence: Evidence) -> Step:
    """States in wrong poses started anew; where one was, all are settled again."""
    name = f"restart_{this.number}"
    assignment, rows = this.step("restart", partial(restart_states.restart_states, this.problem, assignment,
                                                    this.max_shell, this.recorder, name))
    evidence = replace(evidence, restarts=[*evidence.restarts, *rows])
    if any(row.kept for row in rows):
        return settle(this, assignment, evidence, "settle_anew")
    return assignment, evidence


def search_finer(this: Round, assignment: Assignment, evidence: Evidence) -> Step:
    """All images searched in the states' maps on a finer grid, where a sample gains by it."""
    assignment, pairs = this.step("again", partial(search_states_finer, this, assignment), draws=True)
    return assignment, replace(evidence, pairs=pairs)


def search_states_finer(this: Round, assignment: Assignment) -> tuple[Assignment, list[Separation]]:
    """What ``search_finer`` does, and the evidence of the pairs."""
    problem, max_shell, recorder = this.problem, this.max_shell, this.recorder
    band = make_band(problem.box_px, max_shell, problem.device)
    recorder.stage("search again", f"{assignment.n_states} states at {max_shell:.3g} shells")
    with progress_bar(assignment.n_in_states, "search again", "images") as bar:
        searched, changed_frac = second_search.search_all_again(problem, assignment, band, bar.update)
    recorder.note(stage="search again", changed_frac=changed_frac)
    print(f"search again: {100 * changed_frac:.1f} % of a sample changed", flush=True)
    settled = reassign(problem, searched, max_shell)
    return settled, separate_pairs(problem, settled, max_shell, this.rng)


def set_junk_aside(this: Round, assignment: Assignment, evidence: Evidence, outside: np.ndarray) -> Step:
    """Images that no state explains set aside; where that ends a state, the evidence of the pairs is taken anew.

    ``outside`` (n,) bool: in no group of the landscape. Of these a smaller misfit is enough.
    """
    assignment, pairs, numbers, reason = this.step(
        "junk", partial(without_junk, this, assignment, evidence.pairs, outside), draws=True)
    this.recorder.note(stage="junk", **to_json(numbers))
    return assignment, replace(evidence, pairs=pairs, junk=numbers, junk_reason=reason)


def without_junk(this: Round, assignment: Assignment, pairs: list[Separation], outside: np.ndarray
                 ) -> tuple[Assignment, list[Separation], JunkNumbers, np.ndarray]:
    """What ``set_junk_aside`` does, the evidence of the pairs, the numbers behind it, and each image's reason."""
    judged, numbers = junk.set_junk_aside(this.problem, assignment, this.max_shell)
    each = junk.explained_now(this.problem, judged, this.max_shell)
    grouped, n_outliers = junk.with_outliers(this.problem, judged, each, outside)
    if grouped.n_states < judged.n_states:
        each = junk.explained_now(this.problem, grouped, this.max_shell)
    left, n_faint = junk.with_faint(this.problem, grouped, each)
    if left.n_states < grouped.n_states:
        each = junk.explained_now(this.problem, left, this.max_shell)
    reason = junk.reasons_of(left, each, numbers.least_gain, {
        "outlier": grouped.aside & ~judged.aside, "faint": left.aside & ~grouped.aside})
    numbers = replace(numbers, n_outliers=n_outliers, n_faint=n_faint, n_junk=int(left.aside.sum()),
                      fraction=float(left.aside.mean()))
    if left.n_states != assignment.n_states:
        pairs = separate_pairs(this.problem, left, this.max_shell, this.rng)
    return left, pairs, numbers, reason


def measure_contrasts(this: Round, states: list[State], evidence: Evidence) -> tuple[Problem, Evidence]:
    """The problem with every particle's contrast."""
    problem, spread = with_contrasts(this.problem, states, this.max_shell, f"contrast_{this.number}", this.recorder)
    return problem, replace(evidence, contrast_spread=spread)


def with_contrasts(problem: Problem, states: list[State], max_shell: float, step: str, recorder: Recorder
                   ) -> tuple[Problem, float]:
    """The problem with every particle's contrast, and the contrasts' standard deviation."""
    values, spread = recorder.step(step, partial(contrast.measure_contrasts, problem, states, max_shell))
    recorder.note(stage="contrast", spread=spread)
    is_modelled = spread >= problem.tuning.contrast.min_spread
    print(f"contrast: {spread:.3f} standard deviation" + ("" if is_modelled else ", not modelled"), flush=True)
    return problem.with_contrast(values, spread if is_modelled else 0.0), spread
