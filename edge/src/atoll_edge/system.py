"""Facts of the machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def agent_version() -> str:
    """Of the image, which has no package's metadata in it, or of the installed package."""
    if told := os.environ.get("ATOLL_VERSION"):
        return told
    try:
        return version("atoll")
    except PackageNotFoundError:
        return "0"


def is_32_bit() -> bool:
    """A 32-bit system on a 64-bit Pi runs, but has no packages for LiteRT or NetworkTables."""
    return platform.architecture()[0] == "32bit"
