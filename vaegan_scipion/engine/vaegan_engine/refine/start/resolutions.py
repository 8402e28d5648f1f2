"""Resolutions of the stages that fit the particle."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...contract.errors import ConfigError
from ...contract.settings import StatesRun
from ...physics.fourier_band import make_band, shell_sums
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


def ball_share(data: Images, tuning: ShellTuning = TUNING.shells) -> np.ndarray:
    """Part of the images' signal that a ball about their middle explains, per shell ``(d//2 + 1,)``.

    A ball's transform is one real number b per shell, ``b = sum C Re X / sum C^2`` over images and points; it explains
    ``mean(C^2) b^2`` of ``mean |X|^2 - noise``. That has no orientation. NaN where the signal is below
    ``ShellTuning.min_signal`` of the noise, which is that of the highest shells.
    """
    band, rows = make_band(data.box_px, data.box_px / 2, data.device), spread_rows(len(data), tuning.n_images)
    transforms, ctf = data.coefficients(rows, band)
    counts = shell_sums(torch.ones_like(band.weight), band).clamp_min(1)
    power = shell_sums(transforms.abs().square().mean(0), band) / counts
    noise = power[int(tuning.noise_frac * (len(power) - 1)):-2].mean()
    strength = shell_sums(ctf.square().sum(0), band)
    ball = shell_sums((ctf * transforms.real).sum(0), band).square() / strength.clamp_min(1e-9) / (len(rows) * counts)
    signal = power - noise
    share: np.ndarray = torch.where(signal > tuning.min_signal * noise, ball / signal, torch.nan).cpu().numpy()
    return share


def ball_shells(data: Images, tuning: ShellTuning = TUNING.shells) -> int:
    """The last shell of which a ball explains ``ShellTuning.min_ball_share``, 0 where there is none.

    And 0 where no signal is left for an orientation in the shells that begin there, up to ``times_ball`` as many.
    """
    share = ball_share(data, tuning)
    ball = np.flatnonzero(share >= tuning.min_ball_share)
    if not len(ball):
        return 0
    last, reach = int(ball[-1]), round(tuning.times_ball * ball[-1])
    return last if np.isfinite(share[last:reach + 1]).all() else 0


def hollow_shells(data: Images, by_size: float, tuning: ShellTuning = TUNING.shells) -> int:
    """``ball_shells`` where a ball explains the images so far up that the usual shells do not do, else 0.

    ``by_size``: how many times finer these are by the particle's size (``finer_by_size``).
    """
    last = ball_shells(data, tuning)
    return last if tuning.times_ball * last > by_size * tuning.start else 0


def with_shells(run: StatesRun, data: Images, tuning: ShellTuning = TUNING.shells) -> StatesRun:
    """The settings with every resolution that was left to the particle, rising about those that are given.

    What fits its size; finer, where a ball explains much of the shells that this reaches (``hollow_shells``): a hollow
    shell has no orientation there. Raises ConfigError where the given ones do not rise.
    """
    by_size, highest = finer_by_size(data, tuning), data.box_px / 2
    hollow = hollow_shells(data, by_size, tuning)
    finer = max(by_size, min(tuning.times_ball * hollow / tuning.start, tuning.max_finer))
    finer_search = max(by_size, min(tuning.times_ball_search * hollow / tuning.search, tuning.max_finer))

    state = run.state_shells or max(min(max(finer * tuning.states, finer_search * tuning.search), highest),
                                    run.search_shells, run.start_shells)
    search = run.search_shells or max(min(finer_search * tuning.search, state), run.start_shells)
    start = run.start_shells or min(finer * tuning.start, search)
    run = replace(run, start_shells=start, search_shells=search, state_shells=state)
    if not run.start_shells <= run.search_shells <= run.state_shells:
        raise ConfigError(f"start_shells {run.start_shells:g}, search_shells {run.search_shells:g} and state_shells "
                          f"{run.state_shells:g} do not rise.", "Give them in rising order, or 0 for all.")
    return run


def finer_by_size(data: Images, tuning: ShellTuning = TUNING.shells) -> float:
    """How many times finer than a typical particle's the shells of a smaller one are."""
    radius_frac = particle_radius_frac(data, tuning)
    return min(max(tuning.typical_radius_frac / radius_frac, 1.0), tuning.max_finer) if radius_frac else 1.0


def with_grids(tuning: RefineTuning, run: StatesRun, data: Images) -> RefineTuning:
    """The grids of rotations made finer where shells are finer than the particle's size gives.

    A step in angle and a shell go together: r times the shells take r^3 times the rotations, at most MOST_ROTATIONS.
    Of a hollow shell (``hollow_shells``) the shifts are finer too: its middle is found to a part of a step, and on
    coarse shifts a map that stands off centre, which has finer ones by its rotations, explains more than a right one.
    """
    by_size, highest = finer_by_size(data, tuning.shells), data.box_px / 2
    usual_start = min(by_size * tuning.shells.start, highest)
    usual_search = min(by_size * tuning.shells.search, highest)

    def finer(n_rotations: int, shells: float, usual_shells: float) -> int:
        return max(n_rotations, min(MOST_ROTATIONS, round(n_rotations * (shells / usual_shells) ** 3)))

    start, search, second = tuning.start.n_rotations, tuning.search.n_rotations, tuning.search.second_n_rotations
    goes_on = tuning.start.search_n_rotations
    is_hollow = hollow_shells(data, by_size, tuning.shells) > 0
    finer_shifts = tuning.shells.ball_finer_shifts if is_hollow else tuning.search.finer_shifts
    return replace(tuning, start=replace(tuning.start, tries_cubic=is_hollow,
                                         n_rotations=finer(start, run.start_shells, usual_start),
                                         search_n_rotations=finer(goes_on, run.search_shells, usual_search)),
                   search=replace(tuning.search, n_rotations=finer(search, run.search_shells, usual_search),
                                  second_n_rotations=finer(second, run.search_shells, usual_search),
                                  finer_shifts=finer_shifts))


def shells_text(run: StatesRun, data: Images) -> str:
    """The resolutions in words."""
    box_ang = data.box_px * data.pixel_size_ang
    return ", ".join(f"{what} {shells:.3g} shells ({box_ang / shells:.3g} A)" for what, shells in (
        ("start", run.start_shells), ("pose search", run.search_shells), ("states", run.state_shells)))


def hollow_text(data: Images) -> str:
    """What a user should know of images that show a hollow shell."""
    to_ang = data.box_px * data.pixel_size_ang / hollow_shells(data, finer_by_size(data))
    return (f"a hollow shell: a ball explains the images to {to_ang:.0f} A, so little tells its views apart. Such "
            "particles mostly have a symmetry: if yours does, give it (symmetry O for ferritin, I for most viruses)")
