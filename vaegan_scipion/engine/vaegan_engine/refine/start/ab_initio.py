"""Where ``states`` begins: the best of several starts from one random map each, without poses.

A start in wrong poses stays there, and what it splits or joins later means nothing. Three things decide:

* *Resolution.* What fixes a pose is the detail across the particle, not across the box (``resolutions``), and real
  images tell it late: with contrast, coloured noise and real CTFs even the *true* map, low-passed to 4 shells, puts no
  more than 13 of 100 images within 20 degrees of their pose; to 6 shells 48, to 8 shells 77, to 10 shells 89.
* *Patience.* Many small steps, for the frame of a map forms slowly.
* *Luck.* Several starts are made from different random maps, and the one that best explains images which took no part
  is kept. The truth is not asked. Where the first two agree on the poses of these images after a part of their steps,
  which wrong starts did not do, they have found the same: no other start is made, and what follows takes that part of
  its steps too.

A hollow shell has little that tells views apart, and is of a cubic point group most often: starts held to the smallest
of them are tried as well, their best map goes on without symmetry, and is kept where unseen images say so (``CUBIC``).

The best map goes on as several copies, each with noise of its own, that become different in its frame (``GROWN``): junk
and what varies most leave the others, and poses get better by it. States are not told apart here: all images are one
state in that frame, whose landscape is read next (``landscape``). What one frame cannot hold, unrelated molecules, is
tried as well: ``BESIDE``, random maps beside the best one; ``CLUSTERS``, the clusters' maps where they are given. These
begin as states, where unseen images say that they are plainly better than the copies, of which there are as many. What
goes on stops after a part of its steps where unseen images gain nothing plain by it; what is tried beside the copies,
where these were plainly better after the same part.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...contract.records import StartRow
from ...physics.map_constraint import symmetrised_maps
from ...physics.map_resize import resized_maps
from ...physics.pose_agreement import share_in_one_frame
from ...reconstruction.images import low_passed, spread_rows
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.pose_search import Batches, Course, EmStep, Stage, run_stage, search_all
from ...runtime.progress import progress_bar
from ...runtime.step_store import stored
from ..problem import Problem, Recorder
from ..tuning import TUNING, StartTuning
from .centring import MOST_AT_LIMIT, displacement_px, move_back, share_at_limit
from .going_on import GoingOn, is_plainly_better, split_steps
from .starting_maps import starting_mixture

UNDER_WAY, TRIED, PARTS = "ab_initio_under_way", "ab_initio_tried", "ab_initio_parts"  # checkpoints inside the step
ALONE, CUBIC, GROWN, BESIDE, CLUSTERS = "alone", "cubic", "grown", "beside", "clusters"
_SEED_STEP, _KIND_STEP = 1000, 500  # between the seeds of two starts, of two kinds


@dataclass
class Start:
    """A mixture after some steps, where its batches and random numbers are, and how well it explains unseen images."""

    model: MapMixture
    batches: Batches
    rng: torch.Generator
    each: Tensor = field(default_factory=lambda: torch.zeros(0))  # log likelihood ratio of every unseen image
    rotations: Tensor = field(default_factory=lambda: torch.zeros(0, 3, 3))  # of the unseen images in the first map
    shifts_px: Tensor = field(default_factory=lambda: torch.zeros(0, 2))

    @property
    def unseen(self) -> float:
        """Mean log likelihood ratio of an unseen image against an empty map."""
        return float(self.each.mean())

    def state(self) -> dict[str, Any]:
        """For ``restore``."""
        return {"model": self.model.state(), "batches": self.batches.state(), "rng": self.rng.get_state(),
                "each": self.each, "rotations": self.rotations, "shifts_px": self.shifts_px}

    def restore(self, state: dict[str, Any]) -> Start:
        """Go on as from ``state``."""
        self.model.restore(state["model"])
        self.batches.restore(state["batches"])
        self.rng.set_state(state["rng"].cpu())
        self.each, self.rotations, self.shifts_px = (state[name].cpu() for name in ("each", "rotations", "shifts_px"))
        return self


@stored
@dataclass(frozen=True)
class BestStart:
    """Where one kind of start ended; log likelihood ratios are means over unseen images, against an empty map."""

    kind: str
    maps: Tensor  # (c, d', d', d') of the best start, after all steps
    noise: Tensor
    each: Tensor  # (n,) of every unseen image
    coarse: list[float]  # of every start before the best went on
    effort: float = 1.0  # part of the steps after which two starts agreed
    parts: list[Tensor] = field(default_factory=list)  # (n,) of every unseen image after each part that was taken

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
    starts: list[StartRow]
    one_frame: bool = True  # copies of one map: together they are one state


@dataclass(frozen=True)
class Trial:
    """What all starts have in common."""

    problem: Problem
    held: np.ndarray  # rows that take no part

    def stages(self) -> tuple[Stage, Stage]:
        """Steps of every start at its resolution, and of what goes on at that of the pose search."""
        run, tuning = self.problem.settings, self.problem.tuning.start
        batch = min(run.batch_size, max(tuning.least_batch, int(tuning.max_batch_frac * len(self.problem))))
        most_px, finer_shifts = self.problem.max_shift_px, self.problem.tuning.search.finer_shifts
        return (Stage(run.start_shells, tuning.n_rotations, run.start_steps, batch, most_px, finer_shifts),
                Stage(run.search_shells, tuning.search_n_rotations, run.search_steps, tuning.larger_batches * batch,
                      most_px, finer_shifts))

    def batches(self, seed: int) -> Batches:
        """Of the images that take part."""
        return Batches(self.seen, seed)

    @property
    def seen(self) -> np.ndarray:
        """Rows that take part: no image of theirs is among those that take none."""
        first = self.problem.first_of_same
        return np.flatnonzero(~np.isin(first, first[self.held]))

    def begin(self, number: int) -> Start:
        """Start ``number`` from one random map."""
        seed = self.problem.seed + _SEED_STEP * number
        rng = torch.Generator().manual_seed(seed)
        return Start(starting_mixture(self.problem, None, 1, rng), self.batches(seed), rng)

    def begin_several(self, kind: str, alone: BestStart, clusters: Tensor | None) -> Start:
        """A start of several maps: copies of the best one, random ones beside it, or those of the clusters."""
        problem, n_maps = self.problem, self.problem.settings.n_maps
        seed = problem.seed + _KIND_STEP + _SEED_STEP * (GROWN, BESIDE, CLUSTERS).index(kind)
        rng = torch.Generator().manual_seed(seed)
        if kind == CLUSTERS:
            assert clusters is not None
            model = starting_mixture(problem, clusters.to(problem.device), max(len(clusters), n_maps), rng)
            return Start(model, self.batches(seed), rng)
        if kind == GROWN:
            maps = grown(alone.maps[0], problem, rng)
        else:
            random = starting_mixture(problem, None, n_maps - 1, rng).maps
            maps = torch.cat((alone.maps, resized_maps(random, alone.maps.shape[-1])))
        return Start(MapMixture(maps, alone.noise, problem.constraint), self.batches(seed), rng)

    def look(self, model: MapMixture, stage: Stage) -> tuple[Tensor, Tensor, Tensor]:
        """The images that took no part, searched in all maps: ``unseen_log_evidence``, poses in the first map."""
        best = search_all(self.problem.images, model, self.held, stage.grid)
        return (torch.from_numpy(best.log_evidence).logsumexp(1) - np.log(model.n_maps), best.rotations[:, 0].cpu(),
                best.shifts_px[:, 0].cpu())

    def unseen_log_evidence(self, model: MapMixture, stage: Stage) -> Tensor:
        """Log likelihood ratio of the images that took no part, the maps against an empty one.

        Of models whose noise is not alike it says little: the lower the noise, the larger the ratio.
        """
        return self.look(model, stage)[0]

    def recentre(self, start: Start) -> float:
        """Move a start's maps to where the unseen images say that their centre is; by how many px, 0 where it is near.

        Only maps of one frame: of ``BESIDE`` and ``CLUSTERS`` each has its own.
        """
        tuning = self.problem.tuning.start
        if not self.problem.max_shift_px or start.model.n_maps > 1:
            return 0.0
        displaced_px, error_px = displacement_px(start.rotations, start.shifts_px, self.problem.constraint.group.cpu())
        distance_px = float(displaced_px.norm())
        if distance_px < max(tuning.min_displaced_frac * self.problem.box_px, tuning.min_displaced_errors * error_px):
            return 0.0
        move_back(start.model, displaced_px, self.problem.box_px)
        return distance_px

    def agree(self, first: Start, second: Start) -> bool:
        """Whether two starts have found the same poses of the images that took no part."""
        tuning, group = self.problem.tuning.start, self.problem.constraint.group.cpu()  # as the rotations
        within_deg = tuning.agree_deg * len(group) ** (-1 / 3)  # as likely by chance as without symmetry
        return share_in_one_frame(first.rotations, second.rotations, within_deg, group) >= tuning.min_agree


def trial_of(problem: Problem) -> Trial:
    """A trial in which some images take no part; of those with several rows the first stands for all."""
    rows = np.unique(problem.first_of_same)
    return Trial(problem, rows[held_out(len(rows), problem.tuning.start)])


def grown(map_: Tensor, problem: Problem, rng: torch.Generator) -> Tensor:
    """Copies of a map ``(n_maps, d', d', d')``, each with noise of its own inside the mask."""
    noise = torch.randn(problem.settings.n_maps, *map_.shape, generator=rng).to(map_.device)
    noise = symmetrised_maps(low_passed(noise, problem.settings.search_shells), problem.constraint.group)
    noise = noise * problem.constraint.mask_in(len(map_))
    noise *= problem.tuning.start.growth_noise * map_.norm() / noise.flatten(1).norm(dim=1)[:, None, None, None]
    return map_ + noise


def ab_initio(problem: Problem, maps: Tensor | None, recorder: Recorder) -> CoarseMaps:
    """Coarse maps that the states begin with; ``maps`` (c, d, d, d) of the clusters, where they are given."""
    run, trial = problem.settings, trial_of(problem)
    recorder.stage("ab initio", f"{n_starts_of(problem)} starts of one map")
    singles = [recorder.step("ab_initio_alone", partial(best_alone, trial, recorder))]
    if problem.tuning.start.tries_cubic and len(problem.constraint.group) == 1:
        recorder.stage("ab initio", "a hollow shell: starts of cubic symmetry, which is then given up")
        held_to_it = recorder.step("ab_initio_symmetric", partial(best_alone, cubic(trial), recorder))
        make_free = partial(without_symmetry, trial, singles[0], held_to_it, recorder)
        singles.append(recorder.step("ab_initio_cubic", make_free))
    alone = max(singles, key=lambda end: end.unseen)
    kept, several = alone, list[BestStart]()
    if run.n_maps > 1 or maps is not None:
        kinds = [GROWN, *([BESIDE] if run.n_maps > 1 else []), *([CLUSTERS] if maps is not None else [])]
        recorder.stage("ab initio", f"{run.n_maps} maps, from the best one or others")
        for kind in kinds:
            rival = [each.cpu() for each in several[0].parts] if several else []
            make = partial(go_on, trial, trial.begin_several(kind, alone, maps), GoingOn(kind, alone.effort, rival),
                           recorder)
            several.append(recorder.step(f"ab_initio_{kind}", make))
        copies, best = several[0], max(several[1:], key=lambda end: end.unseen)
        kept = best if is_plainly_better(best.each, copies.each, problem.tuning.start) else copies
    print(f"unseen images: log likelihood against an empty map {kept.unseen:.1f} per image ({len(trial.held)} images)")
    starts = [StartRow(end.kind, end.coarse, end.unseen, end is kept) for end in (*singles, *several)]
    return CoarseMaps(kept.maps, kept.noise, kept.unseen, starts, kept.kind in (ALONE, CUBIC, GROWN))


def held_out(n: int, tuning: StartTuning = TUNING.start) -> np.ndarray:
    """Rows of n images that take no part in a start."""
    return spread_rows(n, min(tuning.max_held_out, int(tuning.held_out_frac * n)))


def n_starts_of(problem: Problem) -> int:
    """Starts from one map that are made, if no two agree: more of a symmetric one, whose steps cost less."""
    times = 1 if len(problem.constraint.group) == 1 else problem.tuning.start.times_symmetric
    return times * problem.settings.n_starts


def best_alone(trial: Trial, recorder: Recorder) -> BestStart:
    """All starts from one map, or two where they agree, and more steps of the best of them."""
    (first, longer), steps = trial.stages(), recorder.steps
    n_starts = n_starts_of(trial.problem)
    ends: list[dict[str, Any]] = steps.read(TRIED) or []  # of every start: the parts that are done, where it is

    def take(number: int, stage: Stage, part: str) -> Start:
        start, known = trial.begin(number), ends[number] if number < len(ends) else {"parts": []}
        if known["parts"]:
            start.restore(known["state"])
        if part not in known["parts"]:
            start = advance(trial, start, stage, part, recorder)
            ends[number:number + 1] = [{"parts": [*known["parts"], part], "state": start.state()}]
            steps.write(TRIED, ends)
        return start

    two: list[Start] = []
    parts, effort = split_steps(first.steps, trial.problem.tuning.start.n_looks), 1.0
    for part, n_steps in enumerate(parts if n_starts > 1 else []):
        stage = replace(first, steps=n_steps)
        two = [take(number, stage, f"start {number + 1}, part {part + 1}") for number in range(2)]
        is_latest = all(len(end["parts"]) == part + 1 for end in ends[:2])  # else it was asked before
        if is_latest and trial.agree(*two):
            effort = sum(parts[:part + 1]) / first.steps
            print(f"two starts agree after {sum(parts[:part + 1])} of {first.steps} steps", flush=True)
            n_starts = 2
            break
    starts = two + [take(number, first, f"start {number + 1}") for number in range(len(two), n_starts)]
    tried, best = [start.unseen for start in starts], max(starts, key=lambda start: start.unseen)
    end, each = advance_in_parts(trial, best, part_of(longer, effort), GoingOn("the best goes on"), recorder)
    steps.drop(TRIED)
    return BestStart(ALONE, end.model.maps, end.model.noise, end.each, tried, effort, each)


def cubic(trial: Trial) -> Trial:
    """The same trial held to the tetrahedral group, which is part of the octahedral and the icosahedral one."""
    problem = trial.problem
    return replace(trial, problem=replace(problem, settings=replace(problem.settings, symmetry="T")))


def without_symmetry(trial: Trial, alone: BestStart, held_to_it: BestStart, recorder: Recorder) -> BestStart:
    """More steps of a symmetric start, in which its map is free; unseen images are asked with the noise of ``alone``.

    Maps that a symmetry holds leave more to the noise, and that is slow to follow.
    """
    seed = trial.problem.seed + _SEED_STEP * (n_starts_of(trial.problem) + 1)
    model = MapMixture(held_to_it.maps, held_to_it.noise, trial.problem.constraint)
    start = Start(model, trial.batches(seed), torch.Generator().manual_seed(seed))
    stage = part_of(trial.stages()[1], held_to_it.effort)
    end, parts = advance_in_parts(trial, start, stage, GoingOn("without symmetry"), recorder)
    each = trial.unseen_log_evidence(MapMixture(end.model.maps, alone.noise, trial.problem.constraint),
                                     trial.stages()[1])
    print(f"without symmetry: {float(each.mean()):.1f} per unseen image with the noise of the start that had none "
          f"({alone.unseen:.1f})", flush=True)
    return BestStart(CUBIC, end.model.maps, end.model.noise, each, held_to_it.coarse, held_to_it.effort, parts)


def part_of(stage: Stage, effort: float) -> Stage:
    """A part of a stage's steps."""
    return replace(stage, steps=max(1, round(effort * stage.steps)))


def go_on(trial: Trial, start: Start, going: GoingOn, recorder: Recorder) -> BestStart:
    """A start of several maps after its steps."""
    end, each = advance_in_parts(trial, start, part_of(trial.stages()[0], going.effort), going, recorder)
    return BestStart(going.name, end.model.maps, end.model.noise, end.each, [], going.effort, each)


def advance_in_parts(trial: Trial, start: Start, stage: Stage, going: GoingOn, recorder: Recorder
                     ) -> tuple[Start, list[Tensor]]:
    """The steps of one stage, as many parts of them as are worth it; and every unseen image's value after each part."""
    steps, tuning = recorder.steps, trial.problem.tuning.start
    known, each = steps.read(PARTS), list[Tensor]()
    if known is not None and known["name"] == going.name:
        start, each = start.restore(known["state"]), [one.cpu() for one in known["each"]]
    parts = split_steps(stage.steps, tuning.n_looks)
    while len(each) < len(parts) and not (each and going.is_enough(each, tuning)):
        part = f"{going.name}, part {len(each) + 1}"
        start = advance(trial, start, replace(stage, steps=parts[len(each)]), part, recorder)
        each = [*each, start.each]
        steps.write(PARTS, {"name": going.name, "each": each, "state": start.state()})
    steps.drop(PARTS)
    return start, each


def start_with_contrasts(problem: Problem, model: MapMixture, recorder: Recorder) -> tuple[Tensor, Tensor]:
    """Maps and noise of a start that did not know of contrasts, after more steps in which every image has its own.

    Without them faint and strong images have gathered in maps of their own, and weak maps attract wrong poses.
    """
    trial = trial_of(problem)
    seed = problem.seed + _SEED_STEP * n_starts_of(problem)
    start = Start(model, trial.batches(seed), torch.Generator().manual_seed(seed))
    recorder.stage("ab initio", "once more, with contrasts")
    start, _ = advance_in_parts(trial, start, trial.stages()[1], GoingOn("with contrasts"), recorder)
    return start.model.maps, start.model.noise


def advance(trial: Trial, start: Start, stage: Stage, part: str, recorder: Recorder) -> Start:
    """The steps of one stage, from where a checkpoint left this part, and what unseen images say after it."""
    steps = recorder.steps
    under_way, n_done = steps.read(UNDER_WAY), 0
    if under_way is not None and under_way["part"] == part:
        start, n_done = start.restore(under_way["start"]), under_way["step"]
    with progress_bar(stage.steps * stage.batch, f"ab initio, {stage.radius:.3g} shells", "images",
                      initial=n_done * stage.batch) as bar:

        def after_step(done: EmStep) -> None:
            bar.update(stage.batch)
            recorder.note(stage="ab initio", part=part, shells=stage.radius, **asdict(done))
            steps.under_way(UNDER_WAY, lambda: {"part": part, "step": done.step, "start": start.state()},
                            trial.problem.tuning.checkpoint_seconds)

        run_stage(trial.problem.images, start.model, stage, Course(start.batches, start.rng, n_done), after_step)
    start.each, start.rotations, start.shifts_px = trial.look(start.model, stage)
    displaced_px = trial.recentre(start)
    at_limit = share_at_limit(start.shifts_px, trial.problem.max_shift_px)
    steps.drop(UNDER_WAY)
    recorder.note(stage="held out", part=part, n_images=len(trial.held), log_evidence=start.unseen,
                  displaced_px=displaced_px, at_limit_frac=at_limit)
    moved = f", the map stood {displaced_px:.1f} px off centre and is moved back" if displaced_px else ""
    crowded = (f", {100 * at_limit:.0f} % at the largest shift" if at_limit > MOST_AT_LIMIT else "")
    print(f"{part}: log likelihood of unseen images {start.unseen:.1f} per image{moved}{crowded}", flush=True)
    return start
