"""Device, threads and seeds."""
from __future__ import annotations

import os

import torch

from .. import __version__
from ..contract import torch_builds
from ..contract.errors import ConfigError
from ..contract.settings import ComputeConfig
from ..physics import memory_limit, shards
from .memory import free_gb
from .place import place


def versions() -> dict[str, str]:
    """What a result was made with, for ``status.json`` and the methods paragraph."""
    return {"engine": __version__, "torch": torch.__version__}


def own_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores() -> int:
    """Cores this process may use, less those that are busy now; at least 1."""
    busy = int(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, own_cores() - busy)


def work_in_parts(compute: ComputeConfig) -> None:
    """Let work in parts (``shards``) run on the threads asked for, or on all cores: its threads do not wait for others.

    Each of several processes on this machine has as many threads as are asked for, or its part of the cores. What a
    part computes has the same bits on any number of threads; torch keeps to one thread in all the process.
    """
    shards.use_threads(compute.threads or max(1, own_cores() // place().count_here))


def prepare_device(compute: ComputeConfig) -> torch.device:
    """Choose the device, set the thread count, the limit of memory and full float32 precision.

    Several processes on this machine share its memory, and each has a GPU of its own.
    """
    here = place()
    memory_limit.use_memory((compute.memory_gb or free_gb() / 2) / here.count_here)
    name = compute.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and here.count_here > 1:
        name = f"cuda:{here.number_here}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"compute.device is '{name}', which is no device.",
                          "Use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise unusable(f"compute.device is '{name}', but this process sees {count} GPUs",
                           "use another GPU number, or device cpu")
        try_gpu(device)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = True
    torch.set_num_threads(compute.threads or max(1, free_cores() // here.count_here))
    return device


def try_gpu(device: torch.device) -> None:
    """Run one kernel: a build of torch that has none for this GPU fails here, and not in the middle of a run.

    Raises ConfigError.
    """
    try:
        torch.ones(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError) as error:
        raise unusable(f"The GPU '{device}' cannot be used ({str(error).splitlines()[0]})", "use device cpu") from error


def unusable(what: str, other: str) -> ConfigError:
    """A GPU that cannot be used: the driver, this build of torch, and the one that fits this machine."""
    gpus = torch_builds.read_gpus()
    build, why = torch_builds.build_for(gpus)
    here = f"torch {torch.__version__}, " + (f"CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs alone")
    if gpus is None:
        return ConfigError(f"{what}: {here}; nvidia-smi finds no GPU.",
                           f"On a machine with a GPU and its driver; else {other}.")
    return ConfigError(f"{what}: {here}; {why}",
                       f"Set VAEGAN_TORCH_SPEC='{build.pip_words}' and install the engine's environment again "
                       f"('scipion3 installb vaegan'); else {other}.")


def describe(device: torch.device) -> str:
    """One line for logs: what runs where."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (torch {torch.__version__})"
    return f"CPU, {max(torch.get_num_threads(), shards.n_threads())} threads (torch {torch.__version__})"
