"""The processes that share a run: which one this is, what the first tells the others, how the loss of one ends all.

Who they are is said by ``place``, where they find each other by MASTER_ADDR and MASTER_PORT. All run the same program
on the same particles; they share the parts of the work that ``shards.shared_parts`` names, so one process alone ends in
the same bits (on a CPU). The first one (RANK 0) alone writes and prints.
"""
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from zlib import crc32

import torch
from torch import Tensor

from ..contract.errors import EXIT_PROCESS_LOST, EngineError, ProcessLostError
from ..physics import memory_limit, shards
from .place import place

T = TypeVar("T")
_LONGEST_WAIT = timedelta(days=2)  # for others: the first may prepare all images meanwhile
_FAILURE = "failure"  # in the store that all processes see: why one of them ended
_FAILURE_SECONDS = 3.0  # that the first waits for it, once another is gone


@dataclass(frozen=True)
class Joined:
    """``shards.Peers`` by ``torch.distributed``: gloo for what lies in memory, NCCL for what lies on GPUs."""

    number: int
    count: int
    store: Any  # torch's, that all processes see

    def gathered(self, values: Tensor, what: str) -> list[Tensor]:
        """``values`` (m,) of every process. Raises ProcessLostError where one is gone or does something else."""
        said = self._all(torch.tensor([crc32(what.encode()), len(values)]))
        if any(int(other[0]) != int(said[0][0]) for other in said):
            raise ProcessLostError(f"The processes are no longer at the same place of the run (this one: {what}).",
                                   "Use machines with the same kind of processor and one version of the engine.")
        lengths = [int(other[1]) for other in said]
        padded = torch.nn.functional.pad(values, (0, max(lengths) - len(values)))
        return [of_one[:n] for of_one, n in zip(self._all(padded), lengths, strict=True)]

    def _all(self, values: Tensor) -> list[Tensor]:
        import torch.distributed as dist

        of_all = [torch.empty_like(values) for _ in range(self.count)]
        try:
            dist.all_gather(of_all, values)
        except RuntimeError as error:
            raise self._loss() from error
        return of_all

    def told(self, values: bytes) -> bytes:
        """What the first process gives."""
        import torch.distributed as dist

        sent = torch.frombuffer(bytearray(values or b"\0"), dtype=torch.uint8)
        length = torch.tensor([len(values)])
        try:
            dist.broadcast(length, 0)
            if self.number:
                sent = torch.empty(max(1, int(length)), dtype=torch.uint8)
            dist.broadcast(sent, 0)
        except RuntimeError as error:
            raise self._loss() from error
        return sent.numpy().tobytes()[:int(length)]

    def _loss(self) -> ProcessLostError:
        """Why another process is gone, as far as it has said."""
        end = time.monotonic() + (0 if self.number else _FAILURE_SECONDS)
        while True:
            try:
                if self.store.check([_FAILURE]):
                    return ProcessLostError(**json.loads(self.store.get(_FAILURE)))
            except RuntimeError:  # the store is gone with the process that held it
                break
            if time.monotonic() >= end:
                break
            time.sleep(0.1)
        return ProcessLostError(f"Another of the {self.count} processes of this run ended before it; the checkpoints "
                                "are kept.", "Look at the memory of its machine, and continue with --resume, with any "
                                "number of processes.")


_joined: Joined | None = None


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Find the other processes, share parts with them, and part when all have come to the end.

    The others than the first print nothing from here on. Alone, nothing is done. Gloo's threads end with the group: one
    that still lets go of a tensor while the interpreter ends would abort the process, after all of its work.
    """
    global _joined
    here = place()
    if here.count == 1:
        yield
        return
    import torch.distributed as dist
    import torch.distributed.nn.functional  # imported later on, its defaults would keep the group for ever

    if here.number:
        sys.stdout = open(os.devnull, "w")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, number, count = next(dist.rendezvous("env://", here.number, here.count, timeout=_LONGEST_WAIT))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", store=store, rank=number,
                            world_size=count, timeout=_LONGEST_WAIT)
    _joined = Joined(number, count, store)
    limit_bytes = torch.tensor([memory_limit.share_bytes(1.0)], dtype=torch.float64)
    memory_limit.use_memory(min(map(float, _joined.gathered(limit_bytes, "memory"))) / memory_limit.GB)
    torch.set_num_threads(-largest(-torch.get_num_threads()))  # the last bits of torch's own sums depend on them
    shards.share_with(_joined)
    try:
        yield
        wait()
    except BaseException:
        if device.type == "cpu":  # NCCL would wait for the others
            dist.destroy_process_group()
        raise
    shards.share_with(None)
    _joined = None
    dist.destroy_process_group()


def told(values: bytes) -> bytes:
    """What the first process gives, for all."""
    return values if _joined is None else _joined.told(values)


def agreed(value: bool) -> bool:
    """What the first process finds, for all."""
    return bool(told(b"\1" if value else b""))


def in_turn(make: Callable[[], T]) -> T:
    """``make()`` by the first process, and then by the others, which find what it has made."""
    if _joined is not None and _joined.number:
        wait()
        return make()
    value = make()
    wait()
    return value


def largest(value: int) -> int:
    """The largest of the numbers that the processes give, for all."""
    return value if _joined is None else max(int(one) for one in _joined.gathered(torch.tensor([value]), "largest"))


def wait() -> None:
    """Until all processes have come here."""
    if _joined is not None:
        _joined.gathered(torch.zeros(1), "wait")


def tell_failure(error: EngineError) -> None:
    """Leave the reason why this process ends, for the first one to say; before they have met it says so itself."""
    if _joined is None:
        print(error, file=sys.stderr)
    elif error.exit_code != EXIT_PROCESS_LOST:
        reason = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        with suppress(RuntimeError):  # the store is gone with the first process
            _joined.store.set(_FAILURE, json.dumps(reason))
