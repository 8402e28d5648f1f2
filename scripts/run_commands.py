"""Run command lines of the engine one after another in one process, for ``same_bits.py``.

    python scripts/run_commands.py FOLDER < LINES

Each line of the input is run as ``python -m vaegan_engine LINE`` would be (with the engine on PYTHONPATH), so the
imports and compilations are paid once. What line n prints goes to ``FOLDER/NN-COMMAND.txt``; one line of progress
goes to the standard output. Ends with the first exit code that is not 0.
"""
from __future__ import annotations

import contextlib
import runpy
import shlex
import sys
import time
import traceback
from pathlib import Path


def run_line(words: list[str], printed: Path) -> int:
    """One command line; its exit code."""
    sys.argv = ["vaegan", *words]
    with open(printed, "w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            runpy.run_module("vaegan_engine", run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code)
                return 1
            return end.code or 0
        except Exception:
            traceback.print_exc(file=stream)
            return 1
    return 0


def main() -> int:
    """Run every line of the standard input; the exit code of the last that was run."""
    folder, lines = Path(sys.argv[1]), sys.stdin.read().splitlines()
    folder.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate(lines, 1):
        words, began = shlex.split(line), time.process_time()
        printed = folder / f"{number:02d}-{words[0]}.txt"
        code = run_line(words, printed)
        print(f"  {number:2d}/{len(lines)} {time.process_time() - began:5.1f} s  {line}", flush=True)
        if code != 0:
            last = "\n".join(printed.read_text().splitlines()[-12:])
            print(f"exit code {code} of 'vaegan {line}'\n{last}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
