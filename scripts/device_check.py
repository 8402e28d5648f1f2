"""Measure this code on one GPU, in at most eight minutes and without a download, and write rows of results.

    python scripts/device_check.py --out DIR [--rows bench/results] [--device cuda] [--only NAME ...] [--beside TEXT]

Each measure (``vaegan_engine.evaluation.device.measures``) runs in a process of its own for its own time: one that
fails, hangs or is killed costs only its own figures, and its row says so. What a measure has reported when it ends is
kept. Exit code 0: all measures ended well; 1: some did not; 2: wrong usage.

``--toy`` runs everything at a size for a test on a CPU. The Python that runs this needs the engine's packages.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "vaegan_scipion" / "engine"))

from vaegan_engine.contract import result_files  # noqa: E402
from vaegan_engine.contract.errors import EngineError  # noqa: E402
from vaegan_engine.contract.settings import ComputeConfig  # noqa: E402
from vaegan_engine.evaluation.benchmark.result_rows import ResultRow, machine, measured, write_row  # noqa: E402
from vaegan_engine.evaluation.device import measures  # noqa: E402
from vaegan_engine.runtime import compute  # noqa: E402

TOTAL_SECONDS = 480.0
ENDING_SECONDS = 8.0  # that a measure has to end in after its time, before it is killed
MACHINE = "machine"  # key of the figures' file: the device by name


@dataclass(frozen=True)
class Ended:
    """What is left of one measure."""

    figures: dict[str, float | int | str]
    seconds: float
    problem: str  # "" where it ended well

    @property
    def is_whole(self) -> bool:
        """Whether it ended well."""
        return not self.problem


def run_apart(command: list[str], figures: Path, seconds: float, ending_seconds: float = ENDING_SECONDS) -> Ended:
    """Run one measure as a process of its own, at most for ``seconds``, and read what it reported."""
    figures.parent.mkdir(parents=True, exist_ok=True)
    log, began, problem = figures.with_suffix(".log"), time.monotonic(), ""
    with open(log, "w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            code = process.wait(seconds + ending_seconds)
            if code:
                problem = last_line(log) or f"exit code {code}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            problem = f"killed after {seconds + ending_seconds:.0f} s"
    values = json.loads(figures.read_text()) if figures.exists() else {}
    return Ended(values, time.monotonic() - began, problem)


def last_line(log: Path) -> str:
    """The last words of a log, which say why a process ended."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def row_of(name: str, ended: Ended, args: argparse.Namespace) -> ResultRow:
    """The row of one measure: its figures, whether it is whole, and if not, why."""
    figures = {key: value for key, value in ended.figures.items() if key != MACHINE}
    words = [f"python scripts/device_check.py --only {name} --device {args.device}", "--toy" if args.toy else ""]
    row = measured(f"device-{name}" + ("-toy" if args.toy else ""),
                   {**figures, "whole": int(ended.is_whole), "seconds": round(ended.seconds, 1)},
                   " ".join(filter(None, words)), args.seed, beside=args.beside, note=ended.problem)
    return replace(row, machine=", ".join(filter(None, (str(ended.figures.get(MACHINE, "")), machine()))))


def run_measure(name: str, args: argparse.Namespace) -> int:
    """In a measure's own process: run it, every figure written as it comes. Returns the exit code."""
    path, found = Path(args.figures), {}

    def report(figure: str, value: float | int | str) -> None:
        found[figure] = value
        print(f"{figure}: {value}", flush=True)
        result_files.write_json(path, found)

    place = measures.Place(ComputeConfig(device=args.device, threads=args.threads, seed=args.seed),
                           path.parent / name, args.seconds, measures.TOY if args.toy else measures.FULL)
    try:
        report(MACHINE, compute.describe(place.device))
        measures.MEASURES[name].run(place, report)
    except EngineError as error:
        print(error, flush=True)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True)
        return 1
    return 0


def run_all(args: argparse.Namespace) -> int:
    """Every measure in turn; returns the exit code."""
    names = args.only or [name for name, measure in measures.MEASURES.items() if measure.usual]
    out, began, whole = Path(args.out).absolute(), time.monotonic(), True
    for name in names:
        left = TOTAL_SECONDS - ENDING_SECONDS - (time.monotonic() - began)
        seconds = min(args.seconds or measures.MEASURES[name].seconds, left)
        figures = out / f"{name}.json"
        figures.unlink(missing_ok=True)
        if seconds < 5:
            ended = Ended({}, 0.0, "no time was left")
        else:
            command = [sys.executable, str(Path(__file__).resolve()), "--measure", name, "--figures", str(figures),
                       "--seconds", str(seconds), "--device", args.device, "--seed", str(args.seed),
                       "--threads", str(args.threads), *(["--toy"] if args.toy else [])]
            ended = run_apart(command, figures, seconds)
        row = row_of(name, ended, args)
        path = write_row(row, Path(args.rows) if args.rows else out / "rows")
        print(f"{name}: {ended.problem or 'whole'}, {ended.seconds:.0f} s, {path}", flush=True)
        print(json.dumps(asdict(row)["figures"], indent=1), flush=True)
        whole = whole and ended.is_whole
    return 0 if whole else 1


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="device_check", help="folder of data, logs and results")
    parser.add_argument("--rows", default="", help="folder that the rows go to (default: rows in --out)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=sorted(measures.MEASURES), help="this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=0.0, help="for each measure, in place of its own time")
    parser.add_argument("--beside", default="", help="what else runs on the machine meanwhile")
    parser.add_argument("--toy", action="store_true", help="a size for a test on a CPU")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    parser.add_argument("--figures", default="", help=argparse.SUPPRESS)
    return parser


def main(words: list[str] | None = None) -> int:
    """Run what the command line says; returns the exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = options().parse_args(words)
    return run_measure(args.measure, args) if args.measure else run_all(args)


if __name__ == "__main__":
    sys.exit(main())
