"""``classes2d``: class averages of particles with their alignment in the plane.

Expectation maximisation over class, in-plane angle and shift, with every image's CTF, a contrast of its own and the
noise spectrum of all (Scheres et al., J. Mol. Biol. 348, 139, 2005); ``rounds`` has the order. Averages are masked to
the particle, so that neighbours neither align nor show; two half sets are kept apart from a coarse resolution on;
``junk`` says which classes and images are no particles.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contract import result_files, run_json
from ..contract.analysis_records import Classes2dSummary
from ..contract.errors import DataError
from ..contract.record import read_record
from ..contract.setting import check_settings
from ..contract.settings import Classes2dRun
from ..data.particle_circle import radius_frac
from ..data.particles import with_both_halves
from ..data.prepared_images import ParticleCache, open_cache
from ..data.run_images import open_run_cache
from ..runtime import compute
from ..runtime.journal import Journal
from ..runtime.step_store import Checkpoints
from ..runtime.stop_signals import stoppable
from . import output
from .problem import PlaneProblem
from .rounds import classify
from .tuning import TUNING, ClassTuning


def run_classes2d(asked: Classes2dRun, out_dir: Path, resume: bool = False, tuning: ClassTuning = TUNING
                  ) -> Classes2dSummary:
    """Classes into ``out_dir``, with ``resume`` from its checkpoints; returns what ``classes2d.json`` holds.

    Raises ConfigError, DataError or, after a signal, StoppedError.
    """
    check_settings(asked)
    out_dir, run = Path(out_dir), with_circle(asked)
    compute.prepare_device(replace(run.compute, device="cpu"))
    compute.work_in_parts(run.compute)
    folder = out_dir / result_files.CACHE
    cache = open_run_cache(run.data, out_dir) if resume else open_cache(run.data, folder)
    check(run, cache, tuning)
    cache = replace(cache, half_set=with_both_halves(cache.half_set, cache.twin_id))
    problem = problem_of(run, cache, tuning, folder)
    steps = Checkpoints(out_dir, settings_of(run, cache), torch.device("cpu"), resume)
    if resume and steps.finished():
        print(f"{out_dir}: the classification is finished")
        return read_record(Classes2dSummary, out_dir / result_files.CLASSES2D_JSON, "classes2d")
    run_json.write_run(asked, out_dir / result_files.RUN_JSON)
    journal = Journal(out_dir, resumed=bool(steps.names()))
    print(f"{len(cache)} particles of {cache.box_px} px, {cache.pixel_size_ang:.3f} A/px")
    with stoppable(out_dir):
        journal.stage("steps", f"{run.n_classes} classes, from 1 image each")
        state = classify(problem, journal, steps)
        details = output.write(problem, cache, state, run.data, out_dir)
    steps.clear()
    return details


def with_circle(run: Classes2dRun) -> Classes2dRun:
    """The request with the particle's circle in its data settings. Raises ConfigError."""
    if not run.particle_diameter_ang:
        return run
    return replace(run, data=replace(run.data, particle_radius_frac=radius_frac(run.data, run.particle_diameter_ang)))


def check(run: Classes2dRun, cache: ParticleCache, tuning: ClassTuning) -> None:
    """Refuse particles that have no classes. Raises DataError."""
    if len(cache) < 2 * tuning.min_images:
        raise DataError(f"{run.data.particles}: {len(cache)} particles are too few for classes.",
                        f"Give at least {2 * tuning.min_images} particles.")
    if len(np.unique(cache.half_set)) < 2:
        few = f"the first {run.data.max_images} (data.max_images)" if run.data.max_images else "those in use"
        raise DataError(f"{run.data.particles}: of its particles {few} are all of half set {cache.half_set[0]}; two "
                        "halves are compared.", "Give all particles (data.half_set 0, data.max_images 0).")


def problem_of(run: Classes2dRun, cache: ParticleCache, tuning: ClassTuning, folder: Path) -> PlaneProblem:
    """The images with their coefficients of the search in memory, or where there is no room, in ``folder``."""
    images = cache.on(torch.device("cpu"))
    problem = PlaneProblem(images, cache.half_set, run.data.particle_radius_frac, run.max_shift_frac * cache.box_px,
                           run.n_classes, run.n_steps, run.compute.seed, tuning)
    return replace(problem, images=images.with_stored(problem.search_radius, folder))


def settings_of(run: Classes2dRun, cache: ParticleCache) -> dict[str, Any]:
    """All that a result depends on: settings, how the images were prepared, particles. A folder may be moved."""
    values = run_json.to_dict(run)
    data = values.pop("data")
    values.pop("compute")
    return {**values, "seed": run.compute.seed,
            **{f"data.{name}": value for name, value in data.items()
               if name not in ("particles", "stack", "prepared_dir")},
            "n_particles": len(cache), "box_px": cache.box_px, "particles": cache.digest()}
