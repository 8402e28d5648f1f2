"""Run every test of the repository and print one summary; the last line is ``N passed, N failed, N skipped``.

Standard library only. Exit code 1 on any failure. Suites: ``lint`` (ruff, mypy), ``engine`` (pytest in the
engine's environment), ``scipion`` (unittest modules in Scipion's environment). ``--only`` picks some of
them, ``--fast`` leaves out the tests marked slow or science, and the plugin's modules that take long. As many
tests run at a time as there are free cores, or ``--jobs``; beside the engine's tests run the longest modules of
the plugin's, one by one, so that none is waited for at the end.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ENGINE_BIN = ROOT / ".venv" / "engine" / "bin"
SCIPION = ROOT / "bin" / "scipion3"
SCIPION_TESTS = ROOT / "vaegan_scipion" / "tests"
SUITES = ("lint", "engine", "scipion")
TIME_LIMIT_S = 3000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# What takes longest starts first, so that no core waits for it at the end; the others start by name.
LONGEST_FIRST = ("test_workflow_engine", "test_install", "test_gui", "test_protocols")
# Modules of the plugin's tests of ten seconds and more that ``--fast`` leaves out.
SLOW_MODULES = frozenset({
    "test_workflow_engine", "test_gui", "test_install", "test_packaging", "test_rubbish", "test_templates",
    "test_chain", "test_to_relion", "test_running", "test_mistakes", "test_posed",
    "test_posed_viewers", "test_torch_spec"})


class Outcome(NamedTuple):
    """What became of one test."""

    suite: str
    name: str
    outcome: str  # passed, failed, skipped
    reason: str = ""
    seconds: float = 0.0


def run(command: list[str], environment: dict[str, str] | None = None, shown_at_end: bool = False) -> int:
    """Run a command with its output shown, at once or when it has ended; 124 when it takes longer than the limit."""
    words = [str(Path(word).relative_to(ROOT)) if word.startswith(f"{ROOT}{os.sep}") else word for word in command]
    title = "+ " + " ".join(words)
    if not shown_at_end:
        print(title, flush=True)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        streams: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT} if shown_at_end else {}
        try:
            code = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, timeout=TIME_LIMIT_S,
                                  **streams).returncode
        except subprocess.TimeoutExpired:
            code = 124
        if shown_at_end:
            output.seek(0)
            print(f"{title}\n{output.read()}", end="", flush=True)
    if code == 124:
        print(f"stopped after {TIME_LIMIT_S} s", flush=True)
    return code


def checked(suite: str, name: str, command: list[str], environment: dict[str, str] | None = None) -> list[Outcome]:
    """A command that passes when its exit code is 0."""
    started = time.monotonic()
    code = run(command, environment, shown_at_end=True)
    return [Outcome(suite, name, "passed" if code == 0 else "failed", f"exit code {code}" if code else "",
                    time.monotonic() - started)]


def run_lint() -> list[Outcome]:
    """ruff and mypy over the repository."""
    return (checked("lint", "ruff", [str(ENGINE_BIN / "ruff"), "check", "."])
            + checked("lint", "mypy", [str(ENGINE_BIN / "mypy")]))


def read_junit(path: Path, suite: str) -> list[Outcome]:
    """Outcomes in pytest's XML report."""
    outcomes = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        test = re.sub(r"@[\w.]+$", "", case.get("name") or "")  # the group of tests that one worker runs
        name = f"{case.get('classname')}::{test}"
        outcome, reason = "passed", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, reason = "failed", (child.get("message") or "").split("\n")[0]
            elif child.tag == "skipped":
                outcome, reason = "skipped", child.get("message") or ""
        outcomes.append(Outcome(suite, name, outcome, reason, float(case.get("time") or 0)))
    return outcomes


def run_engine(scratch: Path, fast: bool, jobs: int, nice: bool) -> list[Outcome]:
    """pytest in the engine's environment, its tests shared out among ``jobs`` workers.

    nice: let another process have the core that it needs, as what it does takes longer.
    """
    report = scratch / "engine.xml"
    command = [*(["nice", "-n", "5"] if nice else []),
               str(ENGINE_BIN / "python"), "-m", "pytest", "-q", "--durations=8", f"--junitxml={report}"]
    if jobs > 1:
        command += ["-n", str(jobs), "--dist", "loadgroup", "--no-loadscope-reorder"]
    if fast:
        command += ["-m", "not slow and not science"]
    code = run(command, {**ONE_THREAD, "PYTHONNOUSERSITE": "1"}, shown_at_end=True)
    outcomes = read_junit(report, "engine") if report.exists() else []
    if code != 0 and not any(item.outcome == "failed" for item in outcomes):
        outcomes.append(Outcome("engine", "pytest", "failed", f"exit code {code}"))
    return outcomes


def module_outcomes(module: str, scratch: Path) -> list[Outcome]:
    """Outcomes in the records of a module of the plugin's tests."""
    report = scratch / f"{module}.json"
    if not report.exists():
        return [Outcome("scipion", module, "failed", "it ended without results")]
    records = json.loads(report.read_text())
    return [Outcome("scipion", **record) for record in records] or [
        Outcome("scipion", module, "failed", "no test was found")]


def run_scipion(scratch: Path, fast: bool, jobs: int, one_until: Path | None) -> list[Outcome]:
    """The modules of ``vaegan_scipion/tests``, the longest first, ``jobs`` of them at a time.

    one_until: until this file is there one at a time, as the engine's tests keep the cores busy.
    """
    environment = {**ONE_THREAD, "MPLBACKEND": "Agg", "SCIPION_USER_DATA": str(ROOT / ".scipion" / "tests")}
    names = sorted(path.stem for path in SCIPION_TESTS.glob("test_*.py"))
    left_out = [Outcome("scipion", name, "skipped", "slow: a module that --fast leaves out")
                for name in names if fast and name in SLOW_MODULES]
    names = [name for name in names if not (fast and name in SLOW_MODULES)]
    ordered = [name for name in LONGEST_FIRST if name in names] + [name for name in names if name not in LONGEST_FIRST]
    modules = [f"vaegan_scipion.tests.{name}" for name in ordered]
    code = run([str(SCIPION), "python", str(ROOT / "scripts" / "scipion_unittest.py"), str(scratch), *modules,
                "--jobs", str(jobs), *(["--one-until", str(one_until)] if one_until else [])], environment)
    outcomes = [outcome for module in modules for outcome in module_outcomes(module, scratch)]
    if code != 0 and not any(item.outcome == "failed" for item in outcomes):
        outcomes.append(Outcome("scipion", "scipion_unittest.py", "failed", f"exit code {code}"))
    # Scipion's own runner must find and run them too.
    return outcomes + left_out + checked("scipion", "scipion3 tests vaegan_scipion.tests.test_convert",
                              [str(SCIPION), "tests", "vaegan_scipion.tests.test_convert"], environment)


def run_suites(suites: list[str], scratch: Path, fast: bool, jobs: int) -> list[Outcome]:
    """Outcomes of the suites; with several jobs the longest modules of Scipion run beside the engine's tests."""
    side_by_side = jobs > 1 and {"engine", "scipion"} <= set(suites)
    engine_ended = scratch / "engine_ended"

    def engine_and_lint() -> list[Outcome]:
        try:
            outcomes = run_engine(scratch, fast, jobs, side_by_side) if "engine" in suites else []
        finally:
            engine_ended.touch()
        return outcomes + (run_lint() if "lint" in suites else [])

    with ThreadPoolExecutor(2 if side_by_side else 1) as pool:
        parts = [pool.submit(engine_and_lint)]
        if "scipion" in suites:
            parts.append(pool.submit(run_scipion, scratch, fast, jobs, engine_ended if side_by_side else None))
        return [outcome for part in parts for outcome in part.result()]


def free_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow or science")
    parser.add_argument("--jobs", type=int, default=free_cores(), help="tests at a time (default: free cores)")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_suites(args.only, Path(folder), args.fast, args.jobs)
    print_summary(outcomes, time.monotonic() - started)
    return 1 if count(outcomes, "failed") or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
