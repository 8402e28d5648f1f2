"""Device, threads and seeds."""
from __future__ import annotations

import os

import torch

from ..contract.errors import ConfigError
from ..contract.settings import ComputeConfig
from ..physics import shards


def own_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """Cores this process may use, less those that are busy now; at least 1."""
    busy = int(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, own_cores() - busy)


def work_in_parts(compute: ComputeConfig) -> None:
    """Let work in parts (``shards``) run on the threads asked for, or on all cores: its threads do not wait for others.

    What a part computes has the same bits on any number of threads; torch keeps to one thread in all the process.
    """
    shards.use_threads(compute.threads or own_cores())


def prepare_device(compute: ComputeConfig) -> torch.device:
    """Choose the device, set the thread count and full float32 precision."""
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"compute.device is '{name}', which is no device.",
                          "Use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(f"compute.device is '{name}', but this process sees {count} GPUs.",
                              "Use another GPU number, or device cpu.")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = True
    torch.set_num_threads(compute.threads or free_cores())
    return device


def describe(device: torch.device) -> str:
    """One line for logs: what runs where."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (torch {torch.__version__})"
    return f"CPU, {max(torch.get_num_threads(), shards.n_threads())} threads (torch {torch.__version__})"
