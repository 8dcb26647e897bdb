"""How many processors a stage may use: those of its affinity, within the limit of its control group."""

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def available_cpus(root: Path = _ROOT) -> float:
    """Returns how many processors this process may use; a container's limit may be a fraction of one."""
    cpus: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _quota(root)
    return cpus if limit is None else min(cpus, max(0.1, limit))


def _quota(root: Path) -> float | None:
    """Returns the processors that the control group (version 2, else 1) allows; None where it sets no limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / file).read_text(encoding="ascii") for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else None
        except (OSError, ValueError, ZeroDivisionError):
            # There is no such group, or its limit is "max".
            continue
    return None
