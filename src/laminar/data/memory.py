"""Memory: what a data set would take is refused before it is taken, where the machine has not as much."""

import os
from pathlib import Path

from laminar.refused import Refused


def room_for(size: int, what: str, cure: str) -> None:
    """Refuses ``size`` bytes, those of ``what``, where fewer are available."""
    if size > (most := available()):
        raise Refused(f"{what} would take {size / 2**30:,.1f} GiB of memory, and {most / 2**30:,.1f} GiB are available: {cure}")


def available() -> int:
    """Bytes that can be had without swapping, where the system tells; else all that the machine has."""
    bounds = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        bounds.append(1024 * int(told["MemAvailable"].split()[0]))
        bounds.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))  # of a container, which the line above ignores
    except (OSError, KeyError, ValueError):
        pass
    return min(bounds)
