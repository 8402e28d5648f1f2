"""Each state alone: its motion, its half maps, its variation."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from ..contract.settings import RefineRun
from ..data.particles import drawn_half_sets
from ..data.prepared_images import ParticleCache
from ..reconstruction.images import Images
from ..runtime.journal import Journal
from ..runtime.progress import progress_bar
from ..runtime.step_store import Checkpoints
from .evidence import Evidence
from .half_maps import Halves, refine_halves, smaller_halves
from .motion import LEAST_IMAGES, Motion, motion_of
from .moving_poses import followed
from .rounds import FINER_SHELLS
from .states import Assignment

DETAIL_ROUNDS = 5
LEAST_HALF_FRAC = 0.1  # of a state's images, in the smaller of its half sets


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
