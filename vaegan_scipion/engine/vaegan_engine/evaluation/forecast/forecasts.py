"""The forecast of a run by its settings, and when it is said without being asked for."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...contract import result_files, wording
from ...contract.errors import EngineError
from ...contract.labels import UNASSIGNED
from ...contract.record import write_record
from ...contract.records import Forecast
from ...contract.run_json import read_training
from ...contract.settings import Classes2dRun, ClusterRun, EmbedRun, FullresRun, StatesRun, TrainRun
from ...data.particle_tables import read_cluster_rows, read_latents
from . import classes2d, cluster, embed, fullres, states, train
from .measured import N_MADE, count_images, lines

FROM_IMAGES = 5000  # a smaller set is done sooner than it is worth to ask


def forecast_for(run: Any, n_made: int = N_MADE) -> Forecast | None:
    """Of a run of any command that has a forecast, measured on ``n_made`` images; None of others.

    Raises ConfigError, DataError or OSError.
    """
    makers: dict[type, Callable[[Any, int], Forecast]] = {
        StatesRun: states.states_forecast, FullresRun: fullres.fullres_forecast, TrainRun: train.training_forecast,
        Classes2dRun: classes2d.classes2d_forecast, EmbedRun: embed.embed_forecast,
        ClusterRun: lambda run, _: cluster.cluster_forecast(run)}
    if type(run) not in makers:
        return None
    began = time.perf_counter()
    return replace(makers[type(run)](run, n_made), measured_seconds=time.perf_counter() - began)


def images_of(run: Any) -> int:
    """Particles of a run, quickly; 0 where they cannot be counted, which the run itself will say."""
    try:
        if isinstance(run, ClusterRun):
            return len(read_latents(run.embedding_dir).z)
        if isinstance(run, EmbedRun):
            return embed.count_embedded(run)
        if isinstance(run, FullresRun):
            return sum(row.n_particles for row in read_cluster_rows(run.states_dir) if row.label != UNASSIGNED)
        return count_images(read_training(run.run_dir).data if getattr(run, "run_dir", "") else run.data)
    except (OSError, EngineError):
        return 0


def say(run: Any, out_dir: Path | None, from_images: int = FROM_IMAGES) -> None:
    """Print what a run of ``from_images`` and more is expected to take, and leave it in its folder; else nothing.

    What cannot be measured here ends no run: the reason is printed.
    """
    if images_of(run) < from_images:
        return
    try:
        expected = forecast_for(run)
    except (RuntimeError, MemoryError) as error:  # of the made images: no room for them beside others, for example
        print(f"no forecast: {str(error) or type(error).__name__}", flush=True)
        return
    if expected is None:
        return
    print(wording.forecast_text(expected), flush=True)
    if out_dir is not None:
        write_record(Path(out_dir) / result_files.FORECAST_JSON, expected)


def show(run: Any) -> None:
    """Print what a run of any size is expected to take, stage by stage. Raises ConfigError, DataError or OSError."""
    expected = forecast_for(run)
    assert expected is not None  # the command line offers it of no other
    print(lines(expected), flush=True)
