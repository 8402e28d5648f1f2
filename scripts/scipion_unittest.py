"""Run unittest modules inside Scipion and write what became of every test.

``bin/scipion3 python scripts/scipion_unittest.py RESULTS.json MODULE...``. ``scipion3 tests MODULE`` runs the
same tests, but counts a skipped one as passed and does not say why.
"""
import json
import sys
import time
import unittest
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


def main():
    """Run, write the records, exit with 0 when nothing failed."""
    path, modules = Path(sys.argv[1]), sys.argv[2:]
    suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=RecordingResult)
    path = path.resolve()  # tests change the working folder
    result = runner.run(suite)
    path.write_text(json.dumps(result.records, indent=2) + "\n")
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
