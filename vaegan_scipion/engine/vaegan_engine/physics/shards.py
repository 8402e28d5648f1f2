"""Work divided in parts that do not depend on who works on them, so that no bit of a result does.

Every part runs on one thread: torch's own threads are for one (``use_threads``), the parts run side by side, on the
threads of this process (``in_parts``) and of others (``shared_parts``). Results come back in the order of the parts,
and sums are made in that order.

Processes that share work all run the same program on the same values: each makes some of the parts, and all get all
of the results. What is not shared every one of them does itself.
"""
from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # scikit-learn brings it
from torch import Tensor

T = TypeVar("T")
_ALIGNED = 64  # bytes: arrays that came from another process lie in memory as new ones do
_here = threading.local()  # ``inside``: this thread is of the pool; ``in_part``: it works on a part
_pool: ThreadPoolExecutor | None = None
_n_threads = 1


class Peers(Protocol):
    """The processes that share the work, as one of them sees them."""

    @property
    def number(self) -> int:
        """Of this process, from 0."""
        ...

    @property
    def count(self) -> int:
        """Of all."""
        ...

    def gathered(self, values: Tensor, what: str) -> list[Tensor]:
        """``values`` (m,) of every process, by their numbers; m may differ. ``what`` must be the same for all."""
        ...


_peers: Peers | None = None


def use_threads(n: int) -> None:
    """Let parts run on ``n`` threads from now on, each with one thread of torch and of numpy's and scipy's BLAS.

    BLAS has as many as there are cores otherwise, which wait for each other in loops: on a busy machine products of
    20,000 x 31 numbers took 15 times as long.
    """
    global _pool, _n_threads
    if _pool is not None:
        _pool.shutdown()
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
    _pool, _n_threads = ThreadPoolExecutor(n, "part", initializer=_begin) if n > 1 else None, n


def n_threads() -> int:
    """Threads that parts run on."""
    return _n_threads


def share_with(peers: Peers | None) -> None:
    """Share parts with other processes from now on, or with none."""
    global _peers
    _peers = peers


def n_processes() -> int:
    """Processes that share the parts; 1 on a thread that works on a part."""
    return 1 if _peers is None or getattr(_here, "in_part", False) else _peers.count


def _begin() -> None:
    _here.inside = _here.in_part = True
    torch.set_num_threads(1)


def in_parts(work: Callable[[int, int], T], n: int, size: int) -> list[T]:
    """``work(first, end)`` of items 0 .. n, ``size`` at a time, in this order; parts of parts run one by one."""
    ends = [(first, min(first + size, n)) for first in range(0, n, size)]
    if _pool is None or len(ends) < 2 or getattr(_here, "inside", False):
        before, _here.in_part = getattr(_here, "in_part", False), True
        try:
            return [work(first, end) for first, end in ends]
        finally:
            _here.in_part = before
    return list(_pool.map(work, *zip(*ends, strict=True)))


def shared_parts(work: Callable[[int, int], T], n: int, size: int, threads: bool = True) -> list[T]:
    """``in_parts``, each process making some of the parts; ``work`` gives tensors, arrays, or tuples of them.

    Every process gets all results, the same bits as one alone would make. On a part of something larger each makes
    all; so it does where there are fewer parts than processes, but of a single part what is inside may be shared.
    Without ``threads`` the parts are made one by one, and what is inside of them may use threads.
    """
    make = in_parts if threads else _one_by_one
    count, n_parts = n_processes(), -(-n // size)
    if n_parts == 1:  # what is inside of it may be shared
        return [work(0, n)]
    if _peers is None or count == 1 or n_parts < count:
        return make(work, n, size)
    at = [number * n_parts // count for number in range(count + 1)]
    first, end = at[_peers.number] * size, min(at[_peers.number + 1] * size, n)
    own = make(lambda start, stop: work(first + start, first + stop), end - first, size)
    what = f"{getattr(work, '__module__', '')}.{getattr(work, '__qualname__', '')} of {n} by {size}"
    return _exchanged(_peers, own, what)


def shared_parts_in_turn(work: Callable[[int, int], T], n: int, size: int) -> Iterator[T]:
    """``shared_parts`` for results that are large: each is given as soon as those before it are made, to be let go.

    Beside it at most twice as many are held as there are threads; of several processes all are.
    """
    if n_processes() > 1:
        yield from shared_parts(work, n, size)
        return
    ends = [(first, min(first + size, n)) for first in range(0, n, size)]
    if _pool is None or len(ends) < 2 or getattr(_here, "inside", False):
        for first, end in ends:
            yield work(first, end)
        return
    under_way: deque[Future[T]] = deque()
    for first, end in ends:
        under_way.append(_pool.submit(work, first, end))
        if len(under_way) > 2 * _n_threads:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def take_of_first(values: Sequence[Tensor]) -> None:
    """Put the first process's values in the place of what every process has computed for itself.

    They differ where a GPU adds in no order or a machine is of another kind, and small differences would grow.
    """
    if _peers is None or n_processes() == 1 or not values:
        return
    first = _peers.gathered(torch.cat([_as_bytes(value.detach()) for value in values]), "values of the first")[0]
    if _peers.number:
        at = 0
        for value in values:
            n_bytes = value.numel() * value.element_size()
            with torch.no_grad():
                value.copy_(first[at:at + n_bytes].view(value.dtype).view(value.shape))
            at += n_bytes + -n_bytes % _ALIGNED


def _one_by_one(work: Callable[[int, int], T], n: int, size: int) -> list[T]:
    """``in_parts`` on this thread, whose parts may use threads; they are not shared again."""
    before, _here.in_part = getattr(_here, "in_part", False), True
    try:
        return [work(first, min(first + size, n)) for first in range(0, n, size)]
    finally:
        _here.in_part = before


def _exchanged(peers: Peers, own: list[T], what: str) -> list[T]:
    """The results of every process, one after the other; all have one structure."""
    leaves = [leaf for result in own for leaf in _leaves(result)]
    shapes = peers.gathered(torch.tensor([side for leaf in leaves for side in leaf.shape], dtype=torch.int64), what)
    device = next((leaf.device for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda), torch.device("cpu"))
    values = peers.gathered(torch.cat([_as_bytes(leaf).to(device) for leaf in leaves]), what)
    results = []
    for number in range(peers.count):
        results += own if number == peers.number else _unpacked(own[0], shapes[number].tolist(), values[number])
    return results


def _leaves(value: Any) -> Iterator[Tensor | np.ndarray]:
    """Tensors and arrays of a tuple of such tuples."""
    if isinstance(value, (Tensor, np.ndarray)):
        yield value
    else:
        for item in value:
            yield from _leaves(item)


def _as_bytes(leaf: Tensor | np.ndarray) -> Tensor:
    """The values as bytes (m,), and as many more as make them begin well in memory one after the other."""
    values = torch.as_tensor(leaf).resolve_conj().contiguous()
    flat = values.as_strided((values.numel(),), (1,)).view(torch.uint8)  # one value keeps another stride
    return torch.nn.functional.pad(flat, (0, -len(flat) % _ALIGNED))


def _unpacked(like: T, shapes: list[int], values: Tensor) -> list[T]:
    """Results of the structure of ``like``, from the shapes and bytes of all their tensors in turn."""
    at_shape = at_byte = 0

    def take(leaf: Tensor | np.ndarray) -> Tensor | np.ndarray:
        nonlocal at_shape, at_byte
        shape, at_shape = shapes[at_shape:at_shape + leaf.ndim], at_shape + leaf.ndim
        kind = torch.as_tensor(leaf[:0] if leaf.ndim else leaf).dtype
        n_bytes = math.prod(shape) * kind.itemsize
        read = values[at_byte:at_byte + n_bytes].view(kind).view(shape)
        at_byte += n_bytes + -n_bytes % _ALIGNED
        return read.to(leaf.device) if isinstance(leaf, Tensor) else read.cpu().numpy()

    results = []
    while at_byte < len(values) or at_shape < len(shapes):
        results.append(cast(T, _like(like, take)))
    return results


def _like(value: Any, take: Callable[[Tensor | np.ndarray], Tensor | np.ndarray]) -> Any:
    """The structure of ``value`` with what ``take`` gives for every leaf."""
    if isinstance(value, (Tensor, np.ndarray)):
        return take(value)
    items = [_like(item, take) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
