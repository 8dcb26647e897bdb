"""`images/external.lock`: what no package registry has, by URL and sha256."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "unknown"


class LockError(RuntimeError):
    """The lock does not hold what a build asks for; the message says what to write into it."""


@dataclass(frozen=True)
class ExternalFile:
    """One file and the build argument (`<argument>_URL`, `<argument>_SHA256`) of the image that takes it."""

    name: str
    image: str
    argument: str
    url: str
    sha256: str
    note: str


@dataclass(frozen=True)
class ExternalLock:
    files: dict[str, ExternalFile]

    def require(self, name: str) -> ExternalFile:
        """The file, complete. Raises LockError where its URL or digest is not known: neither is ever guessed."""
        file = self.files.get(name)
        if file is None:
            raise LockError(f"images/external.lock has no {name!r}; it has {', '.join(self.files)}")
        if not file.url.startswith("https://"):
            raise LockError(f"images/external.lock, {name}: the url is {file.url!r}; write it there ({file.note})")
        if not re.fullmatch(r"[0-9a-f]{64}", file.sha256):
            raise LockError(
                f"images/external.lock, {name}: the sha256 is {file.sha256!r}; get the file from a source you trust, "
                f"compute its sha256 and write it there ({file.note})"
            )
        return file


def read_lock(path: Path) -> ExternalLock:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return ExternalLock({name: ExternalFile(name=name, **entry) for name, entry in document.items()})
