"""Errors that a user can mend, each with its exit code, one sentence and a remedy.

Standard library only, Python 3.8 syntax: Scipion imports this file.
"""
from __future__ import annotations

EXIT_DONE = 0
EXIT_CONFIG = 2
EXIT_DATA = 3
EXIT_DIVERGED = 4
EXIT_OUT_OF_MEMORY = 5
EXIT_PROCESS_LOST = 6
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class EngineError(Exception):
    """A stop with a message (what, where, value, limit) and a hint (what to do)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class ConfigError(EngineError):
    """A setting that cannot be run."""

    exit_code = EXIT_CONFIG


class DataError(EngineError):
    """Input files that cannot be used."""

    exit_code = EXIT_DATA


class DivergedError(EngineError):
    """A loss that is not finite; the last good checkpoint is kept."""

    exit_code = EXIT_DIVERGED


class OutOfMemoryError(EngineError):
    """The device ran out of memory."""

    exit_code = EXIT_OUT_OF_MEMORY


class ProcessLostError(EngineError):
    """One of several processes of a run ended before it; the exit code is its own where it could say why."""

    def __init__(self, message: str, hint: str = "", exit_code: int = EXIT_PROCESS_LOST) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


class StoppedError(EngineError):
    """A stop asked for by a signal, after a checkpoint."""

    def __init__(self, message: str, hint: str, signal_number: int) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number
