"""The command line: ``vaegan COMMAND ...`` and ``vaegan run run.json``."""
from __future__ import annotations

import argparse
import dataclasses
import difflib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..contract import run_json
from ..contract.errors import EXIT_DONE, EXIT_SIGINT, ConfigError, DataError, EngineError, OutOfMemoryError
from ..contract.presets import build_run, parse_setting, with_fitting_band
from ..contract.run_json import from_dict, merged
from ..contract.settings import DataConfig, TrainRun
from ..contract.status import forget_failure, read_status, record_failure
from ..runtime import launch
from ..runtime.place import as_first_of, is_first, place
from .commands import COMMANDS, Command
from .options import add_settings, given, option_name, options_of, settings_named

_WHAT = "States, poses and maps of uncurated cryo-EM particles, and the landscape between them by a VAE-GAN."
_RESUME_HELP = "Continue from the newest checkpoint"
_PROCESSES_HELP = "Processes of this machine that share the work, one for each GPU (default: 1)"
_FORECAST_HELP = "Measure on this machine what time, memory and disk the run will take, say it, and run nothing"


def build_parser(asked: str = "") -> argparse.ArgumentParser:
    """Parser of the whole command line; only the command ``asked`` for has its options, others are not imported."""
    parser = argparse.ArgumentParser(prog="vaegan", description=_WHAT)
    parser.add_argument("--version", action="version", version=f"vaegan {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if command.name == asked:
            add_options(sub, command)
    run = commands.add_parser("run", help="run the settings of a run.json",
                              description="run the settings of a run.json")
    run.add_argument("run_json", type=Path)
    run.add_argument("--out", type=Path, help="Results folder (default: the folder of run.json)")
    run.add_argument("--resume", action="store_true", help="Continue a training or refinement from its checkpoint")
    run.add_argument("--processes", type=int, metavar="N", default=1, help=_PROCESSES_HELP)
    run.add_argument("--forecast", action="store_true", help=_FORECAST_HELP)
    return parser


def add_options(parser: argparse.ArgumentParser, command: Command) -> None:
    """Options of one command: its settings, ``--out``, and what it has beside them."""
    if not command.settings:
        return
    add_settings(parser, command.load("settings"), ("data", "model", "training") if command.presets else ())
    parser.add_argument("--out", type=Path, required=command.out_required, help=command.out_help)
    if command.presets:
        parser.add_argument("--config", type=Path, help="JSON file with sections data, model, training, compute")
        parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                            help="One setting, for example training.total_kimg=64; may be repeated")
    if command.resumable:
        parser.add_argument("--resume", action="store_true", help=_RESUME_HELP)
    if command.shared:
        parser.add_argument("--processes", type=int, metavar="N", default=1, help=_PROCESSES_HELP)
    if command.forecast:
        parser.add_argument("--forecast", action="store_true", help=_FORECAST_HELP)
    if command.details:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = command.load("details")


def train_settings(command: str, values: dict[str, Any], config: Path | None, settings: Sequence[str]) -> TrainRun:
    """Settings of a training: of the file, then of the options ``values``, then of ``--set``. Raises ConfigError."""
    changes: dict[str, Any] = {}
    if config:
        try:
            changes = json.loads(config.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{config}: cannot be read as JSON ({error}).",
                              "Give a JSON file with sections data, model, training, compute.") from error
    preset = values.pop("preset", "")
    changes = merged(changes, values)
    for text in settings:
        changes = merged(changes, parse_setting(text))
    data = changes.get("data", {})
    posed = data.get("poses_dir") or data.get("input_poses")
    return build_run(command, preset or ("posed" if posed else TrainRun().preset), changes)


def run_command(command: Command, args: argparse.Namespace) -> None:
    """Run one command with the options that were given."""
    run = command.load("run")
    if not command.settings:
        run()
        return
    cls = command.load("settings")
    values = given(cls, args)
    asked = (was_asked_for("data", "box_px", values, args.set if command.presets else ())
             or bool(command.presets and args.config))
    settings = (train_settings(command.name, values, args.config, args.set) if command.presets
                else from_dict(cls, values, "settings"))
    if not asked and getattr(settings, "data", None) is not None and settings.data.box_px == DataConfig().box_px:
        from ..data.fitting_box import fitting_box

        settings = dataclasses.replace(settings, data=fitting_box(settings.data))
        if command.presets and not was_asked_for("training", "band_shells", values, args.set):
            settings = with_fitting_band(settings)
    start(command, settings, args.out, args)


def was_asked_for(section: str, key: str, values: dict[str, Any], settings: Sequence[str]) -> bool:
    """Whether options or ``--set`` name a setting."""
    return key in values.get(section, {}) or any(text.startswith(f"{section}.{key}=") for text in settings)


def start(command: Command, settings: Any, out_dir: Path | None, args: argparse.Namespace) -> None:
    """Run a command after what is expected of it was said, or say only that."""
    resumed = {"resume": args.resume} if command.resumable else {}
    if command.forecast and not resumed.get("resume") and is_first():
        from ..evaluation.forecast import forecasts

        if args.forecast:
            with as_first_of(getattr(args, "processes", 1)):
                forecasts.show(settings)
            return
        forecasts.say(settings, out_dir)
    command.load("run")(settings, out_dir, **resumed)


def run_file(args: argparse.Namespace) -> None:
    """``vaegan run run.json``: what Scipion calls."""
    settings = run_json.read_run(args.run_json)
    command = COMMANDS[settings.command]
    out_dir = args.out or args.run_json.resolve().parent
    start(command, settings, out_dir, args)
    if is_first():
        forget_failure(out_dir)


def main(argv: Sequence[str]) -> int:
    """Run a command line, its words without the program's name; returns the exit code (see ``errors``)."""
    print_every_name()
    asked = next((word for word in argv if not word.startswith("-")), "")
    parser = build_parser(asked)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hints(asked, unknown)}")
    try:
        if starts_others(args):
            return launch.run_processes([sys.executable, "-m", __package__.partition(".")[0], *argv], args.processes)
        if args.command == "run":
            run_file(args)
        else:
            run_command(COMMANDS[args.command], args)
    except EngineError as error:
        return ended_by(args, error)
    except OSError as error:
        return ended_by(args, DataError(f"{error.filename or 'a file'}: {error.strerror or error}.",
                                        "Give files and folders that can be read and written, with disk space left."))
    except MemoryError as error:  # NumPy's; torch's is a plain RuntimeError
        return ended_by(args, memory_full(error))
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            return ended_by(args, memory_full(error))
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not loaded by every command
            raise
        return ended_by(args, OutOfMemoryError(f"The GPU ran out of memory ({error}).",
                                               "Use a smaller box, fewer particles at a time, or the CPU."))
    except KeyboardInterrupt:
        return EXIT_SIGINT
    return EXIT_DONE


def hints(command: str, unknown: Sequence[str]) -> str:
    """What may have been meant by options that a command does not have: a setting of a training, a name like it."""
    known, texts = COMMANDS.get(command), []
    if known is None or not known.settings:
        return ""
    cls = known.load("settings")
    names = [option_name(item) for _, item in options_of(cls)]
    for word in unknown:
        name = word.partition("=")[0]
        if not name.startswith("--"):
            continue
        settings = settings_named(cls, name[2:].replace("-", "_")) if known.presets else []
        alike = difflib.get_close_matches(name, names, 1)
        texts += [f"{name} is a setting: --set {place}=VALUE" for place in settings]
        texts += [f"is {other} meant for {name}?" for other in alike if not settings]
    return "".join(f"; {text}" for text in texts)


def print_every_name() -> None:
    """Names of files that the terminal's encoding does not hold are printed with escapes, as in messages of errors."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def memory_full(error: Exception) -> OutOfMemoryError:
    """This machine's memory, or what a queue or container allows of it, is not enough."""
    what = (str(error).splitlines() or ["no more is given"])[0]
    return OutOfMemoryError(f"This machine, or the queue, has not enough memory ({what}).",
                            "Ask for more memory, use a smaller box or fewer particles; what can be continued goes on "
                            "with --resume.")


def starts_others(args: argparse.Namespace) -> bool:
    """Whether this process starts the several that are asked for, and is not one of them.

    Raises ConfigError where a command cannot be shared.
    """
    asked, count = getattr(args, "processes", 1), place().count
    if asked < 1:
        raise ConfigError(f"processes is {asked}.", "Give 1 or more.")
    name = run_json.read_run(args.run_json).command if args.command == "run" else args.command
    if max(asked, count) > 1 and not COMMANDS[name].shared:
        shared = ", ".join(command.name for command in COMMANDS.values() if command.shared)
        raise ConfigError(f"{max(asked, count)} processes are asked for {name}.", f"Several share {shared} alone.")
    return asked > 1 and count == 1 and not args.forecast


def ended_by(args: argparse.Namespace, error: EngineError) -> int:
    """Say why the command ends, once; returns the exit code."""
    if is_first():
        print(f"vaegan {args.command}: {error}", file=sys.stderr)
        leave_reason(args, error)
    else:
        from ..runtime import processes

        processes.tell_failure(error)
    return error.exit_code


def leave_reason(args: argparse.Namespace, error: EngineError) -> None:
    """Leave the reason in ``status.json`` for whoever reads the folder (Scipion does).

    A command that was not called by a ``run.json`` leaves it where it had begun.
    """
    folder = getattr(args, "out", None) or (args.run_json.resolve().parent if args.command == "run" else None)
    if folder is None or (args.command != "run" and not had_begun(folder)):
        return
    if Path(folder).is_dir() and os.access(folder, os.W_OK):
        record_failure(folder, error)


def had_begun(folder: Path) -> bool:
    """Whether a command was at work in a folder; one that a power cut ended may leave a status that is not whole."""
    try:
        return read_status(folder).state == "running"
    except DataError:
        return True
