"""The command line: ``vaegan COMMAND ...`` and ``vaegan run run.json``."""
from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from .. import __version__
from ..contract import result_files, run_json
from ..contract.errors import EXIT_DATA, EXIT_DONE, EXIT_SIGINT, ConfigError, DataError, EngineError, StoppedError
from ..contract.settings import RefineRun, TrainRun

# command -> (module, one line of help); each module has add_arguments(parser) and main(args)
COMMANDS = {
    "simulate": ("simulation.simulate", "simulate particles from maps (or the built-in phantom)"),
    "train3d": ("", "train the 3D model on particles without poses"),
    "train2d": ("", "train the 2D model on particles without poses"),
    "presets": ("contract.presets", "list the presets of train3d and train2d"),
    "embed": ("latent.embed", "encode every particle with a trained model"),
    "cluster": ("latent.cluster", "UMAP and density clustering; one map per cluster"),
    "traverse": ("latent.traverse", "PCA inside each cluster and maps along it"),
    "halves": ("evaluation.halves", "train two independent halves and compare them (FSC)"),
    "refine": ("refine.refine", "states, poses and maps beyond the clusters (expectation maximisation)"),
    "consensus": ("evaluation.consensus", "what several clusterings or refinements of the same particles agree on"),
    "evaluate": ("evaluation.evaluate", "compare clusters and maps with the truth"),
    "scf": ("evaluation.scf", "how completely the poses of a star file or of a trained camera fill Fourier space"),
    "ceiling": ("evaluation.ceiling", "what a supervised classifier reaches on the same images"),
    "observer": ("evaluation.observer", "how well an observer who knows the true maps tells the states apart"),
    "count": ("latent.count", "how many clusters the criteria without density would choose"),
    "centroids": ("latent.centroids", "k-means inside each cluster, the nearest particles decoded"),
    "homogeneity": ("thesis.homogeneity", "k-means groups of everything, each aligned by RELION as one class"),
    "match": ("thesis.map_matching", "correlation of maps with reference maps or atomic models"),
    "psnr": ("thesis.psnr", "reconstructions of simulated particles against their clean images"),
    "fid": ("thesis.fid", "Frechet distance of generated images, features of the data set's own classifier"),
    "reproduce": ("thesis.reproduce", "run an experiment of the thesis again: data, trainings, table, figure"),
    "benchmark": ("evaluation.benchmark", "the scoreboard: simulated tasks refined and compared with the truth"),
    "report": ("report.report", "a whole analysis as one HTML file, or as one picture"),
    "counterpart": ("latent.counterpart", "one particle beside what the generator makes at its z"),
}


def build_parser() -> argparse.ArgumentParser:
    """Parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="vaegan", description="VAE-GAN for cryo-EM particles without poses.")
    parser.add_argument("--version", action="version", version=f"vaegan {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if module:
            # only the command that is asked for is imported: a training needs no UMAP
            if len(sys.argv) > 1 and sys.argv[1] == name:
                importlib.import_module(f"..{module}", __package__).add_arguments(sub)
        else:
            add_train_arguments(sub)
    run = commands.add_parser("run", help="run the settings of a run.json",
                              description="run the settings of a run.json")
    run.add_argument("run_json", type=Path)
    run.add_argument("--out", type=Path, help="results folder (default: the folder of run.json)")
    run.add_argument("--resume", action="store_true", help="continue a training or refinement from its checkpoint")
    return parser


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``train2d`` and ``train3d``; everything else by ``--config`` or ``--set``."""
    parser.add_argument("--particles", required=True, help="RELION star file")
    parser.add_argument("--out", type=Path, required=True, help="results folder")
    parser.add_argument("--poses", metavar="FOLDER|input", help="train3d: poses of this folder of refine, or those "
                        "that the particles carry")
    parser.add_argument("--preset", help="fast (default), posed (default with --poses) or another of 'vaegan presets'")
    parser.add_argument("--config", type=Path, help="JSON file with sections data, model, training, compute")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="one setting, for example training.total_kimg=64; may be repeated")
    parser.add_argument("--stack", help="one stack that holds every image of the star file")
    parser.add_argument("--max-images", type=int, help="use only the first rows")
    parser.add_argument("--box-px", type=int, help="training box (multiple of 8)")
    parser.add_argument("--crop-frac", type=float, help="central part of the box that is kept")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="CPU threads (default: as many as cores are free)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint")
    parser.add_argument("--continue-from", metavar="RUN", help="start with the networks of another training's folder")


def train_settings(args: argparse.Namespace) -> TrainRun:
    """Settings of a training from the command line. Raises ConfigError."""
    from ..contract.presets import build_run, parse_setting

    changes: dict[str, Any] = {}
    if args.config:
        try:
            changes = json.loads(args.config.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{args.config}: cannot be read as JSON ({error}).",
                              "Give a JSON file with sections data, model, training, compute.") from error
    options = {"data": {"particles": str(Path(args.particles).absolute()), "stack": args.stack,
                        "max_images": args.max_images, "box_px": args.box_px,
                        "crop_frac": args.crop_frac},
               "compute": {"device": args.device, "threads": args.threads, "seed": args.seed}}
    if args.poses == "input":
        options["data"]["input_poses"] = True
    elif args.poses:
        options["data"]["poses_dir"] = str(Path(args.poses).absolute())
    if args.stack:
        options["data"]["stack"] = str(Path(args.stack).absolute())
    if args.continue_from:
        options["training"] = {"continue_from": str(Path(args.continue_from).absolute())}
    for section, values in options.items():
        changes = run_json.merged(changes, {section: {k: v for k, v in values.items() if v is not None}})
    for setting in args.set:
        changes = run_json.merged(changes, parse_setting(setting))
    return build_run(args.command, args.preset or ("posed" if args.poses else "fast"), changes)


def run_file(args: argparse.Namespace) -> None:
    """``vaegan run run.json``: what Scipion calls."""
    run = run_json.read_run(args.run_json)
    out_dir = args.out or args.run_json.resolve().parent
    if isinstance(run, TrainRun):
        from ..training.train import run_train
        run_train(run, out_dir, args.resume)
        return
    module = importlib.import_module(f"..{COMMANDS[run.command][0]}", __package__)
    options = {"resume": args.resume} if isinstance(run, RefineRun) else {}
    getattr(module, f"run_{run.command}")(run, out_dir, **options)


def dispatch(args: argparse.Namespace) -> None:
    """Run one parsed command."""
    if args.command == "run":
        run_file(args)
    elif COMMANDS[args.command][0] == "":
        from ..training.train import run_train
        run_train(train_settings(args), args.out, args.resume)
    else:
        importlib.import_module(f"..{COMMANDS[args.command][0]}", __package__).main(args)


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns the exit code (see ``errors``)."""
    if argv is not None:
        sys.argv = ["vaegan", *argv]
    args = build_parser().parse_args()
    try:
        dispatch(args)
    except EngineError as error:
        print(f"vaegan {args.command}: {error}", file=sys.stderr)
        record_failure(args, error)
        return error.exit_code
    except OSError as error:
        problem = DataError(f"{error.filename or 'a file'}: {error.strerror or error}.",
                            "Give files and folders that can be read and written, with disk space left.")
        print(f"vaegan {args.command}: {problem}", file=sys.stderr)
        record_failure(args, problem)
        return EXIT_DATA
    except KeyboardInterrupt:
        return EXIT_SIGINT
    return EXIT_DONE


def record_failure(args: argparse.Namespace, error: EngineError) -> None:
    """Leave the reason in ``status.json`` for whoever reads the folder (Scipion does)."""
    if args.command != "run":
        return
    folder = args.out or args.run_json.resolve().parent
    if Path(folder).is_dir() and os.access(folder, os.W_OK):
        state = "stopped" if isinstance(error, StoppedError) else "failed"
        result_files.update_status(folder, state=state, error={
            "code": error.exit_code, "message": error.message, "hint": error.hint})
