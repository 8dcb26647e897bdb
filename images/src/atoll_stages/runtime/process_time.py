"""How long a stage's process would have taken on a machine that does nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

_NANOSECONDS = 1e-9
# The fields of /proc/self/stat behind the command's name, which may hold spaces: the start is the 22nd of all.
_START_FIELD = 22 - 3


def undisturbed_seconds(proc: Path = Path("/proc/self")) -> int | None:
    """Returns the seconds since the process began, less those in which its main thread could have run and had no
    processor; None where the system does not tell. What it waits for the store or a disk counts."""
    try:
        waited = int((proc / "schedstat").read_text(encoding="ascii").split()[1]) * _NANOSECONDS
        fields = (proc / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        began = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
        lasted = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, ValueError, IndexError, AttributeError):
        return None  # another kernel, or another system
    return max(1, round(lasted - waited))
