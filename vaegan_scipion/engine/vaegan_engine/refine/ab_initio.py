"""Where ``states`` begins: the best of several starts from maps without poses.

A start in wrong poses stays there, and what it splits or joins later means nothing. Two things decide:

* *Resolution.* What fixes a pose is the detail across the particle, not across the box (``resolutions``).
* *Luck.* Several starts are made from different random maps (the first from the clusters' maps, where they are given),
  and the one that best explains images which took no part is kept. The truth is not asked.

There are two kinds of starts. ``APART``: several random maps, each with a frame and a hand of its own; unrelated
molecules need them. ``GROWN``: one random map, and once it has a frame, several copies of it that become different;
what varies far about a common part gets poses in one frame. Unseen images choose here too: grown maps are taken where
they are plainly better. A state that is told apart but in wrong poses costs little in a mixture of grown maps.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..physics.map_resize import mask_in_box
from ..reconstruction.images import low_passed, spread_rows
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import Batches, Stage, run_stage, search_all
from ..runtime.progress import progress_bar
from ..runtime.step_store import stored
from .problem import Problem, Recorder
from .starting_maps import starting_mixture
from .tuning import TUNING, StartTuning

UNDER_WAY, TRIED = "ab_initio_under_way", "ab_initio_tried"  # checkpoints inside the step
APART, GROWN = KINDS = "apart", "grown"
_SEED_STEP, _KIND_STEP = 1000, 500  # between the seeds of two starts, of two kinds


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


@stored
@dataclass(frozen=True)
class BestStart:
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


@stored
@dataclass(frozen=True)
class CoarseMaps:
    """What the starts lead to: coarse maps, the noise, what unseen images say of them, a row per kind of start."""

    maps: Tensor  # (c, d, d, d)
    noise: Tensor  # (d//2 + 1,)
    unseen: float  # mean log likelihood ratio against an empty map; near 0 on pure noise
    starts: list[dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """What all starts have in common. As many maps are tried of both kinds: one map takes a part of the time."""

    problem: Problem
    maps: Tensor | None  # of the clusters
    held: np.ndarray  # rows that take no part

    def n_starts(self, kind: str) -> int:
        """Starts of a kind."""
        run = self.problem.settings
        return run.n_starts * (run.n_maps if kind == GROWN else 1)

    def stages(self) -> tuple[Stage, Stage]:
        """Steps at the resolution of the start, and at that of the pose search."""
        run, tuning = self.problem.settings, self.problem.tuning
        return (Stage(run.start_shells, tuning.start.n_rotations, run.start_steps, run.batch_size),
                Stage(run.search_shells, tuning.search.n_rotations, run.search_steps, run.batch_size))

    def batches(self, seed: int) -> Batches:
        """Of the images that take part."""
        return Batches(np.setdiff1d(np.arange(len(self.problem)), self.held), seed)

    def begin(self, kind: str, number: int) -> Start:
        """Start ``number`` of a kind; the first that is ``APART`` from the clusters' maps, where they are given."""
        seed = self.problem.seed + _SEED_STEP * number + _KIND_STEP * KINDS.index(kind)
        rng = torch.Generator().manual_seed(seed)
        maps = None if self.maps is None or number or kind == GROWN else self.maps.to(self.problem.device)
        model = starting_mixture(self.problem, maps, 1 if kind == GROWN else self.problem.settings.n_maps, rng)
        return Start(model, self.batches(seed), rng)

    def unseen_log_evidence(self, model: MapMixture, stage: Stage) -> Tensor:
        """Log likelihood ratio of the images that took no part, the maps against an empty one."""
        best = search_all(self.problem.images, model, self.held, stage.radius, stage.n_rotations,
                          self.problem.max_shift_px)
        return torch.from_numpy(best.log_evidence).logsumexp(1) - np.log(model.n_maps)


def trial_of(problem: Problem, maps: Tensor | None = None) -> Trial:
    """A trial in which some images take no part."""
    return Trial(problem, maps, held_out(len(problem), problem.tuning.start))


def grow(start: Start, problem: Problem) -> Start:
    """A start that goes on with copies of its one map, each with noise of its own inside the mask."""
    map_ = start.model.maps[0]
    noise = torch.randn(problem.settings.n_maps, *map_.shape, generator=start.rng).to(map_.device)
    noise = low_passed(noise, problem.settings.search_shells) * mask_in_box(problem.mask, len(map_))
    noise *= problem.tuning.start.growth_noise * map_.norm() / noise.flatten(1).norm(dim=1)[:, None, None, None]
    return replace(start, model=MapMixture(map_ + noise, start.model.noise, problem.mask))


def ab_initio(problem: Problem, maps: Tensor | None, recorder: Recorder) -> CoarseMaps:
    """Coarse maps of the best start; ``maps`` (c, d, d, d) of the clusters, where they are given."""
    run, trial = problem.settings, trial_of(problem, maps)
    n_given = 0 if maps is None else len(maps)
    recorder.stage("ab initio", f"{run.n_starts} starts of {max(n_given, run.n_maps)} maps"
                   + (f", {n_given} from the clusters in the first" if n_given else "")
                   + (f", {trial.n_starts(GROWN)} of one that is grown to {run.n_maps}" if run.n_maps > 1 else ""))
    ends = [recorder.step(f"ab_initio_{kind}", partial(best_of_kind, trial, kind, recorder))
            for kind in (KINDS if run.n_maps > 1 else (APART,))]
    best = ends[-1] if is_plainly_better(ends[-1].each, ends[0].each, problem.tuning.start) else ends[0]
    print(f"unseen images: log likelihood against an empty map {best.unseen:.1f} per image ({len(trial.held)} images)")
    return CoarseMaps(best.maps, best.noise, best.unseen, [
        {"kind": end.kind, "coarse_log_evidence": end.coarse, "log_evidence": end.unseen, "kept": end is best}
        for end in ends])


def held_out(n: int, tuning: StartTuning = TUNING.start) -> np.ndarray:
    """Rows of n images that take no part in a start."""
    return spread_rows(n, min(tuning.max_held_out, int(tuning.held_out_frac * n)))


def is_plainly_better(first: Tensor, second: Tensor, tuning: StartTuning = TUNING.start) -> bool:
    """Whether log likelihoods (n,) of the same unseen images are better, by ``plain_errors`` errors of their mean."""
    gain = first - second
    return float(gain.mean()) > tuning.plain_errors * float(gain.std()) / len(gain) ** 0.5


def best_of_kind(trial: Trial, kind: str, recorder: Recorder) -> BestStart:
    """All starts of one kind at coarse resolution, the best of them at a finer one."""
    (coarse, finer), steps = trial.stages(), recorder.steps
    so_far = steps.read(TRIED)
    if so_far is None or so_far["kind"] != kind:
        so_far = {"kind": kind, "unseen": [], "best": None, "finer": False}
    while len(so_far["unseen"]) < trial.n_starts(kind):
        number = len(so_far["unseen"])
        start = advance(trial, trial.begin(kind, number), coarse, f"{kind} {number + 1}", recorder)
        is_best = not so_far["unseen"] or start.unseen > max(so_far["unseen"])
        so_far = {**so_far, "unseen": [*so_far["unseen"], start.unseen],
                  "best": start.state() if is_best else so_far["best"]}
        steps.write(TRIED, so_far)
    end = trial.begin(kind, int(np.argmax(so_far["unseen"]))).restore(so_far["best"])
    if not so_far["finer"]:
        end = advance(trial, end, finer, f"{kind}, finer", recorder)
        steps.write(TRIED, {**so_far, "best": end.state(), "finer": True})
    if kind == GROWN:
        end = grow(end, trial.problem)
    longer = replace(finer, steps=trial.problem.tuning.start.all_maps_steps * finer.steps)
    end = advance(trial, end, longer, f"{kind}, all maps", recorder)
    steps.drop(TRIED)
    return BestStart(kind, end.model.maps, end.model.noise, end.each, so_far["unseen"])


def start_with_contrasts(problem: Problem, model: MapMixture, recorder: Recorder) -> tuple[Tensor, Tensor]:
    """Maps and noise of a start that did not know of contrasts, after more steps in which every image has its own.

    Without them faint and strong images have gathered in maps of their own, and weak maps attract wrong poses.
    """
    trial = trial_of(problem)
    seed = problem.seed + _SEED_STEP * problem.settings.n_starts
    start = Start(model, trial.batches(seed), torch.Generator().manual_seed(seed))
    recorder.stage("ab initio", "once more, with contrasts")
    start = advance(trial, start, trial.stages()[1], "with contrasts", recorder)
    return start.model.maps, start.model.noise


def advance(trial: Trial, start: Start, stage: Stage, part: str, recorder: Recorder) -> Start:
    """The steps of one stage, from where a checkpoint left this part, and what unseen images say after it."""
    steps = recorder.steps
    under_way, n_done = steps.read(UNDER_WAY), 0
    if under_way is not None and under_way["part"] == part:
        start, n_done = start.restore(under_way["start"]), under_way["step"]
    with progress_bar(stage.steps * stage.batch, f"ab initio, {stage.radius:.3g} shells", "images",
                      initial=n_done * stage.batch) as bar:

        def after_step(values: dict[str, Any]) -> None:
            bar.update(stage.batch)
            recorder.note(stage="ab initio", part=part, shells=stage.radius, **values)
            steps.under_way(UNDER_WAY, lambda: {"part": part, "step": values["step"], "start": start.state()})

        run_stage(trial.problem.images, start.model, stage, start.batches, trial.problem.max_shift_px, start.rng,
                  done=n_done, after_step=after_step)
    start.each = trial.unseen_log_evidence(start.model, stage)
    steps.drop(UNDER_WAY)
    recorder.note(stage="held out", part=part, n_images=len(trial.held), log_evidence=start.unseen)
    print(f"start, {part}: log likelihood of unseen images {start.unseen:.1f} per image", flush=True)
    return start
