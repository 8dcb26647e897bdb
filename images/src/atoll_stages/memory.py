"""Whether the kernel killed a process of this container for memory: the counter of its control group."""

import re
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def oom_kills(*, cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """How many processes of the own control group were killed for memory so far; None where nobody counts."""
    for path in _counters(cgroups, own):
        try:
            text = path.read_text()
        except OSError:
            continue
        match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        if match:
            return int(match[1])
    return None


def _counters(cgroups: Path, own: Path) -> list[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    paths = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2; inside a container the group is "/"
            paths.append(cgroups / group.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            paths.append(cgroups / "memory" / group.lstrip("/") / "memory.oom_control")
            paths.append(cgroups / "memory" / "memory.oom_control")
    return paths
