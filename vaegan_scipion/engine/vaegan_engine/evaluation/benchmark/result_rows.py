"""Rows of measured results: one JSON file for each run, never edited afterwards; the results pages are made from them.

A row says what was run (task, command, seed, commit, settings), where (machine, threads, what else ran) and what came
out (figures). ``scripts/results_pages.py`` turns a folder of rows into the tables of ``docs/results``.
"""
from __future__ import annotations

import datetime
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...contract import result_files

Figure = float | int | str | None


@dataclass(frozen=True)
class ResultRow:
    """One run."""

    task: str
    figures: dict[str, Figure]  # name with unit -> value
    command: str
    seed: int
    commit: str = ""
    machine: str = ""
    threads: int = 0
    beside: str = ""  # what else ran on the machine; "" = nothing known
    date: str = ""  # ISO
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def name(self) -> str:
        """File name: the task, the seed, the day and the commit tell rows apart."""
        return f"{self.task}-seed{self.seed}-{self.date[:10]}-{self.commit[:8] or 'uncommitted'}.json"


def measured(task: str, figures: dict[str, Figure], command: str, seed: int, **more: Any) -> ResultRow:
    """A row of this moment, machine and commit."""
    return ResultRow(task, figures, command, seed, commit=commit_of(Path(__file__).parent), machine=machine(),
                     date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), **more)


def write_row(row: ResultRow, folder: Path) -> Path:
    """Write a row to a file of its own; one that is there is never overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    path, again = folder / row.name(), 1
    while path.exists():
        again += 1
        path = folder / row.name().replace(".json", f"-{again}.json")
    result_files.write_json(path, asdict(row))
    return path


def read_rows(folder: Path) -> list[ResultRow]:
    """All rows of a folder, by task, seed and date. Raises DataError for a file that is none."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            rows.append(ResultRow(**result_files.read_json(path)))
        except TypeError as error:
            from ...contract.errors import DataError
            raise DataError(f"{path}: it is no row of results ({error}).", "Remove it, or write it anew.") from error
    return sorted(rows, key=lambda row: (row.task, row.seed, row.date))


def machine() -> str:
    """Processor, number of its cores in use, system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def commit_of(folder: Path) -> str:
    """Commit of the checkout that holds ``folder``, with ``+`` where files were changed; "" outside a checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=folder,
                                 capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip()[:12] + ("+" if changed.stdout.strip() else "")
