"""Facts of the machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


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


DEVICES = Path("/sys/bus/usb/devices")
# Before its firmware is loaded it names its chip maker, afterwards Google.
UNINITIALISED = ("1a6e", "089a")
READY = ("18d1", "9302")


def coral_usb_ids(devices: Path = DEVICES) -> list[str]:
    """`vendor:product` of every Coral that the system lists, in either of its two guises."""
    found = []
    for vendor_file in sorted(devices.glob("*/idVendor")):
        try:
            ids = (vendor_file.read_text().strip(), (vendor_file.parent / "idProduct").read_text().strip())
        except OSError:
            continue  # unplugged in this moment
        if ids in (UNINITIALISED, READY):
            found.append(":".join(ids))
    return found


def coral_present() -> bool:
    return bool(coral_usb_ids())
