"""``reproduce``: an experiment of the thesis, from data to its table and figure in ``reports/EXPERIMENT``.

Finished parts are kept and taken on the next call. A training may be done elsewhere: ``--plan`` prints the plain
commands, and a finished training in ``OUT/CONFIGURATION/run`` is taken as it is.
"""
from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from ..contract.presets import parse_setting
from ..runtime.options import add_compute, compute_of
from .experiment_tables import SCALES, STAGES, ReproduceOptions

# experiment -> (module with run(options, out_dir), one line of help)
EXPERIMENTS = {
    "shift-invariance": ("invariance", "features of digits under all 4,096 cyclic shifts"),
    "rotation-invariance": ("invariance", "features of digits under rotation by 0 to 355 degrees"),
    "noise-generator": ("noise_generator", "a GAN on one image: known noise of sigma 0.5 to 1.5, noise generator"),
    "ribosome-3d": ("ribosome", "three ribosome states in 3D: full model, camera, no noise, variant"),
    "ribosome-2d": ("ribosome", "the same images in 2D: full model, no noise, variant"),
    "glu-morph": ("motion_morph", "frames of a motion, matched with maps on the first principal component"),
    "rag": ("homogeneous", "one structure without an encoder: real particles, or simulated"),
}
NEEDS = """\
A training on another machine (a GPU), here for ribosome-3d; every step may be stopped and called again:

  vaegan reproduce ribosome-3d --data DIR --scale full --stop-after data    simulate OUT/data (--per-map N: fewer)
  vaegan reproduce ribosome-3d --data DIR --scale full --plan               the plain training commands
  (run them where the GPU is; bring OUT/CONFIGURATION/run back)
  vaegan reproduce ribosome-3d --data DIR --scale full                      analyse, table, figure

or all of it there, one configuration after the other: --only thesis-3d --kimg 200 --device cuda.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan reproduce``."""
    default = ReproduceOptions()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "\n".join(["Run an experiment of the thesis again:", "", *(
        f"  {name:20} {text}" for name, (_, text) in EXPERIMENTS.items())])
    parser.epilog = NEEDS
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--scale", choices=SCALES, default=default.scale,
                        help="small: two CPU cores, minutes to an hour; full: the thesis's (a GPU) (default: small)")
    parser.add_argument("--data", dest="data_dir", default="", metavar="DIR", help="folder with the maps' folders")
    parser.add_argument("--maps", nargs="+", default=[], metavar="MRC", help="these maps in place of those of --data")
    parser.add_argument("--models", nargs=2, default=[], metavar="PDB", help="glu-morph: first and last atomic model")
    parser.add_argument("--particles", default="", metavar="STAR", help="rag: real particles")
    parser.add_argument("--only", default="", metavar="CONFIGURATION", help="one configuration")
    parser.add_argument("--kimg", type=float, default=0.0, help="length of every training (default: of the scale)")
    parser.add_argument("--per-map", type=int, default=0, help="images of each map (default: of the scale)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="one setting of every training; may be repeated")
    parser.add_argument("--stop-after", choices=STAGES, default="all", help="stop after the data or the trainings")
    parser.add_argument("--plan", action="store_true", help="print the commands of the trainings and stop")
    parser.add_argument("--out", type=Path, help="results folder (default: reports/EXPERIMENT)")
    add_compute(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan reproduce``."""
    for text in args.set:
        parse_setting(text)
    options = ReproduceOptions(
        args.experiment, args.scale, args.data_dir, tuple(args.maps), tuple(args.models), args.particles, args.only,
        args.kimg, args.per_map, tuple(args.set), args.stop_after, args.plan, compute_of(args))
    run_reproduce(options, args.out or Path("reports") / args.experiment)


def run_reproduce(options: ReproduceOptions, out_dir: Path) -> str:
    """Run one experiment into ``out_dir``; returns the text of its table. Raises ConfigError or DataError."""
    return importlib.import_module(f".{EXPERIMENTS[options.experiment][0]}", __package__).run(options, Path(out_dir))
