"""A state that stands in wrong poses is started anew, from its own images alone.

In a mixture a start can tell a state apart and still have it in wrong poses: its images are alike, so they stay
together, and no later search in their wrong map gets them out. Such a state shows by its misfit, which is far above
that of the others. Started from nothing on its own images it is a homogeneous set, the easiest there is. The new map
is taken where it plainly better explains images of the state that neither map was made from.
"""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from ..contract.settings import RefineRun
from ..physics.fourier_band import Band, make_band
from ..reconstruction.images import Images, low_passed, spread_rows
from ..reconstruction.map_mixture import MapMixture
from ..reconstruction.pose_search import Stage, search_all
from ..runtime.journal import Journal
from ..runtime.step_store import Checkpoints
from .ab_initio import APART, SEARCH_ROTATIONS, Trial, best_of_kind, held_out, plainly_better
from .assignment import class_map, explained
from .states import Assignment

WIDTHS = 3.0  # of the best state's misfits: a state whose median lies so much higher is started anew
MOST_IMAGES = 10000  # of a state, that it is started from


def suspects(data: Images, found: Assignment, band: Band) -> list[dict[str, Any]]:
    """States whose images are explained far worse than those of the best state: ``state``, ``misfit``, ``best``."""
    misfit, _ = explained(data, found, band)
    rows = [found.members(c) for c in range(found.n_classes)]
    low, middle = np.array([np.percentile(misfit[own], (15.87, 50)) if len(own) else (np.inf, np.inf)
                            for own in rows]).T
    best = int(middle.argmin())
    limit = middle[best] + WIDTHS * (middle[best] - low[best])
    return [{"state": c, "misfit": float(middle[c]), "best": float(middle[best])}
            for c in range(found.n_classes) if len(rows[c]) and middle[c] > limit]


def images_of(data: Images, rows: np.ndarray) -> Images:
    """Some of the images, in memory."""
    return replace(data, images=np.asarray(data.images[rows]), ctf=np.asarray(data.ctf[rows]),
                   contrast=None if data.contrast is None else data.contrast[rows])


def started_anew(run: RefineRun, data: Images, found: Assignment, c: int, mask: Tensor, largest_shift_px: float,
                 journal: Journal, steps: Checkpoints) -> tuple[Tensor | None, dict[str, Any]]:
    """A better map of class c, None where there is none; and the evidence, means over unseen images."""
    rows = found.members(c)
    rows = rows[spread_rows(len(rows), MOST_IMAGES)]
    own = images_of(data, rows)
    one = replace(run, n_starts=1)
    held = held_out(len(rows))
    trial = Trial(one, own, None, mask, largest_shift_px, held)
    tried = best_of_kind(trial, APART, journal, steps)
    band = make_band(data.box_px, run.search_shells, data.device)
    seen = np.delete(rows, held)
    old, _ = class_map(data, found, seen, band, band.weight / found.noise[band.shell], mask)
    stage = Stage(run.search_shells, SEARCH_ROTATIONS, run.search_steps, run.batch_size)
    before = trial.explained(MapMixture(low_passed(old[None], run.search_shells), tried.noise, mask), stage)
    better = plainly_better(tried.each, before)
    return tried.maps[0] if better else None, {
        "log_evidence": tried.unseen, "log_evidence_before": float(before.mean()), "kept": better}


def placed(run: RefineRun, data: Images, found: Assignment, c: int, map_: Tensor, mask: Tensor,
           largest_shift_px: float) -> Assignment:
    """The assignment with another map of class c, and every image's best pose in it."""
    model = MapMixture(low_passed(map_[None], run.search_shells), found.noise, mask)
    tried = search_all(data, model, np.arange(len(data)), run.search_shells, SEARCH_ROTATIONS, largest_shift_px)
    made = replace(found, A=found.A.clone(), shifts_px=found.shifts_px.clone(), volumes=found.volumes.clone())
    made.A[:, c], made.shifts_px[:, c], made.volumes[c] = tried.A[:, 0], tried.shifts_px[:, 0], map_
    return made


def restarted(run: RefineRun, data: Images, found: Assignment, radius: float, mask: Tensor, largest_shift_px: float,
              journal: Journal, steps: Checkpoints, name: str) -> tuple[Assignment, list[dict[str, Any]]]:
    """The assignment with the suspects started anew where that is better, and a row for each.

    Checkpoints of the parts begin with ``name``.
    """
    rows = suspects(data, found, make_band(data.box_px, radius, data.device)) if found.n_classes > 1 else []
    for row in rows:
        print(f"state {row['state'] + 1} is explained badly (misfit {row['misfit']:.2f}, the best state's "
              f"{row['best']:.2f}): started anew from its own images", flush=True)
        map_, evidence = steps.step(f"{name}_state_{row['state']:02d}", partial(
            started_anew, run, data, found, row["state"], mask, largest_shift_px, journal, steps))
        row |= evidence
        print(f"  unseen images: log likelihood {row['log_evidence']:.1f}, {row['log_evidence_before']:.1f} before: "
              f"{'taken' if map_ is not None else 'not taken'}", flush=True)
        if map_ is not None:
            found = placed(run, data, found, row["state"], map_, mask, largest_shift_px)
        journal.note(stage="restart", **row)
    return found, rows
