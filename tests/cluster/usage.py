"""What a running process has used so far, as Linux counts it."""

from __future__ import annotations

import os
import re
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and its threads, of user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    # `fields` begins with the 3rd field; utime and stime are the 14th and 15th.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mebibytes(pid: int) -> float:
    """The most memory that was ever resident."""
    return _mebibytes(pid, "VmHWM")


def mebibytes(pid: int) -> float:
    """The memory that is resident now."""
    return _mebibytes(pid, "VmRSS")


def _mebibytes(pid: int, field: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None, f"/proc/{pid}/status has no {field}"
    return int(found[1]) / 1024
