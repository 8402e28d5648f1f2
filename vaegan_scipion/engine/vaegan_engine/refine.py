"""``refine``: states, poses and maps from particles without poses, beyond what the VAE-GAN's clusters say.

1. *Ab initio* (``abinitio``): a few maps at coarse resolution, from the clusters' maps, random blobs, or both.
2. *Divide* (``divide``): each class is split while two halves of its images agree on the split.
3. *Settle* (``polish``, ``merge``): all images are searched in all states' maps; states that two halves of the
   images cannot tell apart are joined, small ones dissolved. Steps 2 and 3 run twice, the second time at finer detail,
   and again while the number of states changes. A state that is explained far worse than the others is started anew
   from its own images (``restart``). From the second time on, images whose coarse search may have been
   wrong are searched once more (``search_again``).
   Before each, every particle's contrast is measured (``contrast``) and the mask of the maps chosen (``envelope``);
   after each, images that no state explains are set aside (``junk``).
4. *Follow* (``follow``): poses of states that move are searched along their motion.
5. *Detail*: per state, two halves refined apart, the band growing with their FSC; all states laid in one frame
   (``frames``); then the continuous variation of each (``motion``).

Some images take no part in step 1; whether maps made without them explain them better than an empty map
decides if there is structure at all. Every step is kept (``refine_checkpoint``), to go on from after a stop.
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import compute, contract, contrast, envelope, refine_output, results
from .abinitio import Images, search_all
from .arguments import add_compute, add_fields, add_folder, add_out, run_of
from .band import make_band
from .cache import ParticleCache, open_cache, read_training
from .clustering import NOISE
from .contract import RefineRun, TrainRun
from .divide import State, divide
from .errors import ConfigError, DataError
from .follow import followed
from .frames import in_one_frame
from .journal import Journal
from .junk import set_aside
from .merge import merge_same, pair_evidence
from .mixture import MapMixture
from .motion import LEAST_IMAGES, Motion, motion_of
from .particle_tables import read_cluster_rows
from .particles import drawn_half_sets
from .polish import Assignment, Halves, reassign, refine_halves, searched, smaller_halves
from .progress import progress_bar
from .refine_checkpoint import Checkpoints, settings_of, stoppable
from .refine_output import Evidence
from .restart import restarted
from .search_again import all_searched_again
from .starts import SEARCH_ROTATIONS, USUAL_SPREAD, ab_initio, contrasts_known, shells_text, with_shells

HELPS = {
    "n_starts": "maps to start from: those of --clusters, filled up with random ones to this number",
    "n_tries": "starts of n_starts maps that are tried, and n_starts times as many of one map; unseen images choose",
    "start_shells": "resolution of the start, in shells (box size / resolution); 0: by the particle's size",
    "search_shells": "resolution of the pose search; 0: by the particle's size",
    "class_shells": "resolution at which states are told apart; 0: by the particle's size",
    "start_steps": "steps at the resolution of the start",
    "search_steps": "steps at the resolution of the pose search",
    "batch_size": "images per step",
    "smallest_frac": "smallest state / all particles",
}
SMALLEST_STATE = 50  # particles
SMALLEST_SHARE = 0.03  # of the images: a class below it after the start is dropped
LEAST_EVIDENCE = 3.0  # mean log likelihood ratio of an unseen image, maps against no particle
FINER_SHELLS = 2.0  # added from the second round on
MOST_ROUNDS = 5
DETAIL_ROUNDS = 5
LEAST_HALF_FRAC = 0.1  # of a state's images, in the smaller of its half sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan refine``."""
    add_folder(parser, "--run", "run_dir", "--out folder of train3d")
    add_folder(parser, "--clusters", "clusters_dir", "--out folder of cluster: start from its maps", required=False)
    add_out(parser)
    add_fields(parser, RefineRun, HELPS)
    add_compute(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint")


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan refine``."""
    run_refine(run_of(RefineRun, args), args.out, args.resume)


def check(run: RefineRun, train: TrainRun, cache: ParticleCache) -> None:
    """Refuse settings and particles that cannot be run, by name, value, limit and remedy."""
    n, box_px = len(cache), cache.box_px
    if train.command != "train3d":
        raise ConfigError(f"{run.run_dir} is a {train.command}; refine makes maps.",
                          "Give the --out folder of train3d.")
    shells = [(name, value, 2, box_px / 2) for name in ("start_shells", "search_shells", "class_shells")
              if (value := getattr(run, name))]
    limits = [*shells, ("n_starts", run.n_starts, 1, 32), ("n_tries", run.n_tries, 1, 100),
              ("start_steps", run.start_steps, 1, 10**6), ("search_steps", run.search_steps, 1, 10**6),
              ("batch_size", run.batch_size, 2, 10**5), ("smallest_frac", run.smallest_frac, 0.0, 0.5)]
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value:g}.", f"Use a value from {low:g} to {high:g}.")
    if n < 4 * SMALLEST_STATE:
        raise DataError(f"{train.data.particles}: {n} particles are too few for maps.",
                        f"Give at least {4 * SMALLEST_STATE} particles.")
    if len(np.unique(cache.half_set)) < 2:
        raise DataError(f"{train.data.particles}: all particles in use are of half set {cache.half_set[0]}; refine "
                        "compares two halves.", "Give a training on all particles (data.half_set 0).")


def run_refine(run: RefineRun, out_dir: Path, resume: bool = False) -> dict[str, Any]:
    """Refine into ``out_dir``, with ``resume`` from its checkpoints; returns what ``refine.json`` holds.

    Raises ConfigError, DataError or, after a signal, StoppedError.
    """
    out_dir = Path(out_dir)
    device = compute.prepare_device(run.compute)
    train = read_training(run.run_dir)
    cache = open_cache(train.data, Path(run.run_dir) / results.CACHE)
    check(run, train, cache)
    data = Images(cache.images, cache.ctf, cache.pixel_size_ang, device)
    settings = with_shells(replace(run, smallest_frac=max(run.smallest_frac, SMALLEST_STATE / len(data))), data)
    maps = cluster_maps(run, cache.box_px, cache.pixel_size_ang)
    steps = Checkpoints(out_dir, settings_of(run, train, cache, maps), device, resume)
    if resume and steps.finished():
        print(f"{out_dir}: the refinement is finished")
        return dict(results.read_json(out_dir / results.REFINE_JSON))
    contract.write_run(run, out_dir / results.RUN_JSON)
    journal = Journal(out_dir, resumed=bool(steps.names()))
    print(f"{len(cache)} particles of {cache.box_px} px, {cache.pixel_size_ang:.3f} A/px, "
          f"on {compute.describe(device)}")

    circle_frac = train.data.particle_radius_frac
    mask = envelope.masks(data.box_px, circle_frac, device)[envelope.FIRST]
    largest_shift_px = train.model.max_shift_frac * data.box_px
    print(f"resolution: {shells_text(settings, data)}", flush=True)
    with stoppable(out_dir):
        coarse, noise, unseen, starts = steps.step("ab_initio", partial(
            ab_initio, settings, data, maps, mask, largest_shift_px, journal, steps))
        data, found, mask, evidence = states_of(settings, data, coarse, noise, circle_frac, largest_shift_px,
                                                Evidence(unseen, LEAST_EVIDENCE, starts), journal, steps)
        cache = with_halves_of_all(cache, found)
        if evidence.structured:
            follow_motions(settings, data, found, cache, mask, largest_shift_px, journal, steps)
        halves = detail(settings, data, found, cache, mask, journal, steps)
        found, halves, laid = steps.step("frame", partial(in_one_frame, data, found, halves, cache.half_set, mask))
        motions = variation(settings, data, found, cache, mask, evidence, journal, steps)
        made = refine_output.write(settings, train, cache, found, halves, laid, motions, data.contrast, evidence,
                                   out_dir)
    steps.clear()
    return made


def cluster_maps(run: RefineRun, box_px: int, voxel_size_ang: float) -> Tensor | None:
    """Maps of the clusters ``(c, d, d, d)``, noise left out; None where no clusters are given."""
    from .mrc_io import read_map

    if not run.clusters_dir:
        return None
    maps = []
    for row in read_cluster_rows(run.clusters_dir):
        path = Path(run.clusters_dir) / row["file"]
        if row["label"] == NOISE:
            continue
        array, size_ang = read_map(path)
        if array.shape[0] != box_px or abs(size_ang / voxel_size_ang - 1) > 0.01:
            raise DataError(f"{path}: {array.shape[0]} px of {size_ang:.3f} A, the run has {box_px} px of "
                            f"{voxel_size_ang:.3f} A.", "Give clusters that were made with this run.")
        maps.append(torch.from_numpy(array))
    if not maps:
        raise DataError(f"{run.clusters_dir}: there is no cluster map.", "Give the --out folder of cluster.")
    return torch.stack(maps)


def states_of(run: RefineRun, data: Images, maps: Tensor, noise: Tensor, circle_frac: float, largest_shift_px: float,
              evidence: Evidence, journal: Journal, steps: Checkpoints) -> tuple[Images, Assignment, Tensor, Evidence]:
    """Contrasts, mask, divide, search, join, search again, junk aside: twice, and until the number of states stays.

    Returns the images with their contrast, the assignment, the mask of its maps, and what speaks for it.
    """
    masks = envelope.masks(data.box_px, circle_frac, data.device)
    mask = masks[envelope.FIRST]
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
            tried = steps.step(f"mask_{turn}", partial(envelope.best_mask, data, states, masks, radius, circle_frac))
            mask = masks[[row["kept"] for row in tried].index(True)]
            journal.note(stage="mask", masks=tried)
            print(results.mask_text(tried), flush=True)
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


def follow_motions(run: RefineRun, data: Images, found: Assignment, cache: ParticleCache, mask: Tensor,
                   largest_shift_px: float, journal: Journal, steps: Checkpoints) -> None:
    """Poses of the states that move, searched along their motion; they and the maps go to ``found``."""
    radius = min(run.class_shells + FINER_SHELLS, data.box_px / 2)

    def report(agreement: float, changed: int) -> None:
        journal.note(stage="follow", agreement=agreement, changed=changed)
        print(f"  motion: halves agree by {agreement:.2f}, {changed} images in another pose", flush=True)

    journal.stage("follow", f"{found.n_classes} states: does one move?")
    with progress_bar(len(data), "motions", "images") as bar:
        for c in range(found.n_classes):
            found.A[:, c], found.shifts_px[:, c], found.volumes[c] = steps.step(f"follow_{c:02d}", partial(
                followed, data, found, c, cache.half_set, run.search_shells, radius, mask, largest_shift_px,
                run.compute.seed, report))
            bar.update(len(found.members(c)))


def with_halves_of_all(cache: ParticleCache, found: Assignment) -> ParticleCache:
    """The particles with half sets that every state has both of: drawn anew where those given go with a state."""
    parts = smaller_halves(found, cache.half_set)
    if parts.min() >= LEAST_HALF_FRAC:
        return cache
    print(f"half sets of the particles: state {int(parts.argmin()) + 1} has {100 * parts.min():.1f} % of its images in "
          f"the smaller one, at least {100 * LEAST_HALF_FRAC:g} % is asked for: NOT USED, both halves are drawn anew "
          "for all states", flush=True)
    return replace(cache, half_set=drawn_half_sets(cache.particle_id))


def detail(run: RefineRun, data: Images, found: Assignment, cache: ParticleCache, mask: Tensor, journal: Journal,
           steps: Checkpoints) -> list[Halves]:
    """Two halves of every state, refined apart; their poses go to ``found``."""

    def of_class(c: int) -> tuple[Halves, Tensor, Tensor]:
        made = refine_halves(data, found, c, cache.half_set, run.class_shells, mask, DETAIL_ROUNDS)
        return made, found.A[:, c], found.shifts_px[:, c]

    journal.stage("detail", f"{found.n_classes} states, two halves each")
    made = []
    with progress_bar(len(data), "detail", "images") as bar:
        for c in range(found.n_classes):
            one, found.A[:, c], found.shifts_px[:, c] = steps.step(f"detail_{c:02d}", partial(of_class, c))
            made.append(one)
            bar.update(len(found.members(c)))
    return made


def variation(run: RefineRun, data: Images, found: Assignment, cache: ParticleCache, mask: Tensor, evidence: Evidence,
              journal: Journal, steps: Checkpoints) -> list[Motion | None]:
    """Continuous variation of every state; None for small ones, and where there is no structure."""
    made: list[Motion | None] = []
    radius = min(run.class_shells + FINER_SHELLS, data.box_px / 2)
    journal.stage("variation", f"{found.n_classes} states")
    with progress_bar(len(data), "variation", "images") as bar:
        for c in range(found.n_classes):
            n, motion = len(found.members(c)), None
            smaller = min(np.count_nonzero(cache.half_set[found.members(c)] == half) for half in (1, 2))
            if evidence.structured and smaller >= LEAST_IMAGES:
                motion = steps.step(f"motion_{c:02d}", partial(
                    motion_of, data, found, c, cache.half_set, radius, mask, run.compute.seed))
                journal.note(stage="variation", state=c, n_images=n, agreement=motion.agreement)
            made.append(motion)
            bar.update(n)
    return made
