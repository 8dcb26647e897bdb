"""An archive that is dropped on the page: streamed to the disk, never held in memory, within bounds."""

import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from atoll_cli.draft.archives import stopwatch_for
from atoll_cli.draft.draft import Draft, drafted
from atoll_cli.draft.settings import Settings
from atoll_cli.draft.targets import local_place
from atoll_cli.tool import inspected
from atoll_cli.ui.tasks import Document, Told
from atoll_contract import keys
from atoll_contract.document import to_dict
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.store.base import Store
from atoll_contract.tool_reports import LintReport, Timing

MAX_BYTES = 50 * 2**30
# What is left free on the disk: a run needs some for itself.
SPARED_BYTES = 2**30
_PIECE = 1 << 20
_NAME = re.compile(r"\w[\w. ()+-]{0,127}")
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


class Readable(Protocol):
    """What a request's body can be read from."""

    def read(self, size: int, /) -> bytes: ...


def archive_name(given: str) -> str:
    """The file name for the store: the user's, where it is a plain one.

    Raises:
        SpecError: it names a place, or is no archive's.
    """
    if not _NAME.fullmatch(given):
        raise SpecError(f"the file is called {given[:80]!r}; call it by letters, digits, dots, dashes and blanks")
    if not given.lower().endswith(_SUFFIXES):
        raise SpecError(f"{given} is no archive; export a .tar, .tar.gz or .zip from the labelling tool")
    return given


def received(stream: Readable, length: int, folder: Path, name: str) -> Path:
    """`length` bytes of the stream as a file of that name in a new folder below `folder`; `dropped` removes both.

    Raises:
        DatasetError: DatasetTooLarge. SpecError: the disk has no room, or the browser went away.
    """
    if length > MAX_BYTES:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE, f"the archive has {length / 2**30:.1f} GiB; the page takes {MAX_BYTES // 2**30}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    # The store keeps a copy of its own, for a moment beside this one.
    if 2 * length + SPARED_BYTES > free:
        raise SpecError(
            f"the archive has {length / 2**20:.0f} MiB and the disk of {folder} {free / 2**20:.0f} MiB free; "
            f"twice its size and {SPARED_BYTES // 2**20} MiB are needed",
            Reason.EPHEMERAL_STORAGE_EXCEEDED,
        )
    path = Path(tempfile.mkdtemp(dir=folder, prefix="upload-")) / name
    try:
        with path.open("xb") as target:
            _copy(stream, target, length)
    except BaseException:
        dropped(path)
        raise
    return path


def dropped(path: Path) -> None:
    """Remove an upload and the folder that was made for it."""
    shutil.rmtree(path.parent, ignore_errors=True)


def _copy(stream: Readable, target: IO[bytes], length: int) -> None:
    left = length
    while left:
        piece = stream.read(min(_PIECE, left))
        if not piece:
            raise SpecError(f"the browser went away {left} bytes before the end; drop the file once more")
        target.write(piece)
        left -= len(piece)


MOST_LISTED = 200
BUSY = "a training is at work on this machine, which would be timed along with it"


@dataclass(frozen=True)
class Yard:
    """The folder of the local engine, which is the store too, and the namespace in it."""

    folder: Path
    store: Store
    namespace: str

    @property
    def own(self) -> Path:
        """The page's own files, beside the engine's."""
        return self.folder / ".atoll" / "ui"


class Archives:
    """What was looked into is kept until the program ends, and the timings with it."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._lock = threading.Lock()
        self._looks: dict[str, LintReport] = {}
        self._timings: dict[tuple[str, str], Timing] = {}

    def listed(self) -> list[dict[str, Any]]:
        """Every archive of the namespace, with what is known of it."""
        prefix = keys.datasets_prefix(self._yard.namespace)
        found = []
        for info in self._yard.store.list(prefix):
            look = self._looks.get(info.key)
            item = {"name": info.key.removeprefix(prefix), "bytes": info.size}
            found.append({**item, "look": _shown(look)} if look else item)
            if len(found) == MOST_LISTED:
                break
        return found

    def take(self, name: str, path: Path, told: Told) -> Document:
        """Look into an upload and put it into the store; `path` is gone afterwards.

        Raises:
            DatasetError: a run would refuse it, so it is not kept.
        """
        try:
            told(f"looking into {name}")
            look = _usable(inspected([path]), name)
            key = keys.dataset(self._yard.namespace, name)
            told(f"putting {name} into the store")
            self._yard.store.upload(key, path)
        finally:
            dropped(path)
        with self._lock:
            self._looks[key] = look
        return {"name": name, "look": _shown(look)}

    def look(self, names: Sequence[str], told: Told) -> LintReport:
        """What a run would make of these archives, taken together.

        Raises:
            DatasetError: one is not in the store, or a run would refuse them.
        """
        if not names:
            raise SpecError("choose an archive first")
        wanted = [keys.dataset(self._yard.namespace, name) for name in names]
        known = self._looks.get(wanted[0]) if len(wanted) == 1 else None
        if known is not None:
            return known
        told(f"looking into {', '.join(names)}")
        # The store is a folder: a run reads the same file.
        paths = [self._path(key, name) for key, name in zip(wanted, names, strict=True)]
        look = _usable(inspected(paths), ", ".join(names))
        if len(wanted) == 1:
            with self._lock:
                self._looks[wanted[0]] = look
        return look

    def draft(self, names: Sequence[str], release: str | None, *, busy: bool, told: Told) -> Document:
        """A run.yaml for these archives; `busy` machines are not timed."""
        look = self.look(names, told)
        place = local_place(self._yard.folder, self._yard.store, self._yard.namespace, release=release)

        def stopwatch(on_cpu: Settings, on_gpu: Settings) -> Timing:
            known = self._timings.get((on_cpu.timed_as, on_gpu.timed_as))
            if known is None and busy:
                raise SpecError(BUSY)
            told("timing a few training steps on this machine")
            timing = known or stopwatch_for(look)(on_cpu, on_gpu)
            self._timings[on_cpu.timed_as, on_gpu.timed_as] = timing
            return timing

        wanted = [keys.dataset(self._yard.namespace, name) for name in names]
        return {**_document(drafted(look, wanted, place, stopwatch=stopwatch)), "look": _shown(look)}

    def _path(self, key: str, name: str) -> Path:
        if self._yard.store.head(key) is None:
            raise DatasetError(Reason.DATASET_NOT_FOUND, f"there is no {name} in the store any more")
        return self._yard.folder / key


def _usable(look: LintReport, name: str) -> LintReport:
    if not look.ok:
        raise DatasetError(Reason(look.reason), look.fault_of(name))
    return look


def _document(draft: Draft) -> dict[str, Any]:
    document: dict[str, Any] = {"text": draft.text, "run": draft.run, "basis": draft.basis}
    return {**document, "seconds": draft.seconds} if draft.seconds is not None else document


def _shown(look: LintReport) -> dict[str, Any]:
    """The look without the paths of this machine and without the long list of problems."""
    shown: dict[str, Any] = to_dict(look)
    return {name: value for name, value in shown.items() if name not in ("path", "problems", "ok", "reason")}
