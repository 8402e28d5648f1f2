"""What a refinement does, as it does it: on the screen, in ``log.jsonl`` and in ``status.json``."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..contract import result_files
from ..contract.status import update_status
from . import compute
from .place import is_first


class Journal:
    """What happened, in ``log.jsonl``, on the screen and in ``status.json``; of several processes the first tells."""

    def __init__(self, out_dir: Path, resumed: bool) -> None:
        """A new log, or where the refinement is resumed, the old one goes on."""
        self.out_dir, self.began = out_dir, time.time()
        if not is_first():
            return
        if not resumed:
            (out_dir / result_files.LOG_JSONL).unlink(missing_ok=True)
        lines = result_files.read_jsonl(out_dir / result_files.LOG_JSONL)
        self.began -= lines[-1]["seconds"] if lines else 0.0
        update_status(out_dir, error=None, versions=compute.versions())

    def stage(self, name: str, text: str) -> None:
        """A new stage begins."""
        print(f"{name}: {text}", flush=True)
        if is_first():
            update_status(self.out_dir, state="running", stage=name)

    @property
    def seconds(self) -> float:
        """Since the beginning, without the time between a stop and going on."""
        return time.time() - self.began

    def note(self, **values: Any) -> None:
        """One line of ``log.jsonl``."""
        if not is_first():
            return
        seconds = round(self.seconds, 1)
        result_files.append_jsonl(self.out_dir / result_files.LOG_JSONL, {"seconds": seconds, **values})
