"""Settings of ``vaegan simulate``."""
from __future__ import annotations

from dataclasses import dataclass

from ..contract.errors import ConfigError
from ..contract.setting import check_settings, setting
from ..data.image_preparation import SMALLEST_BOX_PX
from ..data.optics import LEAST_DEFOCUS_ANG, MOST_DEFOCUS_ANG


@dataclass(frozen=True)
class SimulateOptions:
    """What to simulate; ``maps`` or ``phantom`` (a number of states), not both."""

    maps: tuple[str, ...] = setting((), "Maps of one voxel size, protein positive", path=True, metavar="MRC",
                                    group="source", required=True)
    phantom: int = setting(0, "States of the built-in asymmetric phantom", metavar="N_STATES", group="source",
                           required=True)
    per_map: int = setting(1000, "Images of each map", low=1, metavar="N")
    box_px: int = setting(64, "Image side, even", unit="px", low=SMALLEST_BOX_PX, option="box", metavar="PX")
    crop_frac: float = setting(1.0, "Central part of the maps' box that is kept before it is resized to the image side",
                               low=1e-3, high=1, metavar="F")
    snr: float = setting(0.1, "Variance of the clean CTF-modulated images over the noise variance, over the whole "
                         "image", low=1e-6)
    defocus_range_ang: tuple[float, float] = setting(
        (10000.0, 28000.0), "Range of the mean defocus, uniform", unit="A", low=1e-3, high=1e6, option="defocus",
        metavar="LOW HIGH", group="optics")
    astigmatism_ang: float = setting(500.0, "Defocus U - V is uniform from 0 to this", unit="A", low=0, high=1e6,
                                     option="astigmatism", metavar="ANG")
    max_shift_frac: float = setting(0.05, "Largest shift along x and y, fraction of the box", low=0, high=0.49,
                                    metavar="F")
    view_concentration: float = setting(
        0.0, "Views gather about the z axis with density exp(C (|cos tilt| - 1))", low=0, high=100, zero="uniform",
        metavar="C")
    voltage_kv: float = setting(300.0, "Acceleration voltage", unit="kV", low=10, high=2000, option="voltage",
                                metavar="KV")
    cs_mm: float = setting(2.7, "Spherical aberration", unit="mm", low=0, high=100, option="cs", metavar="MM")
    amplitude_contrast: float = setting(0.1, "Part of the contrast that is amplitude contrast", low=0, high=1,
                                        metavar="W")
    phase_flipped: bool = setting(False, "Images as after phase flipping (the CTF without its sign); the star file "
                                  "says so")
    ctf_table: str = setting(
        "", "Draw real CTFs from array 'ctf' (n, 9): box, A/px, defocus U and V (A), angle, kV, Cs (mm), amplitude "
        "contrast, phase shift", path=True, metavar="NPZ", group="optics")
    contrast_spread: float = setting(
        0.0, "Standard deviation of the particles' contrast, log-normal of mean 1 (ice thickness, normalisation); real "
        "data: about 0.2", low=0, high=1, metavar="S")
    noise_ratio: float = setting(1.0, "Power of the noise at frequency 0 over that at Nyquist; 1: white, real data: 2 "
                                 "to 4", low=0.1, high=100, metavar="R")
    junk_frac: float = setting(0.0, "Fraction of all images that is junk (noise, off-centre, aggregates, other "
                               "molecules), on top of those of the maps", low=0, high=0.9, metavar="F")
    junk_maps: tuple[str, ...] = setting((), "Other molecules among the junk", path=True, metavar="MRC")
    crowding: float = setting(
        0.0, "Probability that a neighbour stands 1.1 to 1.5 particle diameters away, in each of four quadrants", low=0,
        high=1, metavar="P")
    micrograph_noise_spread: float = setting(
        0.0, "Standard deviation of the noise level between micrographs of 100 particles, mean 1; real data: "
        "about 0.3", low=0, high=1, metavar="S")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    seed: int = setting(0, "Start of all random numbers", low=0)


def check_options(options: SimulateOptions) -> None:
    """Refuse values that cannot be simulated. Raises ConfigError."""
    check_settings(options)
    low, high = options.defocus_range_ang
    checks = (
        (bool(options.maps) == bool(options.phantom), "maps and phantom", (len(options.maps), options.phantom),
         "Exactly one of them must be given."),
        (options.box_px % 2 == 1, "box_px", options.box_px, "Use an even number."),
        (low > high, "defocus_range_ang", options.defocus_range_ang, "Use LOW <= HIGH."),
        ((low < LEAST_DEFOCUS_ANG or high > MOST_DEFOCUS_ANG) and options.amplitude_contrast < 1, "defocus_range_ang",
         options.defocus_range_ang, f"Use {LEAST_DEFOCUS_ANG:g} to {MOST_DEFOCUS_ANG:,.0f} A (1 um is 10,000 A)."),
        (bool(options.junk_maps) and options.junk_frac == 0, "junk_frac", options.junk_frac,
         "With junk_maps it must be above 0."))
    for wrong, name, value, remedy in checks:
        if wrong:
            raise ConfigError(f"{name} is {value}.", remedy)


@dataclass(frozen=True)
class Simulation:
    """``simulation.json``: how a set was made."""

    options: SimulateOptions
    n_images: int
    n_junk: int
    map_files: list[str]
    pixel_size_ang: float
    signal_variance: float
    noise_variance: float
    noise_std: float
    snr_definition: str
    device: str
    torch: str  # version
