"""Memory of this process and of this machine."""
from __future__ import annotations

from pathlib import Path

GB = 2 ** 30
CGROUP = Path("/sys/fs/cgroup")


def _kilobytes(path: str, name: str) -> int | None:
    """A line ``NAME: N kB`` of a file below /proc; None where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(name + ":")), None)


def resident_gb() -> float:
    """Memory that this process holds; 0 where the system does not say."""
    return (_kilobytes("/proc/self/status", "VmRSS") or 0) * 1024 / GB


def peak_gb() -> float:
    """The most memory that this process has held; 0 where the system does not say."""
    return (_kilobytes("/proc/self/status", "VmHWM") or 0) * 1024 / GB


def _given_back(cgroup: Path) -> int:
    """Bytes of files that a container holds and gives back when programs need them."""
    try:
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def free_gb(otherwise: float = 8.0, cgroup: Path = CGROUP) -> float:
    """Memory of this machine that programs may still take, within the limit of a container; else ``otherwise``."""
    free = _kilobytes("/proc/meminfo", "MemAvailable")
    free_of_machine_gb = otherwise if free is None else free * 1024 / GB
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(free_of_machine_gb, max(0.0, (limit - used + _given_back(cgroup)) / GB))
    except (OSError, ValueError):  # no container, or "max"
        return free_of_machine_gb
