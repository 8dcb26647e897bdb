"""Facts about the machine and its processes."""

import contextlib
import ctypes
import os
import platform
import signal
from pathlib import Path

from atoll_contract import __version__

DEVICES = Path("/sys/bus/usb/devices")
# Vendor and product ids of a Coral: the chip maker's before its firmware is loaded, Google's afterwards.
UNINITIALISED = ("1a6e", "089a")
READY = ("18d1", "9302")
# Larger blocks have their own mapping, which ends when they are freed; an image of 1920×1080 pixels takes half of this.
MAPPED_BYTES = 16 * 2**20
KEPT_BYTES = 32 * 2**20
# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def agent_version() -> str:
    """Returns the tag of the image that runs, or the version of the sources."""
    return os.environ.get("ATOLL_VERSION") or __version__


def is_32_bit() -> bool:
    """Returns whether the system has 32 bits: it runs on a 64-bit Pi, but LiteRT and NetworkTables have no packages."""
    return platform.architecture()[0] == "32bit"


def coral_usb_ids(devices: Path = DEVICES) -> list[str]:
    """Returns `vendor:product` of every Coral that the system lists, before and after its firmware is loaded."""
    found = []
    for vendor_file in sorted(devices.glob("*/idVendor")):
        try:
            ids = (vendor_file.read_text().strip(), (vendor_file.parent / "idProduct").read_text().strip())
        except OSError:
            continue  # unplugged just now
        if ids in (UNINITIALISED, READY):
            found.append(":".join(ids))
    return found


def keep_freed_memory() -> None:
    """Has this process keep memory that it frees, up to KEPT_BYTES, for its next request of it.

    By itself glibc returns the memory of each frame to the system, and the system clears it page by page for the next
    frame: a sixth of the time that a small detector takes.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        adjust = ctypes.CDLL(None).mallopt
        for option, value in ((_M_MMAP_THRESHOLD, MAPPED_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES)):
            adjust(option, value)


def describe_exit(code: int) -> str:
    """Describes a child's return code: `SIGABRT` for -6, `exit code 1` for 1."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
