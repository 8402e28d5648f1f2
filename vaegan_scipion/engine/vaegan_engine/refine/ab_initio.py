"""Where ``refine`` begins: resolutions that fit the particle, and the best of several starts.

A start in wrong poses stays there, and what it splits or joins later means nothing. Two things decide:

* *Resolution.* What fixes a pose is the detail across the particle, not across the box. ``START_SHELLS`` and the others
  hold for a particle of radius ``USUAL_RADIUS_FRAC`` of the box; a smaller one gets proportionally more shells.
* *Luck.* Several starts are made from different random maps (the first from the clusters' maps, where they are given),
  and the one that best explains images which took no part is kept. The truth is not asked.

There are two kinds of starts. ``APART``: several random maps, each with a frame and a hand of its own; unrelated
molecules need them. ``GROWN``: one random map, and once it has a frame, several copies of it that become different;
what varies far about a common part gets poses in one frame. Unseen images choose here too: grown maps are taken where
they are plainly better. A state that is told apart but in wrong poses costs little in a mixture of grown maps.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract.settings import RefineRun
from ..reconstruction.images import Images, low_passed, spread_rows
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import Batches, Stage, run_stage, search_all
from ..runtime.journal import Journal
from ..runtime.progress import progress_bar
from ..runtime.step_store import Checkpoints, stored
from .starting_maps import start

START_ROTATIONS, SEARCH_ROTATIONS = 1152, 2304  # of the grids, about 22 and 18 degrees apart
HELD_OUT_FRAC, MOST_HELD_OUT = 0.1, 300
UNDER_WAY, TRIED = "ab_initio_under_way", "ab_initio_tried"  # checkpoints inside the step
APART, GROWN = KINDS = "apart", "grown"
_GROWN_NOISE = 0.3  # norm of what is added to a copy / the map's
_PLAINLY = 3.0  # standard errors of the difference between two kinds
_MORE_STEPS = 2  # times search_steps, after the best start of a kind was refined: copies become different
USUAL_SPREAD = 0.25  # of the contrasts, before it is known


@dataclass
class Start:
    """A mixture after some steps, where its batches and random numbers are, and how well it explains unseen images."""

    model: MapMixture
    batches: Batches
    rng: torch.Generator
    each: Tensor = field(default_factory=lambda: torch.zeros(0))  # log likelihood ratio of every unseen image

    @property
    def unseen(self) -> float:
        """Mean log likelihood ratio of an unseen image against an empty map."""
        return float(self.each.mean())

    def state(self) -> dict[str, Any]:
        """For ``restore``."""
        return {"model": self.model.state(), "batches": self.batches.state(), "rng": self.rng.get_state(),
                "each": self.each}

    def restore(self, state: dict[str, Any]) -> Start:
        """Go on as from ``state``."""
        self.model.restore(state["model"])
        self.batches.restore(state["batches"])
        self.rng.set_state(state["rng"].cpu())
        self.each = state["each"].cpu()
        return self


@dataclass(frozen=True)
class Trial:
    """What all starts have in common. As many maps are tried of both kinds: one map takes a part of the time."""

    run: RefineRun
    data: Images
    maps: Tensor | None  # of the clusters
    mask: Tensor
    largest_shift_px: float
    held: np.ndarray  # rows that take no part

    def tries(self, kind: str) -> int:
        """Starts of a kind."""
        return self.run.n_tries * (self.run.n_starts if kind == GROWN else 1)

    def begin(self, kind: str, number: int) -> Start:
        """Start ``number`` of a kind; the first that is ``APART`` from the clusters' maps, where they are given."""
        seed = self.run.compute.seed + 1000 * number + 500 * KINDS.index(kind)
        rng = torch.Generator().manual_seed(seed)
        maps = None if self.maps is None or number or kind == GROWN else self.maps.to(self.data.device)
        n_maps = 1 if kind == GROWN else self.run.n_starts
        model = start(self.data, maps, n_maps, self.run.start_shells, self.mask, rng)
        return Start(model, Batches(np.setdiff1d(np.arange(len(self.data)), self.held), seed), rng)

    def explained(self, model: MapMixture, stage: Stage) -> Tensor:
        """Log likelihood ratio of the images that took no part, the maps against an empty one."""
        found = search_all(self.data, model, self.held, stage.radius, stage.n_rotations, self.largest_shift_px)
        return torch.from_numpy(found.log_evidence).logsumexp(1) - np.log(model.n_classes)


def grown(one: Start, n_maps: int, radius: float, mask: Tensor) -> Start:
    """A start that goes on with copies of its one map, each with noise of its own inside the mask."""
    volume = one.model.maps[0]
    noise = torch.randn(n_maps, *volume.shape, generator=one.rng).to(volume.device)
    noise = low_passed(noise, radius) * mask
    noise *= _GROWN_NOISE * volume.norm() / noise.flatten(1).norm(dim=1)[:, None, None, None]
    return replace(one, model=MapMixture(volume + noise, one.model.noise, mask))


def ab_initio(run: RefineRun, data: Images, maps: Tensor | None, mask: Tensor, largest_shift_px: float,
              journal: Journal, steps: Checkpoints) -> tuple[Tensor, Tensor, float, list[dict[str, Any]]]:
    """Coarse maps of the best start, the noise, what unseen images say of them, and a row for each kind of start.

    Log likelihood ratios are means against an empty map, near 0 on pure noise.
    """
    held = held_out(len(data))
    trial = Trial(run, data, maps, mask, largest_shift_px, held)
    given = 0 if maps is None else len(maps)
    n_maps = max(given, run.n_starts)
    journal.stage("ab initio", f"{run.n_tries} starts of {n_maps} maps"
                  + (f", {given} from the clusters in the first" if given else "")
                  + (f", {trial.tries(GROWN)} of one that is grown to {run.n_starts}" if run.n_starts > 1 else ""))
    ends = [steps.step(f"ab_initio_{kind}", partial(best_of_kind, trial, kind, journal, steps))
            for kind in (KINDS if run.n_starts > 1 else (APART,))]
    best = ends[-1] if plainly_better(ends[-1].each, ends[0].each) else ends[0]
    print(f"unseen images: log likelihood against an empty map {best.unseen:.1f} per image ({len(held)} images)")
    return best.maps, best.noise, best.unseen, [
        {"kind": end.kind, "coarse_log_evidence": end.coarse, "log_evidence": end.unseen, "kept": end is best}
        for end in ends]


def held_out(n: int) -> np.ndarray:
    """Rows of n images that take no part in a start."""
    return spread_rows(n, min(MOST_HELD_OUT, int(HELD_OUT_FRAC * n)))


def plainly_better(one: Tensor, other: Tensor) -> bool:
    """Whether log likelihoods (n,) of the same unseen images are better, by ``_PLAINLY`` errors of their mean."""
    gain = one - other
    return float(gain.mean()) > _PLAINLY * float(gain.std()) / len(gain) ** 0.5


def best_of_kind(trial: Trial, kind: str, journal: Journal, steps: Checkpoints) -> Tried:
    """All starts of one kind at coarse resolution, the best of them at a finer one."""
    run = trial.run
    coarse = Stage(run.start_shells, START_ROTATIONS, run.start_steps, run.batch_size)
    finer = Stage(run.search_shells, SEARCH_ROTATIONS, run.search_steps, run.batch_size)
    at = steps.read(TRIED)
    if at is None or at["kind"] != kind:
        at = {"kind": kind, "unseen": [], "best": None, "finer": False}
    while len(at["unseen"]) < trial.tries(kind):
        number = len(at["unseen"])
        one = advance(trial, trial.begin(kind, number), coarse, f"{kind} {number + 1}", journal, steps)
        best = one.state() if not at["unseen"] or one.unseen > max(at["unseen"]) else at["best"]
        at = {**at, "unseen": [*at["unseen"], one.unseen], "best": best}
        steps.write(TRIED, at)
    end = trial.begin(kind, int(np.argmax(at["unseen"]))).restore(at["best"])
    if not at["finer"]:
        end = advance(trial, end, finer, f"{kind}, finer", journal, steps)
        steps.write(TRIED, {**at, "best": end.state(), "finer": True})
    if kind == GROWN:
        end = grown(end, run.n_starts, run.search_shells, trial.mask)
    end = advance(trial, end, replace(finer, steps=_MORE_STEPS * finer.steps), f"{kind}, all maps", journal, steps)
    steps.drop(TRIED)
    return Tried(kind, end.model.maps, end.model.noise, end.each, at["unseen"])


def contrasts_known(run: RefineRun, data: Images, model: MapMixture, mask: Tensor, largest_shift_px: float,
                    journal: Journal, steps: Checkpoints) -> tuple[Tensor, Tensor]:
    """Maps and noise of a start that did not know of contrasts, after more steps in which every image has its own.

    Without them faint and strong images have gathered in maps of their own, and weak maps attract wrong poses.
    """
    held = held_out(len(data))
    trial = Trial(run, data, None, mask, largest_shift_px, held)
    seed = run.compute.seed + 1000 * run.n_tries
    one = Start(model, Batches(np.setdiff1d(np.arange(len(data)), held), seed), torch.Generator().manual_seed(seed))
    journal.stage("ab initio", "once more, with contrasts")
    one = advance(trial, one, Stage(run.search_shells, SEARCH_ROTATIONS, run.search_steps, run.batch_size),
                  "with contrasts", journal, steps)
    return one.model.maps, one.model.noise


def advance(trial: Trial, one: Start, stage: Stage, part: str, journal: Journal, steps: Checkpoints) -> Start:
    """The steps of one stage, from where a checkpoint left this part, and what unseen images say after it."""
    at, done = steps.read(UNDER_WAY), 0
    if at is not None and at["part"] == part:
        one, done = one.restore(at["start"]), at["step"]
    with progress_bar(stage.steps * stage.batch, f"ab initio, {stage.radius:.3g} shells", "images",
                      initial=done * stage.batch) as bar:
        run_stage(trial.data, one.model, stage, one.batches, trial.largest_shift_px, one.rng, done=done,
                  after_step=partial(_noted, one, stage, part, journal, steps, bar.update))
    one.each = trial.explained(one.model, stage)
    steps.drop(UNDER_WAY)
    journal.note(stage="held out", part=part, n_images=len(trial.held), log_evidence=one.unseen)
    print(f"start, {part}: log likelihood of unseen images {one.unseen:.1f} per image", flush=True)
    return one


def _noted(one: Start, stage: Stage, part: str, journal: Journal, steps: Checkpoints,
           update: Callable[[int], Any], values: dict[str, Any]) -> None:
    """One step done: the bar, the log, a checkpoint now and then."""
    update(stage.batch)
    journal.note(stage="ab initio", part=part, shells=stage.radius, **values)
    steps.under_way(UNDER_WAY, lambda: {"part": part, "step": values["step"], "start": one.state()})


@stored
@dataclass(frozen=True)
class Tried:
    """Where the starts of one kind ended; log likelihood ratios are means over unseen images, against an empty map."""

    kind: str
    maps: Tensor  # of the best start, refined further
    noise: Tensor
    each: Tensor  # (n,) of every unseen image
    coarse: list[float]  # of every start, at the resolution of the start

    @property
    def unseen(self) -> float:
        """Mean over the unseen images."""
        return float(self.each.mean())
