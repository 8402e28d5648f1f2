"""SIGINT and SIGTERM ask for a stop; the loop ends after the step under way."""
from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..contract.errors import StoppedError
from ..contract.status import record_failure
from .place import is_first


@contextmanager
def stoppable(out_dir: Path) -> Iterator[None]:
    """SIGTERM and SIGINT end what is under way at once, with StoppedError; ``status.json`` says so."""
    caught: list[int] = []

    def stop(number: int, _: Any) -> None:
        caught.append(number)
        if len(caught) == 1:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt as interrupt:
        number = caught[0] if caught else signal.SIGINT
        error = StoppedError(f"Stopped by {signal.Signals(number).name}; the checkpoints are kept.",
                             "Continue with --resume.", int(number))
        if is_first():
            record_failure(out_dir, error)
        raise error from interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying in the middle of a step."""
    caught: list[int] = []
    previous = {number: signal.signal(number, lambda n, _: caught.append(n))
                for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
