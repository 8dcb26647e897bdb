"""The archives of the page: streams uploads to the disk within bounds, inspects and stores them."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from atoll_cli.pages import with_links
from atoll_cli.tool import lint_archives
from atoll_cli.ui.galleries import Galleries
from atoll_cli.ui.tasks import JsonObject, Notify
from atoll_contract import keys
from atoll_contract.document import to_dict
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.store.base import ObjectInfo, Store
from atoll_contract.tool_reports import LintReport

MAX_BYTES = 50 * 2**30
# The space that an upload leaves free on the disk, for the run.
SPARE_BYTES = 2**30
MAX_LISTED = 200
_BLOCK = 1 << 20
_NAME = re.compile(r"\w[\w. ()+-]{0,127}")
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


class Readable(Protocol):
    """The body of a request."""

    def read(self, size: int, /) -> bytes: ...


def archive_name(given: str) -> str:
    """Return `given` if it is a plain file name of an archive.

    Raises:
        SpecError: it has a path or unusual characters, or is not an archive's.
    """
    if not _NAME.fullmatch(given):
        raise SpecError(f"the file is called {given[:80]!r}; call it by letters, digits, dots, dashes and blanks")
    if not given.lower().endswith(_SUFFIXES):
        raise SpecError(f"{given} is no archive; export a .tar, .tar.gz or .zip from the labelling tool")
    return given


def receive_upload(stream: Readable, length: int, folder: Path, name: str) -> Path:
    """Write `length` bytes of the stream to a file of that name in a new folder below `folder`; `remove_upload` removes
    both.

    Raises:
        DatasetError: DatasetTooLarge.
        SpecError: the disk has no room, or the connection was closed.
    """
    if length > MAX_BYTES:
        raise DatasetError(
            Reason.DATASET_TOO_LARGE, f"the archive has {length / 2**30:.1f} GiB; the page takes {MAX_BYTES // 2**30}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    # The store makes a copy; for a moment both exist.
    if 2 * length + SPARE_BYTES > free:
        raise SpecError(
            f"the archive has {length / 2**20:.0f} MiB and the disk of {folder} {free / 2**20:.0f} MiB free; "
            f"twice its size and {SPARE_BYTES // 2**20} MiB are needed",
            Reason.EPHEMERAL_STORAGE_EXCEEDED,
        )
    path = Path(tempfile.mkdtemp(dir=folder, prefix="upload-")) / name
    try:
        with path.open("xb") as target:
            _copy(stream, target, length)
    except BaseException:
        remove_upload(path)
        raise
    return path


def remove_upload(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)


def _copy(stream: Readable, target: IO[bytes], length: int) -> None:
    left = length
    while left:
        block = stream.read(min(_BLOCK, left))
        if not block:
            raise SpecError(f"the browser went away {left} bytes before the end; drop the file once more")
        target.write(block)
        left -= len(block)


@dataclass(frozen=True)
class Workspace:
    """The folder of the local engine, which is also the store, and the namespace that the page shows."""

    folder: Path
    store: Store
    namespace: str

    @property
    def ui_folder(self) -> Path:
        """The page's own files, beside those of the engine."""
        return self.folder / ".atoll" / "ui"


class Archives:
    """The archives in the store, and what was found in those that were inspected."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._galleries = Galleries(workspace.ui_folder / "galleries")

    def summaries(self) -> list[dict[str, Any]]:
        """The archives of the namespace, with the lint report of those that were inspected."""
        prefix = keys.datasets_prefix(self._workspace.namespace)
        found = []
        for info in self._workspace.store.list(prefix):
            report = self._galleries.report(info)
            item = {"name": info.key.removeprefix(prefix), "bytes": info.size}
            found.append({**item, "lint": lint_document(report)} if report else item)
            if len(found) == MAX_LISTED:
                break
        return found

    def add(self, name: str, path: Path, notify: Notify) -> JsonObject:
        """Inspect an upload and put it into the store; remove `path`.

        Raises:
            DatasetError: a run would refuse it, so it is not kept.
        """
        key = keys.dataset(self._workspace.namespace, name)
        try:
            notify(f"looking into {name}")
            folder = self._galleries.new_folder()
            try:
                report = _require_usable(lint_archives([path], gallery=folder), name)
                notify(f"putting {name} into the store")
                self._workspace.store.upload(key, path)
                self._galleries.keep(folder, report, self._info(name))
            finally:
                self._galleries.discard(folder)
        finally:
            remove_upload(path)
        return {"name": name, "lint": lint_document(report)}

    def inspect(self, names: Sequence[str], notify: Notify) -> LintReport:
        """The lint report of these archives as one data set.

        Raises:
            DatasetError: an archive is not in the store, or a run would refuse them.
            SpecError: no archive is named.
        """
        if not names:
            raise SpecError("choose an archive first")
        found = [self._info(name) for name in names]
        known = self._galleries.report(found[0]) if len(found) == 1 else None
        if known is not None:
            return known
        notify(f"looking into {', '.join(names)}")
        # The store is a folder, and a run reads the same files.
        paths = [self._workspace.folder / info.key for info in found]
        if len(found) > 1:
            return _require_usable(lint_archives(paths), ", ".join(names))
        folder = self._galleries.new_folder()
        try:
            report = _require_usable(lint_archives(paths, gallery=folder), names[0])
            self._galleries.keep(folder, report, found[0])
        finally:
            self._galleries.discard(folder)
        return report

    def images(self, name: str, label: str, start: int) -> JsonObject:
        """Some images of an archive that was inspected, with their boxes.

        Raises:
            DatasetError: it is not in the store.
            SpecError: it was not inspected.
        """
        return self._galleries.images(self._info(name), label, start)

    def _info(self, name: str) -> ObjectInfo:
        info = self._workspace.store.head(keys.dataset(self._workspace.namespace, name))
        if info is None:
            raise DatasetError(Reason.DATASET_NOT_FOUND, f"there is no {name} in the store any more")
        return info


def _require_usable(report: LintReport, name: str) -> LintReport:
    if not report.ok:
        raise DatasetError(Reason(report.reason), report.fault_of(name))
    return report


def lint_document(report: LintReport) -> dict[str, Any]:
    """The report without paths of this machine and without the long list of problems."""
    document: dict[str, Any] = to_dict(report)
    document["warnings"] = [with_links(text) for text in report.warnings]
    return {name: value for name, value in document.items() if name not in ("path", "problems", "ok", "reason")}
