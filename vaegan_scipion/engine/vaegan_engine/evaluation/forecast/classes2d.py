"""What ``classes2d`` will take: its searches of parts and of all images, and rounds near the poses, measured."""
from __future__ import annotations

import numpy as np

from ...classes2d.classify import with_circle
from ...classes2d.near import candidates_of, near_grid, near_step
from ...classes2d.problem import PlaneProblem
from ...classes2d.search import search, search_steps
from ...classes2d.start import first_model
from ...contract.records import Forecast
from ...contract.settings import Classes2dRun
from ...physics.fourier_band import make_band
from ...reconstruction.images import stored_bytes
from ...runtime.memory import resident_gb
from .measured import (
    GB,
    Line,
    Span,
    count_images,
    equal,
    forecast_of,
    line_of,
    made_images,
    prepared_device,
    prepared_gb,
    seconds_of,
)

USUAL_LEFT = 0.6  # of the classes, after empty ones are dissolved and equal ones joined


def classes2d_forecast(asked: Classes2dRun, n_made: int) -> Forecast:
    """All stages, measured on ``n_made`` images. Raises ConfigError or OSError."""
    run = with_circle(asked)
    device = prepared_device(run.compute)
    n, d = count_images(run.data), run.data.box_px
    images, _ = made_images(n_made, d, device)
    problem = PlaneProblem(images, 1 + np.arange(n_made) % 2, run.data.particle_radius_frac, run.max_shift_frac * d,
                           run.n_classes, run.n_steps, run.compute.seed)
    tuning, model = problem.tuning, first_model(problem, np.random.default_rng(0))
    first, last, apart = (problem.shells(shells) for shells in (
        tuning.first_shells, tuning.search_shells, tuning.apart_shells))

    def searched(radius: float) -> Line:
        return line_of(lambda m: search(problem, model, np.arange(m), radius), n_made // 3, n_made, device)

    step, whole, halves = (searched(radius) for radius in ((first + last) / 2, last, apart))
    poses = search(problem, model, np.arange(n_made), apart).found
    n_turns, step_px = search_steps(problem, apart)
    near = near_grid(2 * np.pi / n_turns / 3, step_px / 2, last)
    candidates = candidates_of(poses, tuning.n_candidates, tuning.least_log_weight)
    close = seconds_of(lambda: near_step(problem, model, candidates, near), device) / n_made * n
    stages = {"steps": equal(run.n_steps * step.of(min(n, tuning.online_images))),
              "all images": Span(whole.of(n) + USUAL_LEFT * halves.of(n), whole.of(n) + halves.of(n)),
              "near their poses": Span(tuning.near_rounds * close, 1.5 * tuning.near_rounds * close)}
    n_points = len(make_band(d, last).index)
    of_image = 4 * (run.n_classes * 4 + d // 2 + 1) + 48 * tuning.n_candidates
    memory = resident_gb() + (stored_bytes(n, n_points) + n * of_image) / GB
    return forecast_of("classes2d", n, stages, memory, prepared_gb(n, d))

