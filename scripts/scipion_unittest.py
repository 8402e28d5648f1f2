"""Run unittest modules inside Scipion, side by side, and write what became of every test.

``bin/scipion3 python scripts/scipion_unittest.py FOLDER --jobs 2 MODULE...`` leaves ``FOLDER/MODULE.json``. Each module
runs in a fork of this process, so that Scipion and its plugins are loaded once; its output is shown when it has
ended. ``scipion3 tests MODULE`` runs the same tests, but counts a skipped one as passed and does not say why.
"""
import argparse
import json
import multiprocessing
import os
import sys
import time
import unittest
from multiprocessing.connection import wait
from pathlib import Path


class RecordingResult(unittest.TextTestResult):
    """One record per test: name, outcome, reason, seconds."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.records = []
        self.started = time.monotonic()

    def startTest(self, test):
        """Note the time."""
        super().startTest(test)
        self.started = time.monotonic()

    def record(self, test, outcome, reason=""):
        """Keep one outcome."""
        self.records.append({"name": test.id(), "outcome": outcome, "reason": reason,
                             "seconds": time.monotonic() - self.started})

    def addSuccess(self, test):
        """A passed test."""
        super().addSuccess(test)
        self.record(test, "passed")

    def addFailure(self, test, err):
        """An assertion that does not hold."""
        super().addFailure(test, err)
        self.record(test, "failed", str(err[1]))

    def addError(self, test, err):
        """An exception, in a test or in setUpClass."""
        super().addError(test, err)
        self.record(test, "failed", repr(err[1]))

    def addSubTest(self, test, subtest, err):
        """A failed part of a test."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.record(subtest, "failed", str(err[1]))

    def addSkip(self, test, reason):
        """A skipped test."""
        super().addSkip(test, reason)
        self.record(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        """An expected failure did fail."""
        super().addExpectedFailure(test, err)
        self.record(test, "passed")

    def addUnexpectedSuccess(self, test):
        """An expected failure passed: the mark is out of date."""
        super().addUnexpectedSuccess(test)
        self.record(test, "failed", "passed although marked as an expected failure")


def load_scipion():
    """What every module would load again."""
    from pyworkflow.config import Config

    import vaegan_scipion.viewers  # noqa: F401
    domain = Config.getDomain()
    domain.getPlugins()
    domain.getProtocols()


def run_module(module, folder):
    """Run one module and write its records; for a process of its own."""
    output = os.open(str(folder / f"{module}.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=RecordingResult).run(suite)
    (folder / f"{module}.json").write_text(json.dumps(result.records, indent=2) + "\n")
    sys.exit(0 if result.wasSuccessful() else 1)


def show(module, folder, process, seconds):
    """Print what a module printed."""
    path = folder / f"{module}.txt"
    text = path.read_text(errors="replace") if path.exists() else ""
    print(f"---------------- {module}, exit code {process.exitcode}, {seconds:.0f} s\n{text}", flush=True)


def main():
    """Run all modules, begun in the order given; exit with 0 when nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--jobs", type=int, default=1, help="modules at a time")
    parser.add_argument("--one-until", type=Path, help="one module at a time until this file is there")
    args = parser.parse_args()
    folder, waiting = args.folder.resolve(), list(args.modules)
    folder.mkdir(parents=True, exist_ok=True)
    load_scipion()
    fork = multiprocessing.get_context("fork")
    running, codes = {}, []
    while waiting or running:
        is_free = args.one_until is None or args.one_until.exists()
        while waiting and len(running) < (args.jobs if is_free else 1):
            module = waiting.pop(0)
            process = fork.Process(target=run_module, args=(module, folder))
            process.start()
            running[process.sentinel] = module, process, time.monotonic()
        for sentinel in wait(list(running), timeout=None if is_free else 1.0):
            module, process, started = running.pop(sentinel)
            process.join()
            codes.append(process.exitcode)
            show(module, folder, process, time.monotonic() - started)
    sys.exit(1 if any(codes) else 0)


if __name__ == "__main__":
    main()
