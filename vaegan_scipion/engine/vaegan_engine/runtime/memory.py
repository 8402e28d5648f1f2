"""Memory of this process and of this machine."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GB = 2 ** 30
CGROUP, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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


class _Names(NamedTuple):
    """Files of a control group that say how much memory it may have and has, and what it gives back when asked."""

    limit: str
    used: str
    given_back: str  # a line of memory.stat: of files that were read


_V2 = _Names("memory.max", "memory.current", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _groups(cgroup: Path, own: Path) -> Iterator[tuple[Path, _Names]]:
    """Folders of the control groups of this process and of those above: of a container, or of a job of a queue.

    ``own`` has lines ``NUMBER:CONTROLLERS:PATH``, of version 2 without controllers. In a container the path may be that
    of the machine, of which ``cgroup`` shows the last part alone.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", "0:memory:/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = cgroup / "memory" if controllers else cgroup
        place = top / path.lstrip("/")
        for folder in [place, *place.parents][:len(place.parts) - len(top.parts) + 1]:
            yield folder, _V1 if controllers else _V2


def _free_bytes(folder: Path, names: _Names) -> int | None:
    """What a control group may still take, with what it gives back; None where nothing limits it."""
    try:
        limit, used = (int((folder / name).read_text()) for name in (names.limit, names.used))
    except (OSError, ValueError):  # no such group, or "max"
        return None
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        lines = []
    return limit - used + sum(int(line.split()[1]) for line in lines if line.startswith(f"{names.given_back} "))


def free_gb(otherwise: float = 8.0, cgroup: Path = CGROUP, own: Path = OWN) -> float:
    """Memory of this machine that programs may still take, within the limits of a container and of a queue's job.

    ``otherwise``: where the system does not say.
    """
    free = _kilobytes("/proc/meminfo", "MemAvailable")
    limits = [left for group in _groups(cgroup, own) if (left := _free_bytes(*group)) is not None]
    return max(0.0, min([otherwise if free is None else free * 1024 / GB, *(left / GB for left in limits)]))
