"""Whether maps say more of images than a ball does: the null of structure.

Any particle is better explained by a blob than by nothing. What makes a structure is that it differs with the
direction. So the null is the maps' own spherical average, each about its own centre, with the profile that fits the
images best: the average of a map that is not at its end explains less than a ball does. The question is put to images
that the maps were made without, in pairs: the mean over images of

    ``log p(X | maps) - log p(X | balls)``,

poses summed over, with its standard error. Both sides have the noise that fits the null best: with too low a level any
map, of noise too, is better than none.

Where signal is strong, a ball is found to a part of a pixel, and the shifts that a search of maps affords are so coarse
that maps lose by them what they gain by their structure. So where the maps do not win they are asked a second time:
both sides at the same fine shifts about the one that the ball finds in each image. That favours the ball, and more is
asked.
"""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ...contract.records import BallNumbers
from ...physics.fourier_band import make_band, shell_sums, shift_grid, shift_phases
from ...physics.rotations import super_fibonacci_rotations
from ...physics.slices import half_radius
from ...reconstruction.images import low_passed
from ...reconstruction.map_mixture import MapMixture, Shifted, Templates, accumulate, search
from ...reconstruction.pose_search import Stage, shift_grid_of, shift_step_px
from ...reconstruction.pose_sharpness import open_angle_deg, orientation_gain
from ...runtime.step_store import stored
from ..problem import Problem
from .centring import shift_phases_of

_FINER_SHIFTS = 4.0  # of balls: a map that is off centre has as fine ones, by its rotations
_NEAR_STEPS = 2  # fine ones, to each side of the shift that the ball finds
_NOISE_TURNS = 3  # of noise and shifts, for the null
_CENTRE_STEPS = 4.0, 2.0, 1.0, 0.5, 0.25  # of the search for a map's centre, in 48ths of the box


@stored
@dataclass(frozen=True)
class BallNull:
    """Maps against their spherical averages, on unseen images."""

    gain: float  # mean log likelihood ratio per image, maps against balls
    gain_error: float  # its standard error
    by_balls: float  # the same of balls against an empty map
    orientation_gain: float  # mean information of an image on its orientation, in nats
    n_images: int
    min_errors: float  # that the gain must be, and
    min_frac: float  # of what balls explain
    n_alike: int = 1  # rotations that show the same, by the symmetry
    near_balls: bool = False  # both at fine shifts about the one that the ball finds: the second question

    @property
    def is_beaten(self) -> bool:
        """Whether the maps say more than balls do."""
        return self.gain > max(self.min_errors * self.gain_error, self.min_frac * self.by_balls)

    @property
    def open_deg(self) -> float:
        """Radius of the ball of rotations that an image leaves open on average, those that show the same being one."""
        return open_angle_deg(self.orientation_gain + math.log(self.n_alike))

    def text(self) -> str:
        """The numbers in words."""
        where = " at the shifts that balls find" if self.near_balls else ""
        return (f"log likelihood {self.gain:.2f} +- {self.gain_error:.2f} per image of {self.n_images}{where}; asked "
                f"are {self.min_errors:g} errors and {100 * self.min_frac:g} % of the {self.by_balls:.1f} by balls")

    def numbers(self) -> BallNumbers:
        """For ``states.json``."""
        return BallNumbers(open_deg=self.open_deg, **asdict(self))


def ball_null(problem: Problem, model: MapMixture, rows: np.ndarray, stage: Stage) -> BallNull:
    """The null of ``model`` by images ``rows`` that it was made without, at the resolution of a stage.

    The answer of the second question where that alone is for the maps, else of the first.
    """
    data, tuning = problem.images, problem.tuning.start
    band = make_band(data.box_px, stage.radius, data.device)
    maps = torch.stack([centred(map_) for map_ in low_passed(model.maps, stage.radius)])
    model = MapMixture(maps, model.noise, model.constraint)
    whole = model.templates(band, model.constraint.rotations(super_fibonacci_rotations(stage.n_rotations, data.device)))
    balls = Templates(whole.rotations[:1], whole.slices.mean(1, keepdim=True).real.to(whole.slices.dtype))
    images = data.coefficients(rows, band)
    fine_px, coarse_px = (shift_grid_of(data, stage.radius, stage.largest_shift_px, finer)
                          for finer in (_FINER_SHIFTS, 1.0))
    fine, coarse = (Shifted(*images, band, shift_phases(band, grid)) for grid in (fine_px, coarse_px))
    balls = fit_null(model, balls, fine, fine_px)
    orientation = float(orientation_gain(data, model, torch.from_numpy(rows), stage.grid).mean())

    def answer(of_maps: Tensor, of_balls: Tensor, min_errors: float, near_balls: bool) -> BallNull:
        gain = of_maps - of_balls
        return BallNull(float(gain.mean()), float(gain.std()) / len(rows) ** 0.5, float(of_balls.mean()), orientation,
                        len(rows), min_errors, tuning.min_ball_frac, len(model.constraint.group), near_balls)

    first = answer(log_evidence(model, whole, coarse), log_evidence(model, balls, fine), tuning.min_ball_errors, False)
    if first.is_beaten:
        return first
    near, _ = near_ball(model, balls, fine, fine_px)
    second = answer(log_evidence(model, whole, near), log_evidence(model, balls, near), tuning.min_near_errors, True)
    return second if second.is_beaten else first


def fit_null(model: MapMixture, balls: Templates, images: Shifted, shifts_px: Tensor) -> Templates:
    """The balls with the profile that fits images best; the noise of ``model`` is changed to theirs."""
    fit_noise(model, balls, images)
    balls = fitted(balls, *near_ball(model, balls, images, shifts_px))
    fit_noise(model, balls, images)
    return balls


def near_ball(model: MapMixture, balls: Templates, images: Shifted, shifts_px: Tensor) -> tuple[Shifted, Tensor]:
    """Images moved by the one of ``shifts_px`` (s, 2) at which a ball fits each best, with a few steps about it.

    Returns also the ball of each image ``(n,)``.
    """
    found, d = search(images, model, balls, entries=False), images.band.box_px
    map_of = found.log_evidence.argmax(1)
    best_px = shifts_px[found.best_shift[torch.arange(len(map_of), device=map_of.device), map_of]]
    step_px = shift_step_px(d, images.band.radius) / _FINER_SHIFTS
    moved = images.transforms * shift_phases(images.band, best_px)
    phases = shift_phases(images.band, shift_grid(_NEAR_STEPS * step_px, step_px, shifts_px.device))
    return images._replace(transforms=moved, phases=phases), map_of


def fitted(balls: Templates, images: Shifted, map_of: Tensor) -> Templates:
    """Balls with the profile that fits images about their middle best; ``map_of`` (n,) is the ball of each image.

    Every shell is scaled by ``sum Re(X* C S) / sum |C S|^2``.
    """
    made = images.ctf * balls.slices[map_of, 0]
    scale = (shell_sums((made.conj() * images.transforms).real.sum(0), images.band)
             / shell_sums(made.abs().square().sum(0), images.band).clamp_min(torch.finfo(torch.float32).tiny))
    return balls._replace(slices=balls.slices * scale[images.band.shell])


def log_evidence(model: MapMixture, templates: Templates, images: Shifted) -> Tensor:
    """Log likelihood ratio of images ``(n,)`` against an empty map, poses and maps summed over."""
    posterior = search(images, model, templates, entries=False)
    return posterior.log_evidence.double().logsumexp(1) - np.log(model.n_maps)


def fit_noise(model: MapMixture, templates: Templates, images: Shifted) -> None:
    """The noise of ``model`` (changed) that fits images best with these templates; begins at the images' own power."""
    model.forget(0.0)
    model.add_noise(images.transforms.abs().square().sum(0), len(images.transforms), images.band)
    for _ in range(_NOISE_TURNS):
        posterior = search(images, model, templates)
        model.forget(0.0)
        accumulate(model, posterior, images, templates)


def centred(map_: Tensor) -> Tensor:
    """A map ``(d, d, d)`` with its centre (``centre_px``) moved to the voxel d // 2."""
    d = len(map_)
    moved = torch.fft.rfftn(torch.fft.ifftshift(map_)) * shift_phases_of(d, centre_px(map_).to(map_.device))
    return torch.fft.fftshift(torch.fft.irfftn(moved, s=(d, d, d)))


def centre_px(map_: Tensor) -> Tensor:
    """The point (x, y, z) in voxels from the voxel d // 2, about which a map is most like a ball.

    About it the spherical average keeps the most power, ``sum_s n_s |mean_s F(k) exp(2 pi i k.c / d)|^2``; found by a
    search in steps that are halved.
    """
    d, transform = len(map_), torch.fft.rfftn(torch.fft.ifftshift(map_))
    shell = half_radius(d, map_.device).round().long().flatten()
    counts = torch.bincount(shell).clamp_min(1)
    best, steps = torch.zeros(3), torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)

    def power(centre: Tensor) -> float:
        moved = (transform * shift_phases_of(d, centre.to(map_.device))).real.flatten()
        return float((torch.bincount(shell, moved).square() / counts).sum())

    for step in _CENTRE_STEPS:
        for _ in range(3):
            tried = best + step * d / 48 * steps
            better = tried[int(np.argmax([power(centre) for centre in tried]))]
            if torch.equal(better, best):
                break
            best = better
    return best
