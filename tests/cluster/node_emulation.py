"""Programs of arm64 on a machine of another kind: qemu of Debian 13, known to the kernel while somebody needs it.

Debian 12's qemu 7.2 dies of a segmentation fault as soon as LiteRT opens a model. The newer one is unpacked beside the
cache, never installed. The kernel's list of interpreters is the machine's, so what is changed there is undone.
"""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.node_host import HostError, run, shared_folder

logger = logging.getLogger(__name__)

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = BINFMT / "atoll-aarch64"
# What Debian's own package registers; both at once would leave it to chance which one runs.
OTHER_ENTRY = BINFMT / "qemu-aarch64"
SUITE = "trixie"
PACKAGE = "qemu-user"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DOWNLOAD_DEADLINE_SECONDS = 600
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
    """qemu for AArch64, static, unpacked from Debian 13 once."""
    folder = shared_folder() / f"{PACKAGE}-{SUITE}"
    program = folder / "usr" / "bin" / "qemu-aarch64"
    if not program.exists():
        if shutil.which("apt-get") is None:
            raise HostError(f"arm64 images need qemu >= 10 at {program}, and there is no apt-get to get it with")
        logger.info("fetching %s of Debian %s (once)", PACKAGE, SUITE)
        shutil.rmtree(folder, ignore_errors=True)
        download = folder / "download"
        (download / "lists" / "partial").mkdir(parents=True)
        (download / "sources.list").write_text(
            f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n", encoding="utf-8"
        )
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={download}/sources.list"]
        apt += ["-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={download}/lists"]
        run([*apt, "update"], timeout=DOWNLOAD_DEADLINE_SECONDS)
        # apt-get writes into the working folder.
        run(["env", f"--chdir={download}", *apt, "download", PACKAGE], timeout=DOWNLOAD_DEADLINE_SECONDS)
        package = next(download.glob(f"{PACKAGE}_*.deb"))
        run(["dpkg-deb", "-x", str(package), str(folder / "unpacked")])
        unpacked = folder / "unpacked" / "usr" / "bin" / program.name
        program.parent.mkdir(parents=True)
        shutil.copy2(unpacked, program.with_suffix(".new"))
        program.with_suffix(".new").rename(program)
        for leftover in (download, folder / "unpacked"):
            shutil.rmtree(leftover)
    return program


def _mount() -> bool:
    """Whether the kernel's list had to be mounted."""
    if (BINFMT / "register").exists():
        return False
    run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    return True


def _mirror() -> str:
    """The Debian mirror that this machine's apt uses."""
    listed = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"])
    for line in listed.splitlines():
        origin, codename, address = line.split(" ", 2)
        if origin == "Debian" and "-" not in codename:
            return address
    raise HostError("apt's sources name no Debian mirror, and qemu for arm64 is fetched from one")
