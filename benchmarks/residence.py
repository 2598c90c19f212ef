"""Measure the resident memory and the processor time of the processes of a worker."""

from __future__ import annotations

import os
import re
import statistics
import time
from pathlib import Path

__all__ = ["processor_seconds", "resident"]

_PROC = Path("/proc")


def resident(pid: int, *, seconds: float) -> float | None:
    """Return the resident bytes of a process and all its descendants, or None without ``/proc``.

    Args:
        seconds: duration of the measurement. The value is the median of ten readings in this time.
    """
    if not _has_proc():
        return None
    looks = []
    for _ in range(10):
        time.sleep(seconds / 10)
        looks.append(sum(_field(member, "VmRSS") * 1024 for member in _family(pid)))
    return statistics.median(looks)


def processor_seconds(pid: int) -> float | None:
    """Return the processor seconds that a process and all its descendants have used, or None without ``/proc``."""
    if not _has_proc():
        return None
    ticks = 0
    for member in _family(pid):
        # Split after the last parenthesis, because the name in parentheses may contain any character.
        fields = (_PROC / str(member) / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _has_proc() -> bool:
    return (_PROC / "self" / "status").exists()


def _family(pid: int) -> set[int]:
    parents = {int(entry.name): _field(int(entry.name), "PPid") for entry in _PROC.glob("[0-9]*")}
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _field(pid: int, name: str) -> int:
    """Return a number from the status file of a process; 0 when the process has ended."""
    try:
        text = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0
