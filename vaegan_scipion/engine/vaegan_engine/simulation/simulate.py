"""Simulated particles: ``particles.star``, ``particles.mrcs``, ``truth.csv``, ``simulation.json``.

An image is ``shift(CTF * projection(map, pose)) + noise`` in RELION's conventions, protein white, in
the maps' own units (a projection is the sum over voxels along the view), times the particle's contrast. The
signal-to-noise ratio is the variance of the clean CTF-modulated images over the noise variance, over the whole
image; one noise level and spectrum serve the whole set. Poses are uniform, or views are preferred; images of all maps
are shuffled. On top of that, neighbours may reach into the images and the noise may differ between micrographs
(``crowd``).
"""
from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
import torch
from torch import Tensor

from ..contract import result_files
from ..contract.boxes import cropped_box_px
from ..contract.errors import DataError
from ..contract.record import write_record
from ..contract.settings import ComputeConfig
from ..data.image_preparation import fourier_matrix
from ..data.mrc_files import VOXEL_SIZE_TOLERANCE_FRAC, StackWriter, read_map
from ..data.optics import CTF_RELION, LEAST_DEFOCUS_ANG, MOST_DEFOCUS_ANG, PHASE_FLIPPED
from ..data.particle_tables import JUNK
from ..data.particles import PARTICLE_ID
from ..physics.ctf import CTF_COLUMNS, ctf_2d
from ..physics.projection import extract_slices, map_to_fourier, shift_slices, slices_to_images
from ..physics.rotations import concentrated_rotations, matrix_to_euler, random_rotations
from ..runtime.compute import prepare_device
from ..runtime.progress import progress_bar
from .crowd import draw_crowd, draw_micrographs, particle_diameter_px, within_reach
from .junk_images import KINDS, Junk, JunkImages, draw_junk, load_others
from .options import SimulateOptions, Simulation, check_options
from .phantom import PHANTOM_BOX_ANG, phantom_states

STAR, STACK, TRUTH_CSV, SIMULATION_JSON = "particles.star", "particles.mrcs", "truth.csv", "simulation.json"
TRUTH_COLUMNS = ("id", "map", "map_file", "rot_deg", "tilt_deg", "psi_deg", "shift_x_px", "shift_y_px", "contrast",
                 "junk", "neighbours", "noise_factor")
NO_MAP = -1  # map of junk in truth.csv, which has no pose either
SNR_DEFINITION = ("Variance of the clean CTF-modulated images over the noise variance, over the whole image; "
                  "one noise level for the whole set, from the mean variance of the clean images.")
BLOCK_PX = 2 ** 20  # pixels made at a time
# columns of a table of real CTFs (n, 9): box, A/px, U, V, angle, kV, Cs, amplitude contrast, phase shift
_TABLE_COLUMNS = 9
_TABLE_CTF = slice(2, 9)


@dataclass(frozen=True)
class Truth:
    """What each of n images is made of, in the order of the stack."""

    map_index: np.ndarray  # (n,) int64, NO_MAP for junk
    rotations: Tensor  # (n, 3, 3) float32 RELION Euler matrices
    shift_px: Tensor  # (n, 2) float32, x and y; the content moves by +shift
    contrast: Tensor  # (n,) float32, factor of the clean image; not a number for junk
    ctf: Tensor  # (n, 8) float32, columns as ctf.CTF_COLUMNS
    junk_row: np.ndarray  # (n,) int64, row of ``junk``, -1 for particles
    junk: Junk | None = None
    crowd: Junk | None = None  # neighbours of every image
    micrograph: np.ndarray | None = None  # (n,) int64 from 0
    noise_factor: Tensor | None = None  # (n,) standard deviation of the noise over the mean one


def load_maps(options: SimulateOptions) -> tuple[np.ndarray, float, list[str]]:
    """Maps ``(v, d, d, d)`` float32 in the simulated box, their voxel size (A) and their names."""
    if options.phantom:
        voxel_size_ang = PHANTOM_BOX_ANG * options.crop_frac / options.box_px
        return (phantom_states(options.phantom, options.box_px, voxel_size_ang), voxel_size_ang,
                [f"phantom_{state}" for state in range(options.phantom)])
    made, sizes = zip(*(_load_map(path, options) for path in options.maps), strict=True)
    if max(sizes) > min(sizes) * (1 + VOXEL_SIZE_TOLERANCE_FRAC):
        other = sizes.index(max(sizes)), sizes.index(min(sizes))
        raise DataError(f"{options.maps[other[0]]} and {options.maps[other[1]]}: their voxels would be "
                        f"{max(sizes):g} and {min(sizes):g} A wide in a box of {options.box_px} pixels; "
                        "they must be equal.", "Give maps of one box and voxel size.")
    return np.stack(made), float(np.mean(sizes)), list(options.maps)


def _load_map(path: str, options: SimulateOptions) -> tuple[np.ndarray, float]:
    array, voxel_size_ang = read_map(path)
    cropped_px = cropped_box_px(len(array), options.crop_frac)
    if options.box_px > cropped_px:
        raise DataError(f"{path}: the box of {options.box_px} pixels is larger than the map's {cropped_px} "
                        f"voxels (crop {options.crop_frac:g} of {len(array)}).",
                        f"Use --box {cropped_px - cropped_px % 2} or less, or a larger --crop-frac.")
    start = len(array) // 2 - cropped_px // 2
    part = (slice(start, start + cropped_px),) * 3
    matrix = fourier_matrix(cropped_px, options.box_px)
    resized = np.einsum("ai,bj,ck,ijk->abc", matrix, matrix, matrix, array[part], optimize=True)
    return resized.astype(np.float32), voxel_size_ang * cropped_px / options.box_px


def draw_truth(options: SimulateOptions, n_maps: int) -> Truth:
    """Maps, poses, shifts and CTFs of all images: a function of the seed alone, not of the device."""
    n = n_maps * options.per_map
    rng = np.random.default_rng([options.seed, 0])
    map_index = rng.permutation(np.repeat(np.arange(n_maps), options.per_map))
    limit_px = options.max_shift_frac * options.box_px
    shift_px = rng.uniform(-limit_px, limit_px, (n, 2))
    ctf = _drawn_ctf(options, n, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2 ** 62)))
    c = options.view_concentration
    rotations = concentrated_rotations(n, c, generator) if c else random_rotations(n, generator)
    truth = Truth(map_index, rotations, torch.from_numpy(shift_px.astype(np.float32)), draw_contrast(options, n),
                  torch.from_numpy(ctf.astype(np.float32)), np.full(n, -1))
    return with_junk(truth, options, n_maps) if options.junk_frac else truth


def draw_contrast(options: SimulateOptions, n: int) -> Tensor:
    """Contrast ``(n,)`` of particles: log-normal of mean 1 and standard deviation ``contrast_spread``."""
    variance = np.log1p(options.contrast_spread ** 2)
    normal = np.random.default_rng([options.seed, 2]).standard_normal(n)
    return torch.from_numpy(np.exp(np.sqrt(variance) * normal - variance / 2).astype(np.float32))


def noise_filter(box_px: int, ratio: float) -> Tensor:
    """Gain ``(d, d//2 + 1)`` that colours white noise and leaves its variance.

    Power ``1 + (ratio - 1) exp(-8 f^2)``, f = frequency / Nyquist, scaled to a mean of 1 over all coefficients.
    """
    f = torch.fft.fftfreq(box_px, 0.5).double()
    power = 1 + (ratio - 1) * torch.exp(-8 * (f[:, None].square() + f.square()))
    return (power / power.mean()).sqrt()[:, :box_px // 2 + 1].float()


def with_junk(truth: Truth, options: SimulateOptions, n_maps: int) -> Truth:
    """The particles unchanged, junk shuffled in between."""
    n = len(truth.map_index)
    m = round(n * options.junk_frac / (1 - options.junk_frac))
    rng = np.random.default_rng([options.seed, 1])
    max_shift_px = options.max_shift_frac * options.box_px
    junk = draw_junk(m, (n_maps, len(options.junk_maps)), options.box_px, max_shift_px, rng)
    ctf = _drawn_ctf(options, m, rng)
    is_junk = rng.permutation(n + m) < m
    row = np.empty(n + m, np.int64)  # of particles, then junk
    row[~is_junk], row[is_junk] = np.arange(n), n + np.arange(m)
    nowhere = torch.full((m, 2), torch.nan)
    return Truth(np.concatenate((truth.map_index, np.full(m, NO_MAP)))[row],
                 torch.cat((truth.rotations, torch.eye(3).expand(m, 3, 3)))[row],
                 torch.cat((truth.shift_px, nowhere))[row],
                 torch.cat((truth.contrast, nowhere[:, 0]))[row],
                 torch.cat((truth.ctf, torch.from_numpy(ctf.astype(np.float32))))[row],
                 np.concatenate((np.full(n, -1), np.arange(m)))[row], junk)


def _drawn_ctf(options: SimulateOptions, n: int, rng: np.random.Generator) -> np.ndarray:
    """CTF rows ``(n, 8)``, columns as ``ctf.CTF_COLUMNS``."""
    ctf = _ctf_from_table(options.ctf_table, n, rng) if options.ctf_table else _ctf_from_range(options, n, rng)
    return np.column_stack((ctf, np.full(n, float(options.phase_flipped))))


def _ctf_from_range(options: SimulateOptions, n: int, rng: np.random.Generator) -> np.ndarray:
    mean = rng.uniform(*options.defocus_range_ang, n)
    half_difference = rng.uniform(0, options.astigmatism_ang, n) / 2
    fixed = (options.voltage_kv, options.cs_mm, options.amplitude_contrast, 0.0)
    return np.column_stack((mean + half_difference, mean - half_difference, rng.uniform(0, 180, n),
                            np.tile(fixed, (n, 1))))


def _ctf_from_table(path: str, n: int, rng: np.random.Generator) -> np.ndarray:
    try:
        table = result_files.read_npz(path)["ctf"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no array 'ctf' can be read ({error}).",
                        "Give an npz file with a 'ctf' array of 9 columns.") from error
    if table.ndim != 2 or table.shape[1] != _TABLE_COLUMNS or len(table) == 0 or not np.isfinite(table).all():
        raise DataError(f"{path}: array 'ctf' has shape {table.shape}, it must be (n, 9) of finite numbers.",
                        "See vaegan simulate --help for the columns.")
    defocus_ang = table[:, _TABLE_CTF][:, :2].mean(axis=1)
    wrong = np.flatnonzero((defocus_ang < LEAST_DEFOCUS_ANG) | (defocus_ang > MOST_DEFOCUS_ANG))
    if len(wrong):
        raise DataError(f"{path}: the mean defocus is {defocus_ang[wrong[0]]:g} in row {wrong[0] + 1} ({len(wrong)} "
                        f"such rows), it must lie between {LEAST_DEFOCUS_ANG:g} and {MOST_DEFOCUS_ANG:g} A.",
                        "Give the defocus in Angstrom, underfocus positive.")
    return table[rng.integers(len(table), size=n), _TABLE_CTF]


def clean_images(map_ft: Tensor, truth: Truth, rows: slice, box_px: int, pixel_size_ang: float) -> Tensor:
    """Noise-free images ``(m, d, d)`` of particles in some rows, on the device of ``map_ft``; 0 where junk is."""
    device = map_ft.device
    index = torch.from_numpy(truth.map_index[rows]).to(device)
    particle = torch.nonzero(index != NO_MAP).squeeze(1)
    images = torch.zeros(len(index), box_px, box_px, device=device)
    images[particle] = particle_images(map_ft, truth, rows.start + particle.cpu(), box_px, pixel_size_ang)
    return images


def particle_images(map_ft: Tensor, truth: Truth, rows: Tensor, box_px: int, pixel_size_ang: float) -> Tensor:
    """Noise-free images ``(m, d, d)`` of particles."""
    device = map_ft.device
    index = torch.from_numpy(truth.map_index[rows.numpy()]).to(device)
    planes = extract_slices(map_ft, index, truth.rotations[rows].to(device), box_px)
    planes = planes * ctf_2d(truth.ctf[rows].to(device), box_px, pixel_size_ang)
    images = slices_to_images(shift_slices(planes, truth.shift_px[rows].to(device)))
    return images * truth.contrast[rows, None, None].to(device)


def run_simulate(options: SimulateOptions, out_dir: Path, block_px: int = BLOCK_PX) -> Simulation:
    """Write a simulated set into ``out_dir``; returns what ``simulation.json`` holds.

    The clean images are made twice, first to measure their variance, so that memory stays bounded: ``block_px`` pixels.
    The star file is written last: a folder with one is complete.
    """
    check_options(options)
    device = prepare_device(ComputeConfig(device=options.device, seed=options.seed))
    maps, pixel_size_ang, names = load_maps(options)
    truth = with_surroundings(draw_truth(options, len(maps)), options, maps)
    n, d = len(truth.map_index), options.box_px
    n_particles = int((truth.map_index != NO_MAP).sum())
    step = max(1, block_px // d ** 2)
    blocks = [slice(start, min(n, start + step)) for start in range(0, n, step)]
    noise_generator = torch.Generator(device).manual_seed(options.seed)
    with torch.no_grad():
        map_ft = map_to_fourier(torch.from_numpy(maps).to(device))

        junk = junk_maker(options, truth, maps, pixel_size_ang, device)
        crowd = None if truth.crowd is None else JunkImages(truth.crowd, torch.from_numpy(maps).to(device),
                                                            pixel_size_ang)

        def clean(rows: slice) -> Tensor:
            return clean_images(map_ft, truth, rows, d, pixel_size_ang)

        signal_variance = 0.0
        with progress_bar(n, "measuring the signal", "images") as bar:
            for rows in blocks:
                signal_variance += float(clean(rows).double().var((1, 2), correction=0).sum()) / n_particles
                bar.update(rows.stop - rows.start)
        if not signal_variance > 0:
            raise DataError(f"{names[0]}: the projections have no signal (variance {signal_variance:g}).",
                            "Give maps with density in their central part.")
        noise_std = (signal_variance / options.snr) ** 0.5
        gain = noise_filter(d, options.noise_ratio).to(device)
        _remove_star(out_dir)
        with (StackWriter(out_dir / STACK, n, d, pixel_size_ang) as writer,
              progress_bar(n, "simulating", "images") as bar):
            for rows in blocks:
                images = clean(rows)
                if junk is not None:
                    for row in np.flatnonzero(truth.junk_row[rows] >= 0):
                        images[row] = junk.clean(truth.junk_row[rows][row], truth.ctf[rows][row])
                if crowd is not None:
                    images += torch.stack([crowd.clean(row, truth.ctf[row]) for row in range(rows.start, rows.stop)])
                noise = torch.randn(images.shape, generator=noise_generator, device=device)
                if options.noise_ratio != 1:
                    noise = torch.fft.irfft2(torch.fft.rfft2(noise) * gain, s=(d, d))
                if truth.noise_factor is not None:
                    noise = noise * truth.noise_factor[rows, None, None].to(device)
                writer.append((images + noise_std * noise).cpu().numpy())
                bar.update(rows.stop - rows.start)
    simulation = Simulation(options, n, n - n_particles, names, pixel_size_ang, signal_variance, noise_std ** 2,
                            noise_std, SNR_DEFINITION, device.type, str(torch.__version__))
    write_record(out_dir / SIMULATION_JSON, simulation)
    _write_truth(out_dir / TRUTH_CSV, truth, names)
    _write_star(out_dir / STAR, truth, d, pixel_size_ang)
    print(f"images {n}\nSNR {options.snr:g} (noise standard deviation {noise_std:.4g})\nparticles {out_dir / STAR}",
          flush=True)
    return simulation


def with_surroundings(truth: Truth, options: SimulateOptions, maps: np.ndarray) -> Truth:
    """The same images with neighbours, and on micrographs with a noise level of their own, where that is asked for."""
    n = len(truth.map_index)
    changes: dict[str, Any] = {}
    if options.crowding:
        diameter_px = particle_diameter_px(maps)
        crowd = draw_crowd(options.crowding, n, len(maps), diameter_px, np.random.default_rng([options.seed, 3]))
        changes["crowd"] = within_reach(crowd, diameter_px, options.box_px)
    if options.micrograph_noise_spread:
        rng = np.random.default_rng([options.seed, 4])
        changes["micrograph"], changes["noise_factor"] = draw_micrographs(options.micrograph_noise_spread, n, rng)
    return replace(truth, **changes)


def junk_maker(options: SimulateOptions, truth: Truth, maps: np.ndarray, pixel_size_ang: float, device: torch.device
               ) -> JunkImages | None:
    """Maker of the junk's images, None where there is none."""
    if truth.junk is None:
        return None
    others = load_others(options.junk_maps, maps, pixel_size_ang)
    return JunkImages(truth.junk, torch.from_numpy(np.concatenate((maps, others))).to(device), pixel_size_ang)


def _remove_star(out_dir: Path) -> None:
    """An older set in this folder is no longer complete from here on. Raises DataError."""
    try:
        (out_dir / STAR).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{out_dir}: the results folder cannot be used ({error.strerror or error}).",
                        "Give a folder that you may write, with --out.") from error


def _write_truth(path: Path, truth: Truth, names: list[str]) -> None:
    angles = np.stack([angle.numpy() for angle in matrix_to_euler(truth.rotations.double())], 1)
    numbers = np.concatenate((angles, truth.shift_px.double().numpy(),
                              truth.contrast.double().numpy()[:, None]), 1)
    rows: list[list[Any]] = []
    neighbours = (np.zeros(len(numbers), int) if truth.crowd is None
                  else np.bincount(truth.crowd.owner, minlength=len(numbers)))
    factor = np.ones(len(numbers)) if truth.noise_factor is None else truth.noise_factor.numpy()
    for row, index in enumerate(truth.map_index):
        surroundings = [int(neighbours[row]), f"{factor[row]:.4f}"]
        if index == NO_MAP:
            assert truth.junk is not None
            rows.append([row + 1, NO_MAP, JUNK, *["nan"] * numbers.shape[1],
                         KINDS[truth.junk.kind[truth.junk_row[row]]], *surroundings])
        else:
            rows.append([row + 1, int(index), Path(names[index]).name, *(f"{value:.6f}" for value in numbers[row]), "",
                         *surroundings])
    result_files.write_csv(path, TRUTH_COLUMNS, rows)


def _write_star(path: Path, truth: Truth, box_px: int, pixel_size_ang: float) -> None:
    """RELION 3.1 star file: one optics group per microscope setting, no poses."""
    ctf = dict(zip(CTF_COLUMNS, truth.ctf.double().numpy().T, strict=True))
    relion = dict(zip(CTF_COLUMNS, CTF_RELION, strict=True))
    shared = ["voltage_kv", "cs_mm", "amplitude_contrast"]
    flipped = ctf.pop("phase_flipped")[0]
    settings, group = np.unique(np.stack([ctf[name] for name in shared], 1), axis=0, return_inverse=True)
    optics = pd.DataFrame({"rlnOpticsGroup": np.arange(len(settings)) + 1})
    optics["rlnOpticsGroupName"] = [f"opticsGroup{number}" for number in optics["rlnOpticsGroup"]]
    for name, values in zip(shared, settings.T, strict=True):
        optics[relion[name]] = np.round(values, 6)
    if flipped:
        optics[PHASE_FLIPPED] = 1
    optics["rlnImagePixelSize"] = pixel_size_ang
    optics["rlnImageSize"] = box_px
    optics["rlnImageDimensionality"] = 2
    n = len(truth.map_index)
    particles = pd.DataFrame({"rlnImageName": [f"{row:06d}@{STACK}" for row in range(1, n + 1)],
                              "rlnOpticsGroup": group.ravel() + 1, PARTICLE_ID: np.arange(1, n + 1)})
    if truth.micrograph is not None:
        particles["rlnMicrographName"] = [f"micrograph_{number + 1:04d}.mrc" for number in truth.micrograph]
    for name in ctf:
        if name not in shared:
            particles[relion[name]] = ctf[name]
    part = path.with_name(path.name + ".tmp")
    starfile.write({"optics": optics, "particles": particles}, part)
    os.replace(part, path)
