"""What a run will take on this machine: time, memory, disk; said before it begins.

Nothing is known of other machines: what a run does most is measured here, on a few made images of the run's own box
and resolution, with its own threads and device, and multiplied by how often the run does it. What the particles decide
(how many starts, states and rounds) is a usual case and a long one, so there are two times.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...contract import wording
from ...contract.records import Forecast
from ...contract.settings import ComputeConfig, DataConfig
from ...data.star_files import IMAGE_NAME
from ...data.star_text import count_rows
from ...physics.projection import project
from ...physics.rotations import random_rotations
from ...reconstruction.images import Images
from ...runtime import compute
from ...runtime.place import place
from ...simulation.phantom import PHANTOM_BOX_ANG, phantom_states

GB = 2 ** 30
N_MADE = 192  # images that are made to measure on
CTF_ROW = (15000.0, 14700.0, 0.3, 300.0, 2.7, 0.1, 0.0, 0.0)


@dataclass(frozen=True)
class Span:
    """Seconds: usual, and where the particles ask for more."""

    usual: float
    long: float

    def __add__(self, other: Span) -> Span:
        return Span(self.usual + other.usual, self.long + other.long)


def divided(stages: dict[str, Span], ways: dict[str, float]) -> dict[str, Span]:
    """Stages that several processes share, each among so many of them; at best, for what little is not shared."""
    return {name: Span(span.usual / ways.get(name, 1), span.long / ways.get(name, 1)) for name, span in stages.items()}


def forecast_of(command: str, n_images: int, stages: dict[str, Span], memory_gb: float, disk_gb: float) -> Forecast:
    """The sum of all stages; ``memory_gb`` is of one of the processes on this machine."""
    whole = sum(stages.values(), Span(0.0, 0.0))
    return Forecast(command, n_images, whole.usual, whole.long, place().count_here * memory_gb, disk_gb,
                    {name: span.usual for name, span in stages.items()}, 0.0)


def lines(expected: Forecast) -> str:
    """For people, a line for each stage."""
    return "\n".join([wording.forecast_text(expected), *(
        f"  {name}: {wording.duration_text(seconds)}" for name, seconds in expected.stages.items()),
        f"(measured in {expected.measured_seconds:.0f} s)"])


def equal(seconds: float) -> Span:
    """What does not depend on the particles."""
    return Span(seconds, seconds)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one piece of work, done a second time: the first compiles and fills what is kept."""
    for again in (False, True):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if again or time.perf_counter() - began > 20:  # what takes so long does not compile for most of it
            break
    return time.perf_counter() - began


@dataclass(frozen=True)
class Line:
    """Seconds of work on n images: ``fixed + each n``."""

    fixed: float
    each: float

    def of(self, n: float) -> float:
        """Seconds for n images."""
        return self.fixed + self.each * n


def line_of(work: Callable[[int], object], few: int, many: int, device: torch.device) -> Line:
    """The line through two measurements, neither part of it below 0."""
    at_few, at_many = (seconds_of(lambda n=n: work(n), device) for n in (few, many))  # type: ignore[misc]
    each = max((at_many - at_few) / (many - few), 0.02 * at_many / many)
    return Line(max(at_few - each * few, 0.0), each)


def count_images(data: DataConfig) -> int:
    """Particles that a star file names; at most those that are asked for. Raises OSError.

    Of one half set half of them.
    """
    n = count_rows(Path(data.particles), IMAGE_NAME)
    n = min(n, data.max_images) if data.max_images else n
    return n // 2 if data.half_set else n


def made_images(n: int, box_px: int, device: torch.device) -> tuple[Images, torch.Tensor]:
    """Images of the phantom in noise as they are prepared, and their rotations."""
    rng = torch.Generator().manual_seed(0)
    rotations = random_rotations(n, rng)
    maps = torch.from_numpy(phantom_states(1, box_px, PHANTOM_BOX_ANG / box_px))
    clean = torch.cat([project(maps, torch.zeros(len(some), dtype=torch.long), some) for some in rotations.split(64)])
    noisy = clean / (2 * clean.std()) + torch.randn(clean.shape, generator=rng)
    ctf = np.tile(np.array(CTF_ROW, np.float32), (n, 1))
    ctf[:, :2] += np.random.default_rng(0).uniform(0, 10000, (n, 1)).astype(np.float32)
    return (Images(noisy.numpy().astype(np.float16), ctf, PHANTOM_BOX_ANG / box_px, device), rotations.to(device))


def prepared_gb(n: int, box_px: int) -> float:
    """Disk of prepared images."""
    return n * (2 * box_px ** 2 + 64) / GB


def prepared_device(settings: ComputeConfig) -> torch.device:
    """The device of a run, and its threads."""
    device = compute.prepare_device(settings)
    compute.work_in_parts(settings)
    return device
