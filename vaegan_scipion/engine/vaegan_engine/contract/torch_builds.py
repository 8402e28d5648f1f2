"""Which build of torch a machine can use: by its NVIDIA driver and its GPUs, as ``nvidia-smi`` tells them.

Standard library only, Python 3.8 syntax: Scipion's installer imports this file without torch. Drivers are those of
NVIDIA's CUDA release notes (any driver of a major version of CUDA runs all its minor versions), GPUs those of
PyTorch's own table of releases (CUDA 13 has no code for GPUs before Turing, 12.6 none for Blackwell).
"""
from __future__ import annotations

import re
import shutil
import subprocess
from typing import List, NamedTuple, Optional, Tuple

PYTORCH_INDEX = "https://download.pytorch.org/whl"
TORCH = "torch==2.13.0"
TORCH_CUDA_128 = "torch==2.11.0"  # the last that is built with CUDA 12.8
ASK = ("nvidia-smi", "--query-gpu=driver_version,compute_cap,name", "--format=csv,noheader")
TIME_LIMIT_S = 30


class Gpus(NamedTuple):
    """What ``nvidia-smi`` says of a machine."""

    driver: int  # its major version
    capabilities: List[float]  # of the GPUs whose compute capability is known
    names: List[str]


class Build(NamedTuple):
    """A build of torch, the drivers and GPUs that it can use, and the disk that the engine's environment then takes."""

    tag: str  # of PyTorch's index
    spec: str  # what pip installs
    cuda: str
    least_driver: int
    least_capability: float
    most_capability: float
    disk_gb: float

    @property
    def pip_words(self) -> str:
        """What pip is given: PyPI's own wheel is the one of CUDA 13."""
        return self.spec if self.tag == "cu130" else f"--index-url {PYTORCH_INDEX}/{self.tag} {self.spec}"


BUILDS = (Build("cu130", TORCH, "13", 580, 7.5, 99.0, 7.0),
          Build("cu126", TORCH, "12.6", 525, 5.0, 9.0, 7.0),
          Build("cu128", TORCH_CUDA_128, "12.8", 570, 7.5, 12.1, 7.5))
CPU = Build("cpu", TORCH, "", 0, 0.0, 0.0, 1.8)


def read_gpus() -> Optional[Gpus]:
    """The GPUs of this machine; None where ``nvidia-smi`` is missing or finds none."""
    if shutil.which(ASK[0]) is None:
        return None
    try:
        asked = subprocess.run(ASK, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True,
                               timeout=TIME_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_gpus(asked.stdout) if asked.returncode == 0 else None


def parse_gpus(text: str) -> Optional[Gpus]:
    """GPUs of the lines "driver, compute capability, name"; None where there is none."""
    rows = [[part.strip() for part in line.split(",", 2)] for line in text.splitlines() if line.count(",") >= 2]
    drivers = [int(row[0].split(".")[0]) for row in rows if re.match(r"\d+", row[0])]
    if not drivers:
        return None
    known = [float(row[1]) for row in rows if re.fullmatch(r"\d+\.\d+", row[1])]
    return Gpus(drivers[0], known, [row[2] for row in rows])


def build_for(gpus: Optional[Gpus]) -> Tuple[Build, str]:
    """The build for a machine, and why in one sentence."""
    if gpus is None:
        return CPU, "nvidia-smi finds no GPU here: torch for CPUs alone."
    seen = f"driver {gpus.driver}, {', '.join(gpus.names)}"
    for build in BUILDS:
        if gpus.driver >= build.least_driver and all(build.least_capability <= c <= build.most_capability
                                                     for c in gpus.capabilities):
            return build, f"{seen}: torch built with CUDA {build.cuda}."
    return CPU, f"{seen}: no build of torch can use it, so torch for CPUs alone. Newer drivers begin at 525."
