"""Work divided among threads in parts that do not depend on their number, so that no bit of a result does.

Every part runs on one thread: torch's own threads are for one (``use_threads``), the parts run side by side.
Results come back in the order of the parts, and sums are made in that order.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
_here = threading.local()  # ``inside``: this thread works on a part
_pool: ThreadPoolExecutor | None = None
_n_threads = 1


def use_threads(n: int) -> None:
    """Let parts run on ``n`` threads from now on, each with one thread of torch."""
    global _pool, _n_threads
    if _pool is not None:
        _pool.shutdown()
    torch.set_num_threads(1)
    _pool, _n_threads = ThreadPoolExecutor(n, "part", initializer=_begin) if n > 1 else None, n


def n_threads() -> int:
    """Threads that parts run on."""
    return _n_threads


def _begin() -> None:
    _here.inside = True
    torch.set_num_threads(1)


def in_parts(work: Callable[[int, int], T], n: int, size: int) -> list[T]:
    """``work(first, end)`` of items 0 .. n, ``size`` at a time, in this order; parts of parts run one by one."""
    ends = [(first, min(first + size, n)) for first in range(0, n, size)]
    if _pool is None or len(ends) < 2 or getattr(_here, "inside", False):
        return [work(first, end) for first, end in ends]
    return list(_pool.map(work, *zip(*ends, strict=True)))
