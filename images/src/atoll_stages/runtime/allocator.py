"""The setting of the C library's allocator that a training is faster with."""

import os
from collections.abc import Mapping

from atoll_contract.stage import Stage

ENV_TUNABLES = "GLIBC_TUNABLES"
# malloc asks the kernel for huge pages (madvise). TensorFlow takes and frees hundreds of megabytes in every step, and
# spends a part of it on page faults.
HUGE_PAGES = "glibc.malloc.hugetlb"
FIRST_VERSION = (2, 35)
_TENSORFLOW = (Stage.TRAIN, Stage.EXPORT)


def with_allocator(stage: Stage, environ: Mapping[str, str], *, libc: str | None = None) -> dict[str, str]:
    """Returns the environment for the child of a stage: with huge pages where that stage runs TensorFlow and the C
    library knows them. A value that the user has set stays. `libc` is as `glibc 2.36`; None: that of this process."""
    tunables = environ.get(ENV_TUNABLES, "")
    version = _glibc_version(_own_libc() if libc is None else libc)
    if stage not in _TENSORFLOW or HUGE_PAGES in tunables or version < FIRST_VERSION:
        return dict(environ)
    return {**environ, ENV_TUNABLES: ":".join(filter(None, (tunables, f"{HUGE_PAGES}=1")))}


def _own_libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""  # another C library: musl, macOS


def _glibc_version(text: str) -> tuple[int, ...]:
    name, _, number = text.partition(" ")
    parts = number.split(".")[:2]
    return tuple(int(part) for part in parts) if name == "glibc" and all(map(str.isdecimal, parts)) else ()
