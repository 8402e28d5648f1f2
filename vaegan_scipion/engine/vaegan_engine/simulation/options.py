"""Options of ``vaegan simulate``: their defaults, command line and limits."""
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract.errors import ConfigError
from ..data.image_preparation import SMALLEST_BOX_PX


@dataclass(frozen=True)
class SimulateOptions:
    """What to simulate; ``maps`` or ``phantom`` (a number of states), not both."""

    maps: tuple[str, ...] = ()
    phantom: int = 0
    per_map: int = 1000
    box_px: int = 64
    crop_frac: float = 1.0  # central part of the maps' box that is kept
    snr: float = 0.1
    defocus_low_ang: float = 10000.0
    defocus_high_ang: float = 28000.0
    astigmatism_ang: float = 500.0  # U - V is uniform from 0 to this
    max_shift_frac: float = 0.05  # of the box, each axis, uniform
    view_concentration: float = 0.0  # c of a density of views exp(c (|cos tilt| - 1)); 0 = uniform
    voltage_kv: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.1
    phase_flipped: bool = False  # images as after phase flipping: the CTF without its sign
    ctf_table: str = ""  # npz of real CTFs, in place of the defocus range and the microscope
    contrast_spread: float = 0.0  # standard deviation of the particles' contrast, log-normal of mean 1
    noise_ratio: float = 1.0  # power of the noise at frequency 0 over that at Nyquist; 1 = white
    junk_frac: float = 0.0  # of all images; they come on top of those of the maps
    junk_maps: tuple[str, ...] = ()  # other molecules among the junk
    device: str = "auto"
    seed: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan simulate``."""
    default = SimulateOptions()
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--maps", nargs="+", metavar="MRC", help="maps of one voxel size, protein positive")
    source.add_argument("--phantom", type=int, metavar="N_STATES",
                        help="states of the built-in asymmetric phantom")
    parser.add_argument("--per-map", type=int, default=default.per_map, metavar="N", help="images of each map")
    parser.add_argument("--box", type=int, default=default.box_px, metavar="PX", help="image side, even")
    parser.add_argument("--crop-frac", type=float, default=default.crop_frac, metavar="F",
                        help="central part of the maps' box that is kept before it is resized to --box")
    parser.add_argument("--snr", type=float, default=default.snr,
                        help="variance of the clean CTF-modulated images over the noise variance, over the "
                             "whole image (default %(default)s)")
    optics = parser.add_mutually_exclusive_group()
    optics.add_argument("--defocus", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        default=(default.defocus_low_ang, default.defocus_high_ang),
                        help="range of the mean defocus in A, uniform")
    optics.add_argument("--ctf-table", metavar="NPZ", default="",
                        help="draw real CTFs from array 'ctf' (n, 9): box, A/px, defocus U and V (A), angle, "
                             "kV, Cs (mm), amplitude contrast, phase shift")
    parser.add_argument("--astigmatism", type=float, default=default.astigmatism_ang, metavar="ANG",
                        help="defocus U - V is uniform from 0 to this")
    parser.add_argument("--max-shift-frac", type=float, default=default.max_shift_frac, metavar="F",
                        help="largest shift along x and y, fraction of the box")
    parser.add_argument("--view-concentration", type=float, default=default.view_concentration, metavar="C",
                        help="views gather about the z axis with density exp(C (|cos tilt| - 1)); 0: uniform")
    parser.add_argument("--contrast-spread", type=float, default=default.contrast_spread, metavar="S",
                        help="standard deviation of the particles' contrast, log-normal of mean 1 (ice thickness, "
                             "normalisation); real data: about 0.2")
    parser.add_argument("--noise-ratio", type=float, default=default.noise_ratio, metavar="R",
                        help="power of the noise at frequency 0 over that at Nyquist; 1: white, real data: 2 to 4")
    parser.add_argument("--junk-frac", type=float, default=default.junk_frac, metavar="F",
                        help="fraction of all images that is junk: noise, off-centre, aggregates, other molecules")
    parser.add_argument("--junk-maps", nargs="+", metavar="MRC", help="other molecules among the junk")
    parser.add_argument("--voltage", type=float, default=default.voltage_kv, metavar="KV")
    parser.add_argument("--cs", type=float, default=default.cs_mm, metavar="MM")
    parser.add_argument("--amplitude-contrast", type=float, default=default.amplitude_contrast, metavar="W")
    parser.add_argument("--phase-flipped", action="store_true",
                        help="images as after phase flipping (the CTF without its sign); the star file says so")
    parser.add_argument("--device", default=default.device, help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", type=Path, required=True, help="results folder")


def from_args(args: argparse.Namespace) -> SimulateOptions:
    """Options of a parsed command line."""
    return SimulateOptions(
        maps=tuple(str(Path(path).absolute()) for path in args.maps or ()), phantom=args.phantom or 0,
        per_map=args.per_map, box_px=args.box, crop_frac=args.crop_frac, snr=args.snr,
        defocus_low_ang=args.defocus[0], defocus_high_ang=args.defocus[1],
        astigmatism_ang=args.astigmatism, max_shift_frac=args.max_shift_frac,
        view_concentration=args.view_concentration, contrast_spread=args.contrast_spread,
        noise_ratio=args.noise_ratio, voltage_kv=args.voltage,
        cs_mm=args.cs, amplitude_contrast=args.amplitude_contrast, phase_flipped=args.phase_flipped,
        ctf_table=str(Path(args.ctf_table).absolute()) if args.ctf_table else "", junk_frac=args.junk_frac,
        junk_maps=tuple(str(Path(path).absolute()) for path in args.junk_maps or ()), device=args.device,
        seed=args.seed)


def check_options(options: SimulateOptions) -> None:
    """Refuse values that cannot be simulated. Raises ConfigError."""
    checks = (
        (bool(options.maps) == bool(options.phantom), "maps and phantom", (len(options.maps), options.phantom),
         "exactly one of --maps and --phantom must be given"),
        (options.per_map < 1, "--per-map", options.per_map, "it must be at least 1"),
        (options.box_px < SMALLEST_BOX_PX or options.box_px % 2 == 1, "--box", options.box_px,
         f"it must be even and at least {SMALLEST_BOX_PX}"),
        (not 0 < options.crop_frac <= 1, "--crop-frac", options.crop_frac, "it must be above 0 and at most 1"),
        (not 0 < options.snr < np.inf, "--snr", options.snr, "it must be above 0"),
        (not 0 < options.defocus_low_ang <= options.defocus_high_ang, "--defocus",
         (options.defocus_low_ang, options.defocus_high_ang), "it must be 0 < LOW <= HIGH, in A"),
        (options.astigmatism_ang < 0, "--astigmatism", options.astigmatism_ang, "it must not be negative"),
        (not 0 <= options.max_shift_frac < 0.5, "--max-shift-frac", options.max_shift_frac,
         "it must be at least 0 and below 0.5"),
        (not 0 <= options.view_concentration <= 100, "--view-concentration", options.view_concentration,
         "it must be from 0 to 100"),
        (not 0 <= options.contrast_spread <= 1, "--contrast-spread", options.contrast_spread,
         "it must be from 0 to 1"),
        (not 0.1 <= options.noise_ratio <= 100, "--noise-ratio", options.noise_ratio, "it must be from 0.1 to 100"),
        (not 0 <= options.junk_frac <= 0.9, "--junk-frac", options.junk_frac, "it must be from 0 to 0.9"),
        (bool(options.junk_maps) and options.junk_frac == 0, "--junk-frac", options.junk_frac,
         "with --junk-maps it must be above 0"),
        (not 10 <= options.voltage_kv <= 2000, "--voltage", options.voltage_kv, "it is in kV, 10 to 2000"),
        (not 0 <= options.amplitude_contrast <= 1, "--amplitude-contrast", options.amplitude_contrast,
         "it must lie between 0 and 1"),
    )
    for wrong, name, value, rule in checks:
        if wrong:
            raise ConfigError(f"{name} is {value}.", f"{rule[0].upper()}{rule[1:]}.")
