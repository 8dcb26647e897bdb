"""Whether a Coral USB accelerator is plugged in, by its USB ids."""

from pathlib import Path

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
