"""A state that stands in wrong poses is started anew, from its own images alone.

In a mixture a start can tell a state apart and still have it in wrong poses: its images are alike, so they stay
together, and no later search in their wrong map gets them out. Such a state shows by its misfit, which is far above
that of the others. Started from nothing on its own images it is a homogeneous set, the easiest there is. The new map
is taken where it plainly better explains images of the state that neither map was made from.
"""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ...contract.record import to_json
from ...contract.records import RestartRow
from ...physics.fourier_band import Band, make_band
from ...reconstruction.images import low_passed, spread_rows
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.pose_search import search_all
from ..assignment import misfit_and_gain, state_map
from ..problem import Problem, Recorder
from ..start.ab_initio import best_alone, trial_of
from ..start.going_on import is_plainly_better
from ..states import Assignment
from .junk import middle_and_width


class Suspect(NamedTuple):
    """A state whose images are explained far worse than those of the best state."""

    state: int
    misfit: float
    best: float  # misfit of the best state


def suspect_states(problem: Problem, assignment: Assignment, band: Band) -> list[Suspect]:
    """States whose images are explained far worse than those of the best state."""
    misfit, _ = misfit_and_gain(problem.images, assignment, band)
    members = [assignment.members(state) for state in range(assignment.n_states)]
    middle, width = np.array([middle_and_width(misfit[rows]) if len(rows) else (np.inf, np.nan) for rows in members]).T
    best = int(middle.argmin())
    limit = middle[best] + problem.tuning.restart.misfit_widths * width[best]
    return [Suspect(state, float(middle[state]), float(middle[best]))
            for state, rows in enumerate(members) if len(rows) and middle[state] > limit]


def start_anew(problem: Problem, assignment: Assignment, suspect: Suspect, recorder: Recorder
               ) -> tuple[Tensor | None, RestartRow]:
    """A better map of a state, None where there is none; and the evidence, means over unseen images."""
    state = suspect.state
    rows, max_shell = assignment.members(state), problem.settings.search_shells
    rows = rows[spread_rows(len(rows), problem.tuning.restart.max_images)]
    trial = trial_of(replace(problem.part(rows), settings=replace(problem.settings, n_maps=1)))
    new = best_alone(trial, recorder)
    band = make_band(problem.box_px, max_shell, problem.device)
    seen = rows[trial.seen]
    old, _ = state_map(problem, assignment, seen, band, band.weight / assignment.noise[band.shell])
    before = trial.unseen_log_evidence(MapMixture(low_passed(old[None], max_shell), new.noise, problem.constraint),
                                       trial.stages()[1])
    is_better = is_plainly_better(new.each, before, problem.tuning.start)
    return new.maps[0] if is_better else None, RestartRow(suspect.misfit, suspect.best, new.unseen,
                                                          float(before.mean()), is_better)


def place_map(problem: Problem, assignment: Assignment, state: int, map_: Tensor) -> Assignment:
    """The assignment with another map of a state, and every image's best pose in it."""
    max_shell = problem.settings.search_shells
    model = MapMixture(low_passed(map_[None], max_shell), assignment.noise, problem.constraint)
    best = search_all(problem.images, model, np.arange(len(problem)), problem.pose_grid(max_shell))
    return assignment.with_state_poses(state, best.rotations[:, 0], best.shifts_px[:, 0]).with_map(state, map_)


def restart_states(problem: Problem, assignment: Assignment, max_shell: float, recorder: Recorder, name: str
                   ) -> tuple[Assignment, list[RestartRow]]:
    """The assignment with the suspects started anew where that is better, and a row for each.

    Checkpoints of the parts begin with ``name``.
    """
    band = make_band(problem.box_px, max_shell, problem.device)
    rows = []
    for suspect in suspect_states(problem, assignment, band) if assignment.n_states > 1 else []:
        print(f"state {suspect.state + 1} is explained badly (misfit {suspect.misfit:.2f}, the best state's "
              f"{suspect.best:.2f}): started anew from its own images", flush=True)
        map_, row = recorder.step(f"{name}_state_{suspect.state:02d}",
                                  partial(start_anew, problem, assignment, suspect, recorder))
        print(f"  unseen images: log likelihood {row.log_evidence:.1f}, {row.log_evidence_before:.1f} before: "
              f"{'taken' if row.kept else 'not taken'}", flush=True)
        if map_ is not None:
            assignment = place_map(problem, assignment, suspect.state, map_)
        recorder.note(stage="restart", state=suspect.state, **to_json(row))
        rows.append(row)
    return assignment, rows
