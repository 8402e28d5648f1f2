"""The order of a classification in the plane.

1. *Steps* over parts of the images, at a resolution that grows; sums of images fade into those of the newest part
   (stepwise expectation maximisation: Cappe and Moulines, J. R. Stat. Soc. B 71, 593, 2009).
2. *Two searches* of all images. After the first, small classes are dissolved and equal ones joined (``settle``). In the
   second each half set is searched in averages of its own, at the coarse resolution that the classes began with: beyond
   it, what both halves of a class have in common from here on is signal.
3. *Rounds near* their poses, the halves apart, at a resolution that their agreement allows (``near``).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tqdm import tqdm

from ..physics.masked_fsc import masked_fsc
from ..runtime.journal import Journal
from ..runtime.progress import progress_bar
from ..runtime.step_store import Checkpoints, stored
from .near import Candidates, candidates_of, near_grid, near_step
from .problem import Model, PlaneProblem
from .search import Found, Step, search, search_steps
from .settle import centred, joined, shares, with_copies, with_noise, with_signal
from .start import first_model

FRC_LIMIT = 0.143
COPY_EVERY, COPY_UNTIL_FRAC = 4, 0.7  # steps: when weak classes are given to large ones
UNDER_WAY = "steps_under_way"
GAIN_POWER = 0.6  # of the step's number: how fast older parts fade (0.5 to 1)


@stored
@dataclass(frozen=True)
class Classified:
    """Classes of images, and where every image lies in them."""

    model: Model
    candidates: Candidates
    radius: float  # shells of the next round


def classify(problem: PlaneProblem, journal: Journal, steps: Checkpoints) -> Classified:
    """Classes of all images."""
    n_steps, cost = problem.n_steps, search_cost(problem)
    with progress_bar(n_steps + 2 * cost, "Searching", "steps") as bar:
        model = steps.step("steps", partial(online_steps, problem, journal, steps, bar))
        steps.drop(UNDER_WAY)
        bar.update(max(0, n_steps - bar.n))  # where they were made before
        journal.stage("search", f"all images in {model.n_classes} classes")
        model = steps.step("search", partial(search_together, problem, model, journal))
        bar.update(cost)
        state = steps.step("halves", partial(search_apart, problem, model, journal))
        bar.update(cost)
    journal.stage("near", f"{state.model.n_classes} classes, two halves apart")
    with progress_bar(problem.tuning.near_rounds, "Refining", "rounds") as bar:
        for number in range(problem.tuning.near_rounds):
            state = steps.step(f"near_{number}", partial(near_round, problem, state, number, journal))
            bar.update(1)
    return searched_again(problem, without_small(problem, state), journal)


def search_cost(problem: PlaneProblem) -> int:
    """Steps of parts of the images that one search of all takes the time of."""
    return max(1, round(len(problem) / problem.tuning.online_images))


def online_steps(problem: PlaneProblem, journal: Journal, steps: Checkpoints, bar: tqdm) -> Model:
    """Classes from parts of the images in turn."""
    n, size = len(problem), min(len(problem), problem.tuning.online_images)
    first, last = problem.shells(problem.tuning.first_shells), problem.search_radius
    done, model = steps.read(UNDER_WAY) or (0, first_model(problem, np.random.default_rng(problem.seed)))
    bar.update(done)
    for number in range(done, problem.n_steps):
        rows = np.sort(np.random.default_rng([problem.seed, number]).choice(n, size, replace=False))
        radius = first + (last - first) * min(1.0, 1.3 * number / max(problem.n_steps - 1, 1))
        result, sums = search(problem, model, rows, radius)
        gain = (number + 2) ** -GAIN_POWER
        model = replace(model, sums=(1 - gain) * model.sums + (gain * n / size) * sums)
        model = with_noise(problem, model, result, radius)
        model, _ = centred(problem, model)
        share = shares(result)
        if number % COPY_EVERY == COPY_EVERY - 1 and number < COPY_UNTIL_FRAC * problem.n_steps:
            model = with_copies(problem, model, share, np.random.default_rng([problem.seed, number, 1]))
        journal.note(stage="steps", step=number, shells=radius, log_evidence=float(result.log_evidence.mean()),
                     largest_share=float(share.max()), effective_classes=effective(share))
        steps.under_way(UNDER_WAY, lambda at=number + 1, now=model: (at, now))  # type: ignore[misc]
        bar.update(1)
    return model


def effective(share: np.ndarray) -> float:
    """Number of equal classes with the entropy of these shares."""
    some = share[share > 0]
    return float(np.exp(-(some * np.log(some)).sum()))


def search_together(problem: PlaneProblem, model: Model, journal: Journal) -> Model:
    """All images in all classes; then small classes go and equal ones are joined."""
    radius = problem.search_radius
    result, sums = search(problem, model, np.arange(len(problem)), radius)
    share = shares(result)
    new = with_noise(problem, replace(model, sums=sums), result, radius)
    kept = np.flatnonzero(share >= min(problem.min_images / len(problem), share.max()))
    new = new.chosen(kept)
    distinct = joined(problem, new, share[kept], radius)
    journal.note(stage="search", dissolved=model.n_classes - len(kept), joined=len(kept) - len(distinct),
                 log_evidence=float(result.log_evidence.mean()))
    return centred(problem, new.chosen(distinct))[0]


def search_apart(problem: PlaneProblem, model: Model, journal: Journal) -> Classified:
    """Each half set in averages of its own, at a coarse resolution."""
    result, sums = search_halves(problem, model, np.arange(len(problem)))
    journal.note(stage="halves", log_evidence=float(result.log_evidence.mean()))
    return Classified(replace(model, sums=sums), likeliest(problem, result), problem.search_radius)


def search_halves(problem: PlaneProblem, model: Model, rows: np.ndarray) -> Step:
    """Some images, rows in rising order, each searched in the averages of its own half set, at a coarse resolution."""
    total, parts, order = np.zeros_like(model.sums), [], []
    for half in range(2):
        chosen = np.flatnonzero(problem.half_set[rows] == half + 1)
        if len(chosen):
            own = np.zeros_like(model.sums)
            own[half] = model.sums[half]
            step = search(problem, replace(model, sums=own), rows[chosen], problem.shells(problem.tuning.apart_shells))
            total += step.sums
            parts.append(step.found)
            order.append(chosen)
    back = np.argsort(np.concatenate(order), kind="stable")
    return Step(Found(*(np.concatenate([getattr(part, name) for part in parts])[back]
                        for name in ("log_evidence", "of_class", "pose", "contrast", "misfit"))), total)


def likeliest(problem: PlaneProblem, result: Found) -> Candidates:
    """The classes that images are compared with from here on."""
    return candidates_of(result, problem.tuning.n_candidates, problem.tuning.least_log_weight)


def near_round(problem: PlaneProblem, state: Classified, number: int, journal: Journal) -> Classified:
    """All images near their poses, in a band that grows with the agreement of the halves."""
    n_turns, step_px = search_steps(problem, problem.shells(problem.tuning.apart_shells))
    model, candidates = centred_poses(problem, state)
    near = near_grid(2 * np.pi / n_turns / (3 + number), step_px / (2 + number), state.radius)
    candidates, model = near_step(problem, model, candidates, near)
    counts = candidates.sizes(model.n_classes)
    model = with_noise(problem, model, candidates, state.radius)
    model = with_signal(problem, model, counts.astype(np.float64))
    radius = next_radius(problem, model, counts, state.radius)
    journal.note(stage="near", round=number, shells=state.radius, next_shells=radius,
                 log_evidence=float(candidates.log_evidence[:, 0].mean()))
    return Classified(model, candidates, radius)


def without_small(problem: PlaneProblem, state: Classified) -> Classified:
    """The same without classes of too few images; these go to their next class, or to none where they had one alone."""
    counts = state.candidates.sizes(state.model.n_classes)
    kept = counts >= min(problem.min_images, counts.max())
    new = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    return replace(state, model=state.model.chosen(kept), candidates=state.candidates.renamed(new))


def searched_again(problem: PlaneProblem, state: Classified, journal: Journal) -> Classified:
    """The same with the images that are in no class searched anew in all that stayed, and brought near there.

    At high signal an image has one candidate alone: with its class it would be lost, and be junk for that.
    """
    lost = np.flatnonzero(state.candidates.best < 0)
    if not len(lost):
        return state
    journal.stage("near", f"{len(lost)} images of classes that were too small")
    new = likeliest(problem, search_halves(problem, state.model, lost).found)
    candidates = state.candidates.with_rows(lost, new)
    state = replace(state, candidates=candidates)
    for number in (0, problem.tuning.near_rounds - 1):  # over the search's steps, then as finely as all others
        state = near_round(problem, state, number, journal)
    return state


def centred_poses(problem: PlaneProblem, state: Classified) -> tuple[Model, Candidates]:
    """The averages centred, and the poses of their images with them."""
    model, moved = centred(problem, state.model)
    candidates = state.candidates
    pose, place = candidates.pose.copy(), np.maximum(candidates.class_of, 0)
    own, psi = moved[place], pose[..., 0]
    # a point r of the average is at R(-psi) r of the image
    pose[..., 1] += own[..., 0] * np.cos(psi) + own[..., 1] * np.sin(psi)
    pose[..., 2] += -own[..., 0] * np.sin(psi) + own[..., 1] * np.cos(psi)
    return model, replace(candidates, pose=pose)


def half_frc(problem: PlaneProblem, model: Model) -> np.ndarray:
    """FRC ``(c, n_shells)`` of the half averages in the mask, less what the mask brings; 0 beyond their band.

    The averages are not drawn down where there is little signal: the mask would carry strong shells into shells that
    are empty by then, and these would agree. Up to the shells of their common start nothing is proven either way.
    """
    halves = np.stack([model.grid.plain_averages(half) for half in model.sums], 1).astype(np.float64)
    shared = int(problem.shells(problem.tuning.apart_shells))
    frc = np.stack([masked_fsc(pair, problem.mask, shared).corrected for pair in halves])
    frc[:, int(model.radius) + 1:] = 0
    return frc


def last_shells(frc: np.ndarray) -> np.ndarray:
    """Last shell ``(c,)`` before each FRC ``(c, n_shells)`` first falls below 0.143; 0 where it never was above."""
    below = np.concatenate((frc[:, 1:] < FRC_LIMIT, np.ones((len(frc), 1), bool)), 1)
    return np.asarray(below.argmax(1))


def next_radius(problem: PlaneProblem, model: Model, counts: np.ndarray, radius: float) -> float:
    """Shells of the next round: a little past the fall of the FRC of the best half of the images."""
    crossing = last_shells(half_frc(problem, model))
    order = np.argsort(crossing, kind="stable")
    middle = crossing[order][np.searchsorted(np.cumsum(counts[order]), counts.sum() / 2)]
    tuning = problem.tuning
    return float(np.clip(middle + tuning.next_shells, problem.search_radius,
                         min(radius + tuning.next_shells, problem.box_px / 2 - 1)))
