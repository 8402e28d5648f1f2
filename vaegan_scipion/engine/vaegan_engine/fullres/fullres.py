"""``fullres``: every state of a finished ``states`` at full resolution, in the particles' own box.

Each state is refined by itself (``half_set_rounds``): poses locally, each half set in its own map, in a band that
follows the FSC of the two. Then its maps are made to Nyquist: half maps; the map, filtered by what their FSC is worth;
a sharpened copy; the local resolution (``final_maps``). Beside the star files stands how RELION goes on (``relion``).
No particle changes its state, none is searched anew.

Every round is kept (``step_store``), to go on from after a stop.
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contract import result_files, run_json
from ..contract.errors import ConfigError
from ..contract.fullres_records import FullresRound, FullresSummary
from ..contract.labels import state_name
from ..contract.record import read_record
from ..contract.settings import FullresRun
from ..data.noise_groups import noise_groups
from ..reconstruction.images import Images
from ..refine.problem import Recorder
from ..runtime import compute
from ..runtime.journal import Journal
from ..runtime.progress import progress_bar
from ..runtime.step_store import Checkpoints
from ..runtime.stop_signals import stoppable
from . import output
from .half_set_rounds import Refinement, StateImages, begin, is_settled, refine_round
from .inputs import Inputs, StateStart, open_inputs
from .tuning import TUNING, FullresTuning

_GRID_BYTES = 2 * 2 * 2 * 12 // 2  # per voxel of the box: sums of a half transform padded twice, 12 bytes each
_WORK = 4.0  # times that much are held at once where the band reaches Nyquist; measured 3.8 GB at 256 px, band 0.6


def memory_gb(box_px: int) -> float:
    """Memory in GB that maps of this box need at the most, by the sums in a transform padded twice."""
    return 1.0 + _WORK * _GRID_BYTES * box_px ** 3 / 1e9


def settings_of(run: FullresRun, inputs: Inputs) -> dict[str, Any]:
    """All that the rounds depend on; paths, device and threads are left out."""
    return {"max_rounds": run.max_rounds, "particles": inputs.digest(), "n_particles": len(inputs.particle_id),
            "box_px": inputs.images.box_px, "symmetry": inputs.symmetry,
            "states": [[start.label, start.shells, start.shared_shell] for start in inputs.states]}


def check_is_same(asked: FullresRun, out_dir: Path) -> None:
    """Refuse another B-factor than that of a finished refinement's maps. Raises ConfigError."""
    before = run_json.read_run(out_dir / result_files.RUN_JSON)
    if isinstance(before, FullresRun) and before.b_factor_ang2 != asked.b_factor_ang2:
        raise ConfigError(f"{out_dir}: the refinement is finished, with b_factor_ang2 {before.b_factor_ang2}, now it "
                          f"is {asked.b_factor_ang2}.", "Refine in a new folder, or sharpen the maps elsewhere.")


def run_fullres(asked: FullresRun, out_dir: Path, resume: bool = False, tuning: FullresTuning = TUNING
                ) -> FullresSummary:
    """Refine all states at full resolution into ``out_dir``; returns what ``fullres.json`` holds.

    Raises ConfigError, DataError or, after a signal, StoppedError.
    """
    out_dir = Path(out_dir)
    device = compute.prepare_device(asked.compute)
    compute.work_in_parts(asked.compute)
    inputs = open_inputs(asked, device, tuning)
    steps = Checkpoints(out_dir, settings_of(asked, inputs), device, resume)
    if resume and steps.finished():
        check_is_same(asked, out_dir)
        print(f"{out_dir}: the refinement is finished")
        return read_record(FullresSummary, out_dir / result_files.FULLRES_JSON, "fullres")
    run_json.write_run(asked, out_dir / result_files.RUN_JSON)
    recorder, images = Recorder(Journal(out_dir, resumed=bool(steps.names())), steps), inputs.images
    print(f"{len(images)} particles of {images.box_px} px, {images.pixel_size_ang:.3f} A/px, in {len(inputs.states)} "
          f"states, on {compute.describe(device)}; at most about {memory_gb(images.box_px):.1f} GB", flush=True)
    with stoppable(out_dir):
        with progress_bar(len(images) * asked.max_rounds, "full resolution", "images") as bar:
            clock = Clock(time.monotonic(), bar.update)
            refined = [refine_state(inputs, start, Rounds(asked.max_rounds, recorder, clock), tuning)
                     for start in inputs.states]
        seconds = time.monotonic() - clock.began
        summary = output.write(inputs, refined, output.Asked(asked, seconds, clock.n_refined), out_dir)
    steps.clear()
    return summary


@dataclass
class Clock:
    """How far the rounds are."""

    began: float
    update: Any
    n_refined: int = 0  # images, once per round; those of a run before a resume are not counted

    def seconds_per_image(self) -> float:
        """Of one round."""
        return (time.monotonic() - self.began) / max(1, self.n_refined)


@dataclass(frozen=True)
class Rounds:
    """How often, and where it is noted."""

    most: int
    recorder: Recorder
    clock: Clock


def refine_state(inputs: Inputs, start: StateStart, rounds: Rounds, tuning: FullresTuning
                 ) -> tuple[StateImages, Refinement]:
    """All rounds of one state."""
    rows = np.flatnonzero(inputs.label == start.label)
    group = noise_groups(inputs.star, inputs.star_rows[rows], tuning.min_group_images)
    state = StateImages(inputs.images, rows, inputs.half_set[rows], group, inputs.mask, inputs.mask_given, tuning,
                        inputs.symmetry)
    at = torch.from_numpy(rows).to(inputs.rotations.device)
    recorder, name = rounds.recorder, state_name(start.label)
    recorder.stage("fullres", f"{name}, {len(rows)} particles, {int(group.max()) + 1} noise spectra")
    refinement = recorder.step(f"state_{start.label:02d}_start", partial(
        begin, state, inputs.rotations[at], inputs.shifts_px[at], start.shells))
    for number in range(1, rounds.most + 1):
        step = f"state_{start.label:02d}_round_{number:02d}"
        is_new = step not in recorder.steps.names()
        refinement = recorder.step(step, partial(refine_round, state, refinement))
        rounds.clock.n_refined += len(rows) * is_new
        rounds.clock.update(len(rows))
        if is_new:
            tell(recorder, start, refinement.rounds, inputs.images)
        if is_settled(refinement.rounds, tuning):
            rounds.clock.update(len(rows) * (rounds.most - number))
            break
    return state, refinement


def tell(recorder: Recorder, start: StateStart, rounds: list[FullresRound], images: Images) -> None:
    """The last round, in the log and in words."""
    row, number = rounds[-1], len(rounds)
    recorder.note(stage="fullres", state=start.label, round=number, shells=row.shells,
                  resolution_ang=row.resolution_ang, turned_deg=row.turned_deg, moved_ang=row.moved_ang)
    print(f"{state_name(start.label)}, round {number}: {row.resolution_ang:.2f} A at FSC 0.143 before it, band "
          f"{images.box_px * images.pixel_size_ang / row.shells:.2f} A, turned by {row.turned_deg:.2f} deg, moved by "
          f"{row.moved_ang:.2f} A", flush=True)
