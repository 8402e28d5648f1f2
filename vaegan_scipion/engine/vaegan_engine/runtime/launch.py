"""A command as several processes of this machine, watched to their end: what ``torchrun`` does, in one sentence less.

They find each other through the loopback device: no name is looked up, no network is asked.
"""
from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..contract.errors import EXIT_DONE, ProcessLostError

_LOOPBACK, _LOOPBACK_NAME = "127.0.0.1", "lo0" if sys.platform == "darwin" else "lo"
_LOOK_SECONDS = 0.1
# after so many seconds for the others to notice themselves that one is gone
_ENDINGS = (30.0, signal.SIGTERM), (40.0, signal.SIGKILL)


def run_processes(command: Sequence[str], count: int) -> int:
    """Run a command line as ``count`` processes; returns the exit code of the first one.

    Raises ProcessLostError where the first could not say itself how it ended.
    """
    place = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": _LOOPBACK,
             "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": _LOOPBACK_NAME}
    started = [subprocess.Popen(command, start_new_session=True,
                                env={**os.environ, **place, "RANK": str(number), "LOCAL_RANK": str(number)})
               for number in range(count)]
    with signals_to(started) as passed_on:
        failed = watch(started)
    codes = [one.wait() for one in started]
    if passed_on and codes[0] < EXIT_DONE:  # it was asked to stop, and did not come to say so
        return 128 + passed_on[0]
    if codes[0] >= EXIT_DONE or codes[failed] >= EXIT_DONE:
        return codes[0 if codes[0] >= EXIT_DONE else failed]
    raise ProcessLostError(f"Process {failed + 1} of {count} was ended by {name_of(-codes[failed])}; the checkpoints "
                           "are kept.", "Look at this machine's memory, and continue with --resume, with any number of "
                           "processes.")


def free_port() -> int:
    """A port of the loopback device that nobody listens at."""
    with socket.socket() as one:
        one.bind((_LOOPBACK, 0))
        return int(one.getsockname()[1])


def name_of(number: int) -> str:
    """SIGKILL, ..."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def watch(started: list[subprocess.Popen[bytes]]) -> int:
    """Until all have ended; where one fails the others are ended too, if they do not do so themselves.

    Returns the number of the first that failed, or 0.
    """
    failed, failed_at, asked = 0, math.inf, 0
    codes = [one.poll() for one in started]
    while None in codes:
        time.sleep(_LOOK_SECONDS)
        codes = [one.poll() for one in started]
        if failed_at == math.inf and any(codes):
            failed, failed_at = next(number for number, code in enumerate(codes) if code), time.monotonic()
        if asked < len(_ENDINGS) and time.monotonic() - failed_at > _ENDINGS[asked][0]:
            for one in started:
                one.send_signal(_ENDINGS[asked][1])
            asked += 1
    return failed


@contextmanager
def signals_to(started: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """SIGTERM and SIGINT go on to the processes, once; yields those that came."""
    seen: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if not seen:
            for one in started:
                one.send_signal(number)
        seen.append(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
