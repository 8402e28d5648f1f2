"""``observer``: how well the states could be told apart by one who knows their maps.

The ideal observer knows the true maps, the CTFs and the noise spectrum, and not the poses: each image goes to the
state of largest likelihood summed over all rotations of an even grid and all shifts of a grid, and once more to the
state of smallest misfit after its best pose in each was refined off the grid. No method that must find the maps can
be asked for more. The maps' common scale and the noise spectrum come from the images: they are fitted in turn with
the poses.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...contract.errors import ConfigError, DataError
from ...contract.record import write_record
from ...contract.run_json import read_training
from ...contract.setting import check_settings, section, setting
from ...contract.settings import ComputeConfig
from ...data.particle_tables import JUNK, read_truth, rows_of
from ...data.run_images import open_run_cache
from ...physics.fourier_band import Band, make_band
from ...physics.map_constraint import within
from ...physics.rotations import euler_to_matrix, rotation_distance_deg
from ...physics.slices import transform_of, transforms_of
from ...reconstruction.images import Images, image_power, spread_rows
from ...reconstruction.least_squares import project, residual_noise
from ...reconstruction.map_mixture import MapMixture
from ...reconstruction.pose_refinement import AtPoses, refine_poses
from ...reconstruction.pose_search import PoseGrid, Search, search_all
from ...reconstruction.posed_images import posed
from ...refine.start.starting_maps import scale_to_images
from ...runtime.compute import describe, prepare_device
from ...stats.label_agreement import agreement
from .pose_scores import ANGLES, true_angles_deg
from .reference_maps import read_references, references_of_states

OBSERVER_JSON = "observer.json"
FITS = 2  # of scale and noise
POSE_ITERATIONS = 6


@dataclass(frozen=True)
class ObserverOptions:
    """What to observe."""

    run_dir: str = setting("", "Results folder of train3d (its prepared images)", path=True, required=True)
    truth_csv: str = setting("", "truth.csv of simulate, with poses", path=True, required=True)
    maps: tuple[str, ...] = setting((), "The true maps (the phantom's are known)", path=True, metavar="MRC")
    n_images: int = setting(1000, "Images, spread over the set", low=1)
    n_rotations: int = setting(4608, "Rotations of the grid", low=1, high=10**7)
    shells: float = setting(11.0, "Resolution, in shells (box size / resolution)", low=2)
    compute: ComputeConfig = section(ComputeConfig)


@dataclass(frozen=True)
class ObserverScores:
    """How well one way to choose tells the states apart."""

    accuracy: float
    nmi: float
    ami: float
    ari: float
    pose_error_deg: float  # median


@dataclass(frozen=True)
class Observed:
    """``observer.json``."""

    n_images: int
    n_rotations: int
    shells: float
    states: list[str]
    grid: ObserverScores  # by the likelihood summed over the grid
    refined: ObserverScores  # by the misfit after the best pose was refined


def run_observer(options: ObserverOptions, out_dir: Path) -> Observed:
    """Observe and write ``observer.json``; returns what it holds. Raises ConfigError or DataError."""
    check_settings(options)
    device = prepare_device(options.compute)
    train = read_training(options.run_dir)
    cache = open_run_cache(train.data, options.run_dir)
    if options.shells > cache.box_px / 2:
        raise ConfigError(f"shells is {options.shells:g}.", f"Use 2 to {cache.box_px / 2:g}, half of the box.")
    data = cache.on(device)
    truth = read_truth(options.truth_csv)
    state = truth.label[rows_of(truth.particle_id, cache.particle_id, options.truth_csv)]
    particles = np.flatnonzero(state != (truth.names.index(JUNK) if JUNK in truth.names else -1))
    rows = particles[spread_rows(len(particles), options.n_images)]
    maps = true_maps(options, truth.names, cache.box_px, cache.pixel_size_ang).to(device)
    print(f"observer: {len(rows)} images in {len(maps)} maps, on {describe(device)}", flush=True)
    rotations = true_rotations(options.truth_csv, cache.particle_id[rows]).to(device)
    model, search = fitted(data, maps, rows, options, train.model.max_shift_frac * cache.box_px)
    grid = search.log_evidence.argmax(1)
    band = make_band(cache.box_px, options.shells, device)
    refined, poses = best_refined(data, model, search, rows, band)
    at = torch.arange(len(rows))
    of_grid, of_refined = (
        scored(label, state[rows], rotation_distance_deg(own[at, torch.from_numpy(label)], rotations))
        for label, own in ((grid, search.rotations), (refined, poses)))
    observed = Observed(len(rows), options.n_rotations, options.shells, truth.names, of_grid, of_refined)
    write_record(Path(out_dir) / OBSERVER_JSON, observed)
    for name, scores in (("grid", of_grid), ("refined", of_refined)):
        print(f"{name}: accuracy {scores.accuracy:.3f}, NMI {scores.nmi:.3f}, AMI {scores.ami:.3f}, median pose error "
              f"{scores.pose_error_deg:.2f} deg", flush=True)
    return observed


def true_maps(options: ObserverOptions, names: list[str], box_px: int, voxel_size_ang: float) -> Tensor:
    """The maps ``(c, d, d, d)`` of the true states, in their order. Raises DataError."""
    references = read_references(list(options.maps), options.truth_csv, box_px, voxel_size_ang)
    maps = []
    for name, at in zip(names, references_of_states(names, references), strict=True):
        if name == JUNK:
            continue
        if at is None:
            raise DataError(f"{options.truth_csv}: the map of state {name} is not given.", "Give all maps with --maps.")
        maps.append(torch.from_numpy(references[at].map))
    return torch.stack(maps)


def true_rotations(truth_csv: str, ids: np.ndarray) -> Tensor:
    """True rotations ``(n, 3, 3)`` of particles. Raises DataError."""
    known = true_angles_deg(truth_csv)
    without = [int(i) for i in ids if int(i) not in known]
    if without:
        raise DataError(f"{truth_csv}: particle {without[0]} has no {', '.join(ANGLES)} ({len(without)} such).",
                        "Give the truth.csv of simulate: the true poses are needed.")
    return euler_to_matrix(*torch.tensor([known[int(i)] for i in ids]).T)


def fitted(data: Images, maps: Tensor, rows: np.ndarray, options: ObserverOptions, largest_shift_px: float
           ) -> tuple[MapMixture, Search]:
    """Scale of the maps and noise from the images at their best poses, and the last search."""
    power = image_power(data)
    band = make_band(data.box_px, options.shells, data.device)
    model = MapMixture(scale_to_images(maps, data, power, options.shells), power, within(torch.ones_like(maps[0])))
    transforms, ctf = data.coefficients(rows, band)
    grid = PoseGrid(options.shells, options.n_rotations, largest_shift_px)
    for _ in range(FITS):
        search = search_all(data, model, rows, grid)
        best = torch.from_numpy(search.log_evidence.argmax(1)).to(data.device)
        at = torch.arange(len(rows), device=data.device)
        images = posed(transforms, ctf, search.rotations[at, best], search.shifts_px[at, best], band)
        made = torch.zeros_like(images.moved)
        for c in range(len(maps)):
            own = torch.nonzero(best == c).squeeze(1)
            made[own] = project(images.part(own), transform_of(model.maps[c], band))
        weight = band.weight / model.noise[band.shell]
        scale = (weight * (images.moved.conj() * made).real).sum() / (weight * made.abs().square()).sum()
        model.maps = model.maps * scale
        parts = [(len(own), residual_noise(images.part(own), model.maps[c])) for c in range(len(maps))
                 for own in [torch.nonzero(best == c).squeeze(1)] if len(own)]
        noise = torch.stack([n * spectrum for n, spectrum in parts]).sum(0) / len(rows)
        inside = torch.arange(len(power), device=power.device) <= options.shells
        model.noise = torch.where(inside, noise, power)
    return model, search_all(data, model, rows, grid)


def best_refined(data: Images, model: MapMixture, search: Search, rows: np.ndarray, band: Band
                 ) -> tuple[np.ndarray, Tensor]:
    """State of smallest misfit after pose refinement in every map, and the rotations ``(n, c, 3, 3)``."""
    transforms, ctf = data.coefficients(rows, band)
    precision, costs, poses = model.precision(band), [], []
    for c, map_ft in enumerate(transforms_of(model.maps, band)):
        images = AtPoses(transforms, ctf, search.rotations[:, c], search.shifts_px[:, c], band)
        rotations, _, cost = refine_poses(map_ft, images, precision, POSE_ITERATIONS)
        costs.append(cost)
        poses.append(rotations)
    return torch.stack(costs, 1).argmin(1).cpu().numpy(), torch.stack(poses, 1)


def scored(label: np.ndarray, state: np.ndarray, error_deg: Tensor) -> ObserverScores:
    """Accuracy, NMI, AMI, ARI, and the median pose error of all images."""
    return ObserverScores(float((label == state).mean()), **agreement(label, state),
                          pose_error_deg=float(error_deg.median()))
