"""One of several processes that share small sums: ``shared_sums.py OUT [die|fail]``; the first writes what it got.

They import, as optimisers do, functions of torch that take the group as a default; its threads must end all the same.
"""
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from told_errors import errors_told
from vaegan_engine.contract.errors import DataError
from vaegan_engine.physics import shards
from vaegan_engine.runtime import processes
from vaegan_engine.runtime.place import is_first, place


class Found(NamedTuple):
    sums: torch.Tensor
    several: tuple[np.ndarray, torch.Tensor]


def work(first, end, how=""):
    rng = torch.Generator().manual_seed(first)
    if how == "die" and first >= 8:  # a part of the last process
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail" and first >= 8:
        raise DataError(f"Row {first} is bad.", "Take it out.")
    inside = shards.shared_parts(lambda a, b: torch.arange(a, b), end - first, 1)  # not shared again
    values = torch.randn(end - first, first % 3, generator=rng)
    return Found(torch.complex(values, values).sum(0), (np.arange(first, end), torch.cat(inside).sum()[None]))


def made(how=""):
    """What all processes get."""
    parts = shards.shared_parts(lambda first, end: work(first, end, how), 11, 2)
    few = shards.shared_parts(lambda first, end: torch.full((2, 3), float(first))[:1, 0], 3, 2)  # of stride 3
    one_by_one = shards.shared_parts(lambda first, end: torch.arange(first, end).sum()[None], 9, 2, threads=False)
    own = torch.full((3,), 1.0 + place().number), torch.tensor(5 + place().number)  # other values in every process
    shards.take_of_first(own)
    return {"of_first": torch.cat((own[0], own[1][None])).numpy(),
            "sums": torch.cat([part.sums for part in parts]).numpy(),
            "rows": np.concatenate([part.several[0] for part in parts]),
            "inside": torch.cat([part.several[1] for part in parts]).numpy(),
            "few": torch.cat(few).numpy(), "one_by_one": torch.cat(one_by_one).numpy()}


def main(out, how=""):
    shards.use_threads(1 + int(os.environ.get("RANK", 0)))  # their number does not matter
    with errors_told(), processes.joined(torch.device("cpu")):
        importlib.import_module("torch.distributed.nn.functional")
        values = made(how)
        same = processes.told(repr(values).encode()) == repr(values).encode()
        if is_first() or not same:
            np.savez(out if same else out + "_other", **values)
    left = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    assert not {name for name in left if "gloo" in name or "tcpstore" in name}, left


if __name__ == "__main__":
    main(*sys.argv[1:])
