"""The rounds of a refinement: split, search, settle, restart, search again, junk aside."""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract import wording
from ..contract.settings import RefineRun
from ..physics.fourier_band import make_band
from ..reconstruction.images import Images
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import search_all
from ..runtime.journal import Journal
from ..runtime.progress import progress_bar
from ..runtime.step_store import Checkpoints
from . import contrast, mask_choice
from .ab_initio import SEARCH_ROTATIONS, USUAL_SPREAD, contrasts_known
from .assignment import reassign, searched
from .evidence import Evidence
from .join_states import merge_same, pair_evidence
from .junk import set_aside
from .restart_states import restarted
from .second_search import all_searched_again
from .split_states import divide
from .states import Assignment, State

SMALLEST_SHARE = 0.03  # of the images: a class below it after the start is dropped
FINER_SHELLS = 2.0  # added from the second round on
MOST_ROUNDS = 5


def states_of(run: RefineRun, data: Images, maps: Tensor, noise: Tensor, circle_frac: float, largest_shift_px: float,
              evidence: Evidence, journal: Journal, steps: Checkpoints) -> tuple[Images, Assignment, Tensor, Evidence]:
    """Contrasts, mask, divide, search, join, search again, junk aside: twice, and until the number of states stays.

    Returns the images with their contrast, the assignment, the mask of its maps, and what speaks for it.
    """
    masks = mask_choice.masks(data.box_px, circle_frac, data.device)
    mask = masks[mask_choice.FIRST]
    rng = torch.Generator().manual_seed(run.compute.seed + 1)
    smallest = int(run.smallest_frac * len(data))
    states = steps.step("first_states", partial(first_states, run, data, MapMixture(maps, noise, mask),
                                                largest_shift_px, journal))
    spread = 0.0
    if evidence.structured:
        data, spread = with_contrast(data, states, run.class_shells, mask, "contrast_first", journal, steps)
        if data.contrast_spread:
            data = replace(data, contrast=None, contrast_spread=USUAL_SPREAD)
            maps, noise = steps.step("ab_initio_contrast", partial(
                contrasts_known, run, data, MapMixture(maps, noise, mask), mask, largest_shift_px, journal, steps))
            states = steps.step("contrast_states", partial(
                first_states, run, data, MapMixture(maps, noise, mask), largest_shift_px, journal))
            data, spread = with_contrast(data, states, run.class_shells, mask, "contrast_again", journal, steps)
    aside, tried, restarts = np.zeros(len(data), bool), [], []
    for turn in range(MOST_ROUNDS):
        radius = min(run.class_shells + min(turn, 1) * FINER_SHELLS, data.box_px / 2)
        before = len(states)
        refused: list[dict[str, Any]] = []
        junk: dict[str, Any] = {}
        if evidence.structured:
            tried = steps.step(f"mask_{turn}", partial(mask_choice.best_mask, data, states, masks, radius, circle_frac))
            mask = masks[[row["kept"] for row in tried].index(True)]
            journal.note(stage="mask", masks=tried)
            print(wording.mask_text(tried), flush=True)
            states, refused = steps.step(f"divide_{turn}", partial(divided, data, states, radius, mask, smallest, rng,
                                                                   journal), rng)
        found = steps.step(f"search_{turn}", partial(searched_in_all, run, data, states, largest_shift_px, mask,
                                                     journal))
        found.aside = aside
        found, pairs = steps.step(f"settle_{turn}", partial(settled, run, data, found, radius, mask, smallest, rng,
                                                            journal), rng)
        if evidence.structured:
            found, anew = steps.step(f"restart_{turn}", partial(restarted, run, data, found, radius, mask,
                                                                largest_shift_px, journal, steps, f"restart_{turn}"))
            restarts += anew
            if any(row["kept"] for row in anew):
                found, pairs = steps.step(f"settle_anew_{turn}", partial(settled, run, data, found, radius, mask,
                                                                         smallest, rng, journal), rng)
        if evidence.structured and turn:
            found, pairs = steps.step(f"again_{turn}", partial(searched_finer, data, found, radius, mask, smallest,
                                                               largest_shift_px, rng, journal), rng)
        if evidence.structured:
            found, pairs, junk = steps.step(f"junk_{turn}", partial(without_junk, data, found, pairs, radius, mask,
                                                                    smallest, largest_shift_px, rng), rng)
            journal.note(stage="junk", **junk)
        states = [State(found.members(c), *found.poses(found.members(c)), found.volumes[c])
                  for c in range(found.n_classes)]
        aside = found.aside
        print(f"{found.n_classes} states: {', '.join(str(len(state.rows)) for state in states)} particles, "
              f"{int(aside.sum())} set aside", flush=True)
        if evidence.structured:
            data, spread = with_contrast(data, states, radius, mask, f"contrast_{turn}", journal, steps)
        if not evidence.structured or (turn and len(states) == before):
            break
    return data, found, mask, replace(evidence, pairs=pairs, refused_splits=refused, junk=junk, contrast_spread=spread,
                                      masks=tried, restarts=restarts)


def with_contrast(data: Images, states: list[State], radius: float, mask: Tensor, step: str, journal: Journal,
                  steps: Checkpoints) -> tuple[Images, float]:
    """The images with every particle's contrast, and the contrasts' standard deviation."""
    values, spread = steps.step(step, partial(contrast.measured, data, states, radius, mask))
    journal.note(stage="contrast", spread=spread)
    print(f"contrast: {spread:.3f} standard deviation" + ("" if spread >= contrast.LEAST_SPREAD else ", not modelled"),
          flush=True)
    return replace(data, contrast=values, contrast_spread=spread if spread >= contrast.LEAST_SPREAD else 0.0), spread


def first_states(run: RefineRun, data: Images, model: MapMixture, largest_shift_px: float, journal: Journal
                 ) -> list[State]:
    """All images searched in the coarse maps; maps with few images are dropped."""
    journal.stage("pose search", f"{len(data)} particles in {model.n_classes} maps")
    with progress_bar(len(data), "pose search", "images") as bar:
        found = search_all(data, model, np.arange(len(data)), run.search_shells, SEARCH_ROTATIONS, largest_shift_px,
                           progress=bar.update)
    shares = np.bincount(found.log_evidence.argmax(1), minlength=model.n_classes) / len(data)
    kept = [c for c in range(model.n_classes) if shares[c] > min(SMALLEST_SHARE, 0.5 / model.n_classes)]
    journal.note(stage="pose search", shares=shares.round(4).tolist())
    class_ = found.log_evidence[:, kept].argmax(1)
    model.keep(kept)
    states = []
    for c, old in enumerate(kept):
        rows = np.flatnonzero(class_ == c)
        at = torch.from_numpy(rows).to(found.A.device)
        states.append(State(rows, found.A[at, old], found.shifts_px[at, old], model.maps[c]))
    return states


def divided(data: Images, states: list[State], radius: float, mask: Tensor, smallest: int, rng: torch.Generator,
            journal: Journal) -> tuple[list[State], list[dict[str, Any]]]:
    """The leaves of all states, and the evidence of the splits that were refused."""
    journal.stage("divide", f"{len(states)} states at {radius:.3g} shells")
    leaves: list[State] = []
    refused: list[dict[str, Any]] = []

    def report(evidence: dict[str, Any]) -> None:
        journal.note(stage="split", **evidence)
        print(f"  split of {evidence['n_particles']} into {evidence['n_particles'] - evidence['n_second']} + "
              f"{evidence['n_second']}: agreement {evidence['agreement']:.2f}, valley {evidence['valley']:.2f}, "
              f"by view {evidence['by_view']:.2f}, {'kept' if evidence['kept'] else 'refused'}", flush=True)
        if not evidence["kept"]:
            refused.append(evidence)

    for state in states:
        leaves += divide(data, state, radius, mask, smallest, rng, report)
    return leaves, refused


def searched_in_all(run: RefineRun, data: Images, states: list[State], largest_shift_px: float, mask: Tensor,
                    journal: Journal) -> Assignment:
    """Every image in every state's map."""
    journal.stage("settle", f"{len(states)} candidate states, every image in every map")
    with progress_bar(len(data), "pose search", "images") as bar:
        return searched(data, states, run.search_shells, SEARCH_ROTATIONS, largest_shift_px, mask, bar.update)


def settled(run: RefineRun, data: Images, found: Assignment, radius: float, mask: Tensor, smallest: int,
            rng: torch.Generator, journal: Journal) -> tuple[Assignment, list[dict[str, Any]]]:
    """Classes and poses by turns, states that are the same joined; with the evidence of the pairs that stay."""
    found = reassign(data, found, run.class_shells, mask, 2, smallest)
    found, pairs = merge_same(data, found, radius, mask, smallest, rng, lambda pair: journal.note(stage="join", **pair))
    before, found = found.n_classes, reassign(data, found, radius, mask, 1, smallest)
    return found, pairs if found.n_classes == before else pair_evidence(data, found, radius, mask, rng)


def searched_finer(data: Images, found: Assignment, radius: float, mask: Tensor, smallest: int,
                   largest_shift_px: float, rng: torch.Generator, journal: Journal
                   ) -> tuple[Assignment, list[dict[str, Any]]]:
    """All images searched in the states' maps on a finer grid, where a sample gains by it; with the pairs' evidence."""
    band = make_band(data.box_px, radius, data.device)
    journal.stage("search again", f"{found.n_classes} states at {radius:.3g} shells")
    with progress_bar(int((~found.aside).sum()), "search again", "images") as bar:
        made, changed = all_searched_again(data, found, band, largest_shift_px, mask, bar.update)
    journal.note(stage="search again", changed_frac=changed)
    print(f"search again: {100 * changed:.1f} % of a sample changed", flush=True)
    made = reassign(data, made, radius, mask, 1, smallest)
    return made, pair_evidence(data, made, radius, mask, rng)


def without_junk(data: Images, found: Assignment, pairs: list[dict[str, Any]], radius: float, mask: Tensor,
                 smallest: int, largest_shift_px: float, rng: torch.Generator
                 ) -> tuple[Assignment, list[dict[str, Any]], dict[str, Any]]:
    """Junk set aside, with its numbers; where that ends a state, the evidence of the pairs is taken anew."""
    before = found.n_classes
    found, junk = set_aside(data, found, radius, mask, smallest, largest_shift_px)
    if found.n_classes != before:
        pairs = pair_evidence(data, found, radius, mask, rng)
    return found, pairs, junk
