"""Which accelerators a device has, by its USB list, its device files and the name of its processor, and whether what
each needs is installed."""

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from atoll_edge.detector.backends.base import INSTALL, NAMES, Backend
from atoll_edge.system import coral_usb_ids

RKNN_CHIPS = ("rk3588", "rk3576", "rk3568", "rk3566", "rk3562")
# The module and the SoC of the same chip.
QNN_CHIPS = ("qcs6490", "qcm6490")
RKNN_LIBRARY = "librknnrt.so"
QNN_LIBRARY = "libQnnTFLiteDelegate.so"
_COMPATIBLE = re.compile(r"(?:rockchip|qcom),([a-z]+[0-9]{4})s?")
_LIBRARY_FOLDERS = ("usr/lib", "usr/local/lib", "usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu")


@dataclass(frozen=True)
class Accelerator:
    """An accelerator that the device has. `missing` says what to install before it can be used; None if nothing."""

    backend: Backend
    chip: str | None = None
    missing: str | None = None

    @property
    def name(self) -> str:
        return NAMES[self.backend] + (f" ({self.chip})" if self.chip else "")


def soc_chip(root: Path = Path("/")) -> str | None:
    """Returns the processor's name, as the compile targets know it; None where it has no NPU that Atoll knows."""
    try:
        listed = (root / "proc/device-tree/compatible").read_bytes().decode("ascii", "replace").split("\0")
    except OSError:
        return None
    chips = (named[1] for text in listed if (named := _COMPATIBLE.fullmatch(text)))
    return next((chip for chip in chips if chip in (*RKNN_CHIPS, *QNN_CHIPS)), None)


def coral_devices(root: Path = Path("/")) -> list[str]:
    """Returns the Corals on USB, by their ids, and those on PCI Express, by their device files."""
    return coral_usb_ids(root / "sys/bus/usb/devices") + [f"/dev/{path.name}" for path in (root / "dev").glob("apex_*")]


def found_accelerators(root: Path = Path("/"), *, coral: int = 0) -> tuple[Accelerator, ...]:
    """Returns the accelerators, the preferred one first: a Coral was plugged in to be used. `coral` is the number of
    the one that counts, from 0: a process has a Coral alone."""
    found = []
    if len(coral_devices(root)) > coral:
        found.append(_accelerator(Backend.EDGETPU, None, installed=_has_package("pycoral")))
    chip = soc_chip(root)
    if chip in RKNN_CHIPS:
        installed = _has_package("rknnlite") and _has_library(RKNN_LIBRARY, root)
        found.append(_accelerator(Backend.RKNN, chip, installed=installed))
    elif chip in QNN_CHIPS:
        found.append(_accelerator(Backend.QNN, chip, installed=_has_library(QNN_LIBRARY, root)))
    return tuple(found)


def _accelerator(backend: Backend, chip: str | None, *, installed: bool) -> Accelerator:
    return Accelerator(backend, chip, None if installed else INSTALL[backend])


def _has_package(name: str) -> bool:
    """Whether a worker could import a package, which is not imported here."""
    return importlib.util.find_spec(name) is not None


def _has_library(name: str, root: Path) -> bool:
    """Whether the system's loader would find a library."""
    try:
        if name.encode() in (root / "etc/ld.so.cache").read_bytes():
            return True
    except OSError:
        pass  # a system without a cache
    named = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    return any((folder / name).exists() for folder in (*named, *(root / item for item in _LIBRARY_FOLDERS)))
