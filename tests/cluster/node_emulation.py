"""Programs of arm64 on a machine of another kind: qemu of Debian 13, known to the kernel while somebody needs it.

Debian 12's qemu 7.2 dies of a segmentation fault as soon as LiteRT opens a model. The newer one is unpacked beside the
cache, never installed. The kernel's list of interpreters is the machine's, so what is changed there is undone.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.newer_debian import unpacked
from cluster.node_host import run

logger = logging.getLogger(__name__)

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = BINFMT / "atoll-aarch64"
# What Debian's own package registers; both at once would leave it to chance which one runs.
OTHER_ENTRY = BINFMT / "qemu-aarch64"
# The first 20 bytes of a 64-bit little-endian ELF file for AArch64, as the kernel's documentation of binfmt_misc asks
# for them; the masked byte is the system's ABI, the masked bit tells programs from shared objects.
_MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def is_native() -> bool:
    """Whether this machine runs arm64 itself."""
    return platform.machine() in ("aarch64", "arm64")


@contextmanager
def emulated() -> Iterator[None]:
    """arm64 programs run, in every container too, until the block ends. Needs root; the first time downloads qemu."""
    if is_native():
        yield
        return
    interpreter = ensure_interpreter()
    mounted = _mount()
    other = OTHER_ENTRY.exists() and OTHER_ENTRY.read_text(encoding="utf-8").startswith("enabled")
    unregister()
    if other:
        OTHER_ENTRY.write_text("0", encoding="utf-8")
    # P keeps the program's own name, F opens the interpreter now, so that no container has to hold it.
    (BINFMT / "register").write_bytes(
        b":%s:M::%s:%s:%s:PF" % (ENTRY.name.encode(), _MAGIC, _MASK, str(interpreter).encode())
    )
    logger.info("arm64 programs run under %s", interpreter)
    try:
        yield
    finally:
        unregister()
        if other:
            OTHER_ENTRY.write_text("1", encoding="utf-8")
        if mounted:
            run(["umount", "--lazy", str(BINFMT)], quiet=True)


def unregister() -> None:
    """Takes the kernel's entry away, also that of a run that crashed; what runs under it goes on."""
    if ENTRY.exists():
        ENTRY.write_text("-1", encoding="utf-8")


def ensure_interpreter() -> Path:
    """qemu for AArch64, static, of Debian 13."""
    return unpacked("qemu-user") / "usr" / "bin" / "qemu-aarch64"


def _mount() -> bool:
    """Whether the kernel's list had to be mounted."""
    if (BINFMT / "register").exists():
        return False
    run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    return True
