"""Resolutions of the stages that fit the particle."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...contract.errors import ConfigError
from ...contract.settings import StatesRun
from ...reconstruction.images import Images, spread_rows
from ..tuning import TUNING, RefineTuning, ShellTuning

MOST_ROTATIONS = 20_000  # of a grid that is made finer: about 9 degrees apart
_POWER_FRAC, _POWER_RADIUS = 0.9, 0.827  # a ball's projections have 0.9 of their power within 0.827 of its radius


def particle_radius_frac(data: Images, tuning: ShellTuning = TUNING.shells) -> float:
    """Radius of the particle / box, from the images' mean power around the centre; 0 where there is none.

    The images are low-passed, the power at the edge of the circle is taken off as noise. A homogeneous ball of
    radius R has projections of power ``R^2 - r^2``: 0.9 of it lies within 0.827 R.
    """
    d = data.box_px
    images = torch.from_numpy(np.asarray(data.images[spread_rows(len(data), tuning.n_images)], np.float32))
    k2 = torch.fft.fftfreq(d, 1 / d)[:, None].square() + torch.fft.rfftfreq(d, 1 / d).square()
    power = torch.fft.irfft2(torch.fft.rfft2(images) * (k2 <= tuning.power_shells ** 2), s=(d, d)).square().mean(0)
    x = torch.arange(d, dtype=torch.float32) - d // 2
    ring = (x[:, None].square() + x.square()).sqrt().round().long().flatten()
    counts = torch.bincount(ring)
    profile = (torch.bincount(ring, power.flatten()) / counts)[:d // 2].numpy()
    sums = (profile - profile[int(tuning.edge_frac * (d // 2)):].mean()) * counts[:d // 2].numpy()
    if sums.sum() <= tuning.min_power_frac * (profile * counts[:d // 2].numpy()).sum():
        return 0.0
    share = np.cumsum(sums) / sums.sum()
    return float(np.interp(_POWER_FRAC, np.maximum.accumulate(share), np.arange(len(share))) / (_POWER_RADIUS * d))


def with_shells(run: StatesRun, data: Images, tuning: ShellTuning = TUNING.shells) -> StatesRun:
    """The settings with every resolution that was left to the particle's size, rising about those that are given.

    Raises ConfigError where the given ones do not rise.
    """
    radius_frac, highest = particle_radius_frac(data, tuning), data.box_px / 2
    finer = min(max(tuning.typical_radius_frac / radius_frac, 1.0), tuning.max_finer) if radius_frac else 1.0

    state = run.state_shells or max(min(finer * tuning.states, highest), run.search_shells, run.start_shells)
    search = run.search_shells or max(min(finer * tuning.search, state), run.start_shells)
    start = run.start_shells or min(finer * tuning.start, search)
    run = replace(run, start_shells=start, search_shells=search, state_shells=state)
    if not run.start_shells <= run.search_shells <= run.state_shells:
        raise ConfigError(f"start_shells {run.start_shells:g}, search_shells {run.search_shells:g} and state_shells "
                          f"{run.state_shells:g} do not rise.", "Give them in rising order, or 0 for all.")
    return run


def with_grids(tuning: RefineTuning, run: StatesRun, data: Images) -> RefineTuning:
    """The grids of rotations made finer where the user asks for finer shells than the particle's size gives.

    A step in angle and a shell go together: r times the shells take r^3 times the rotations, at most MOST_ROTATIONS.
    """
    usual = with_shells(replace(run, start_shells=0.0, search_shells=0.0, state_shells=0.0), data, tuning.shells)

    def finer(n_rotations: int, shells: float, usual_shells: float) -> int:
        return max(n_rotations, min(MOST_ROTATIONS, round(n_rotations * (shells / usual_shells) ** 3)))

    start, search = tuning.start.n_rotations, tuning.search.n_rotations
    return replace(tuning, start=replace(tuning.start, n_rotations=finer(start, run.start_shells, usual.start_shells)),
                   search=replace(tuning.search, n_rotations=finer(search, run.search_shells, usual.search_shells)))


def shells_text(run: StatesRun, data: Images) -> str:
    """The resolutions in words."""
    box_ang = data.box_px * data.pixel_size_ang
    return ", ".join(f"{what} {shells:.3g} shells ({box_ang / shells:.3g} A)" for what, shells in (
        ("start", run.start_shells), ("pose search", run.search_shells), ("states", run.state_shells)))
