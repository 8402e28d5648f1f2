"""Run every test of the repository and print one summary; the last line is ``N passed, N failed, N skipped``.

Standard library only. Exit code 1 on any failure. Suites: ``lint`` (ruff, mypy), ``engine`` (pytest in the
engine's environment), ``scipion`` (unittest modules in Scipion's environment). ``--only`` picks some of
them, ``--fast`` leaves out the tests marked slow.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ENGINE_BIN = ROOT / ".venv" / "engine" / "bin"
SCIPION = ROOT / "bin" / "scipion3"
SCIPION_TESTS = ROOT / "vaegan_scipion" / "tests"
SUITES = ("lint", "engine", "scipion")
TIME_LIMIT_S = 1500


class Outcome(NamedTuple):
    """What became of one test."""

    suite: str
    name: str
    outcome: str  # passed, failed, skipped
    reason: str = ""
    seconds: float = 0.0


def run(command: list[str], environment: dict[str, str] | None = None) -> int:
    """Run a command with its output shown; 124 when it takes longer than the limit."""
    shown = [str(Path(word).relative_to(ROOT)) if word.startswith(f"{ROOT}{os.sep}") else word for word in command]
    print("+", " ".join(shown), flush=True)
    try:
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})},
                              timeout=TIME_LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        print(f"stopped after {TIME_LIMIT_S} s", flush=True)
        return 124


def checked(suite: str, name: str, command: list[str], environment: dict[str, str] | None = None) -> Outcome:
    """A command that passes when its exit code is 0."""
    started = time.monotonic()
    code = run(command, environment)
    return Outcome(suite, name, "passed" if code == 0 else "failed", f"exit code {code}" if code else "",
                   time.monotonic() - started)


def run_lint() -> list[Outcome]:
    """ruff and mypy over the repository."""
    return [checked("lint", "ruff", [str(ENGINE_BIN / "ruff"), "check", "."]),
            checked("lint", "mypy", [str(ENGINE_BIN / "mypy")])]


def read_junit(path: Path, suite: str) -> list[Outcome]:
    """Outcomes in pytest's XML report."""
    outcomes = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome, reason = "passed", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, reason = "failed", (child.get("message") or "").split("\n")[0]
            elif child.tag == "skipped":
                outcome, reason = "skipped", child.get("message") or ""
        outcomes.append(Outcome(suite, name, outcome, reason, float(case.get("time") or 0)))
    return outcomes


def run_engine(scratch: Path, fast: bool) -> list[Outcome]:
    """pytest in the engine's environment."""
    report = scratch / "engine.xml"
    command = [str(ENGINE_BIN / "python"), "-m", "pytest", "-q", "--durations=8", f"--junitxml={report}"]
    if fast:
        command += ["-m", "not slow"]
    code = run(command, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"})
    outcomes = read_junit(report, "engine") if report.exists() else []
    if code != 0 and not any(item.outcome == "failed" for item in outcomes):
        outcomes.append(Outcome("engine", "pytest", "failed", f"exit code {code}"))
    return outcomes


def run_scipion(scratch: Path, fast: bool) -> list[Outcome]:
    """Each module of ``vaegan_scipion/tests`` in its own Scipion process."""
    environment = {"SCIPION_USER_DATA": str(ROOT / ".scipion" / "tests"), "OMP_NUM_THREADS": "1",
                   "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    if fast:
        environment["VAEGAN_SKIP_SLOW"] = "1"
    outcomes = []
    modules = [f"vaegan_scipion.tests.{path.stem}" for path in sorted(SCIPION_TESTS.glob("test_*.py"))]
    for module in modules:
        report = scratch / f"{module}.json"
        code = run([str(SCIPION), "python", str(ROOT / "scripts" / "scipion_unittest.py"), str(report), module],
                   environment)
        records = json.loads(report.read_text()) if report.exists() else []
        found = [Outcome("scipion", **record) for record in records]
        if code != 0 and not any(item.outcome == "failed" for item in found):
            found.append(Outcome("scipion", module, "failed", f"exit code {code}"))
        if not found:
            found.append(Outcome("scipion", module, "failed", "no test was found"))
        outcomes += found
    # Scipion's own runner must find and run them too.
    outcomes.append(checked("scipion", "scipion3 tests vaegan_scipion.tests.test_convert",
                            [str(SCIPION), "tests", "vaegan_scipion.tests.test_convert"], environment))
    return outcomes


def count(outcomes: list[Outcome], outcome: str) -> int:
    """How many have this outcome."""
    return sum(item.outcome == outcome for item in outcomes)


def summary_line(outcomes: list[Outcome]) -> str:
    """``N passed, N failed, N skipped``."""
    return ", ".join(f"{count(outcomes, outcome)} {outcome}" for outcome in ("passed", "failed", "skipped"))


def print_summary(outcomes: list[Outcome], seconds: float) -> None:
    """Counts per suite, every failure and every skip with its reason; the totals come last."""
    print("\n================ summary ================")
    for suite in SUITES:
        mine = [item for item in outcomes if item.suite == suite]
        if mine:
            print(f"{suite:<8} {summary_line(mine)}  ({sum(item.seconds for item in mine):.0f} s)")
    for outcome in ("skipped", "failed"):
        for item in outcomes:
            if item.outcome == outcome:
                print(f"{outcome.upper()} {item.name}: {item.reason}")
    print(f"took {seconds / 60:.1f} min")
    print(summary_line(outcomes), flush=True)


def main() -> int:
    """Run the suites asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    args = parser.parse_args()
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        if "lint" in args.only:
            outcomes += run_lint()
        if "engine" in args.only:
            outcomes += run_engine(Path(scratch), args.fast)
        if "scipion" in args.only:
            outcomes += run_scipion(Path(scratch), args.fast)
    print_summary(outcomes, time.monotonic() - started)
    return 1 if count(outcomes, "failed") or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
