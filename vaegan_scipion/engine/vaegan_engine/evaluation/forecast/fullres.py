"""What ``fullres`` will take: rounds of local refinement of every state, and its maps to Nyquist.

Some of the run's own particles are refined here, as they are read from their stacks, in two bands; what an image takes
is a constant (it is read and transformed) and a part that goes with the band's area, what a map takes goes with the
volume of its box.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...contract.records import Forecast
from ...contract.settings import FullresRun
from ...fullres.fullres import memory_gb
from ...fullres.half_set_rounds import Refinement, StateImages, begin, half_of, refine_round
from ...fullres.inputs import Inputs, StateStart, open_inputs
from ...fullres.tuning import TUNING
from ...physics import local_resolution
from ...physics.fourier_band import make_band
from ...physics.slices import map_box_px
from ...reconstruction.least_squares import solved, sums_of
from ...refine.detail.half_maps import HALF_SETS
from .measured import GB, Line, Span, equal, forecast_of, line_of, prepared_device, seconds_of

USUAL_ROUNDS = 4  # until the band grows no more; three or four of the simulated sets at 96 and 192 px
BYTES_ROW, BYTES_ROUND = 600, 44  # of a particle in both star files and tables; of its poses in a round that is kept
N_FILES = 6  # maps of each state


@dataclass(frozen=True)
class Growth:
    """Seconds of images in a band, by its radius in shells, through what was measured in two of them."""

    low: tuple[float, Line]
    high: tuple[float, Line]
    side_px: Callable[[float], float]  # of the maps' box, by the radius

    def at(self, radius: float) -> Line:
        """What an image takes grows with the band's area, what is fixed with the volume of its maps."""
        (low, few), (high, more) = self.low, self.high
        area = max(more.each - few.each, 0.0) / (high ** 2 - low ** 2)
        return Line(more.fixed * (self.side_px(radius) / self.side_px(high)) ** 3,
                    more.each + area * (radius ** 2 - high ** 2))


@dataclass(frozen=True)
class Sample:
    """Some images of a state, of both half sets by turns, at their poses."""

    inputs: Inputs
    rows: np.ndarray  # (m,)
    noise: Tensor  # (1, d//2 + 1)
    n_all: int  # images of the state

    def part(self, n: int, shells: float) -> tuple[StateImages, Refinement]:
        """The first ``n``, before a round whose poses' band has ``shells`` at least; held in memory as all would be."""
        inputs, rows = self.inputs, self.rows[:n]
        points = len(make_band(inputs.images.box_px, maps_shells(shells, inputs.images.box_px), self.device).index)
        tuning = replace(TUNING, min_shells=shells, max_held=TUNING.max_held * (
            self.n_all / 2 * points <= TUNING.max_held))
        state = StateImages(inputs.images, rows, inputs.half_set[rows], np.zeros(n, np.int64), inputs.mask,
                            inputs.mask_given, tuning, inputs.symmetry)
        at = torch.from_numpy(rows).to(self.device)
        return state, Refinement(inputs.rotations[at], inputs.shifts_px[at], self.noise, shells, [])

    @property
    def device(self) -> torch.device:
        """Where they are worked on."""
        return self.inputs.images.device

    def growth(self, work: Callable[[int, float], object], shells: float, side_px: Callable[[float], float]) -> Growth:
        """``work`` on some of them in a band, measured in that of ``shells`` and in half of it."""
        many = len(self.rows)
        few = many // 6 * 2
        low, high = (line_of(lambda n, radius=radius: work(n, radius), few, many, self.device)  # type: ignore[misc]
                     for radius in (shells / 2, shells))
        return Growth((shells / 2, low), (shells, high), side_px)


def fullres_forecast(run: FullresRun, n_made: int) -> Forecast:
    """All stages, measured on at most ``n_made`` of the run's own images.

    Raises ConfigError, DataError or OSError.
    """
    inputs = open_inputs(run, prepared_device(run.compute), TUNING)
    box_px, n_states, n = inputs.images.box_px, len(inputs.states), len(inputs.label)
    counts = [int((inputs.label == start.label).sum()) for start in inputs.states]
    largest = inputs.states[int(np.argmax(counts))]
    band = maps_shells(largest.shells, box_px)  # of the poses, after a first round whose halves agree so far
    sample = sample_of(inputs, largest, n_made)
    rounds = sample.growth(lambda n, shells: refine_round(*sample.part(n, shells)), band,
                           lambda shells: map_box_px(maps_shells(shells, box_px), box_px))
    maps = sample.growth(lambda n, shells: half_maps(*sample.part(n, shells)), band,
                         lambda shells: map_box_px(shells, box_px))
    stages = counted(run.max_rounds, counts, (rounds.at(band), rounds.at(box_px / 2)), maps.at(box_px / 2))
    stages["local resolution"] = equal(n_states * local_seconds(inputs, band))
    disk = 4 * N_FILES * n_states * box_px ** 3 + n * (BYTES_ROW + BYTES_ROUND * run.max_rounds)
    return forecast_of("fullres", n, stages, memory_gb(box_px), disk / GB)


def maps_shells(shells: float, box_px: int) -> float:
    """Band of a round's maps, by that of its poses."""
    return min(shells * (1 + TUNING.wider_frac) + TUNING.wider_shells, box_px / 2)


def counted(max_rounds: int, counts: list[int], rounds: tuple[Line, Line], maps: Line) -> dict[str, Span]:
    """Of states of so many images: rounds in the usual band and in the widest, and the maps at the end."""
    usual, widest = (sum(line.of(n) for n in counts) for line in rounds)
    usual *= min(USUAL_ROUNDS, max_rounds)
    return {"rounds": Span(usual, max(usual, max_rounds * widest)), "maps": equal(sum(maps.of(n) for n in counts))}


def sample_of(inputs: Inputs, start: StateStart, n_made: int) -> Sample:
    """At most ``n_made`` images of a state, and the noise that a refinement of them begins with."""
    own = [np.flatnonzero((inputs.label == start.label) & (inputs.half_set == half)) for half in HALF_SETS]
    each = min(n_made // 2, *map(len, own))
    sample = Sample(inputs, np.stack([rows[:each] for rows in own], axis=1).ravel(),
                    torch.ones(1, inputs.images.box_px // 2 + 1, device=inputs.images.device), sum(map(len, own)))
    state, before = sample.part(2 * each, start.shells)
    return replace(sample, noise=begin(state, before.rotations, before.shifts_px, start.shells).noise)


def half_maps(state: StateImages, before: Refinement) -> None:
    """Both half maps in a band, of images that are read once."""
    band = make_band(state.box_px, before.shells, state.images.device)
    for number in HALF_SETS:
        half = half_of(state, before, number, band, max_held=0)
        sums = sums_of(half.images, half.precision(band), state.group)
        solved(*sums, map_box_px(band.radius, state.box_px), band.radius)


def local_seconds(inputs: Inputs, band: float) -> float:
    """Seconds of one state's local resolution, where its maps reach the usual band: by points inside the mask."""
    box_px, voxel_ang = inputs.images.box_px, inputs.images.pixel_size_ang
    resolution_ang = box_px * voxel_ang / band
    side = local_resolution.window_px(resolution_ang, voxel_ang, box_px)
    made_px = min(2 * side, box_px)
    halves = np.random.default_rng(0).standard_normal((2, made_px, made_px, made_px)).astype(np.float32)
    found: list[local_resolution.LocalResolution] = []

    def work() -> None:
        found.append(local_resolution.local_resolution(halves, np.ones(halves.shape[1:]), voxel_ang, resolution_ang))

    seconds = seconds_of(work, torch.device("cpu"))
    n_points = int((inputs.mask > local_resolution.INSIDE).sum()) / found[-1].step_px ** 3
    return seconds * n_points / len(found[-1].at_points_ang)
