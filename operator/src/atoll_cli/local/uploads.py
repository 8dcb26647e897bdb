"""Uploads local files into the store before a run: labelled archives (`--data`) and start weights (`--weights`)."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll_cli.folders import archive_file, did_you_mean, stored_name
from atoll_cli.local.runfile import RunFile
from atoll_contract import keys
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.files import file_sha256
from atoll_contract.store.base import Store

Notify = Callable[[str], None]


def dataset_key(run: RunFile, archive: Path) -> str:
    """The key under which the run reads `archive`, or the tar of that folder: its data set with this file name, or its
    only one.

    Raises:
        SpecError: no data set of the run can be this file.
    """
    name = stored_name(archive)
    wanted = keys.datasets_prefix(run.namespace) + name
    named = [item.key for item in run.spec.datasets if item.object_store in (None, run.spec.object_store)]
    for key in named:
        if key.rsplit("/", 1)[-1] == name:
            return key
        if key.endswith("/") and wanted.startswith(key):
            return wanted
    single = [key for key in named if not key.endswith("/")]
    if len(named) == 1 and single:
        return single[0]
    raise SpecError(
        f"--data {archive}: the run reads {', '.join(named)}, and none of these is a file called {name}; "
        f"write {wanted} into spec.datasets, or rename it"
    )


@dataclass(frozen=True)
class Upload:
    """A file for a key of the store. `is_stored`: the key holds these bytes already."""

    store: Store
    key: str
    file: Path
    sha256: str
    is_stored: bool
    # As the user named it.
    shown: Path

    def put(self, notify: Notify) -> None:
        """Store the file, unless it is there already."""
        if not self.is_stored:
            notify(f"putting {self.shown} into {self.store.url} as {self.key}")
            self.store.upload(self.key, self.file)


@contextmanager
def dataset_upload(run: RunFile, store: Store, archive: Path) -> Iterator[Upload]:
    """The upload of the archive, or of a tar of the folder, to where the run reads it. The tar lasts as long as the
    block.

    Raises:
        DatasetError: DatasetNotFound, there is no such file.
        SpecError: the run does not read it, or reads it from elsewhere than its own store.
    """
    if not archive.exists():
        raise DatasetError(Reason.DATASET_NOT_FOUND, f"--data {archive} does not exist{did_you_mean(str(archive))}")
    key = dataset_key(run, archive)
    if key.startswith("s3://"):
        raise SpecError(f"--data {archive}: {key} is written in full; write it relative to the store's prefix")
    with archive_file(archive) as file:
        yield _upload(store, key, file, shown=archive)


def put_weights(store: Store, file: Path, notify: Notify) -> None:
    """Store start weights under their file name.

    Raises:
        SpecError: WeightsNotFound, there is no such file.
    """
    if not file.is_file():
        raise SpecError(f"--weights {file} is no file", Reason.WEIGHTS_NOT_FOUND)
    _upload(store, keys.weights(file.name), file, shown=file).put(notify)


def _upload(store: Store, key: str, file: Path, *, shown: Path) -> Upload:
    digest = file_sha256(file)
    is_stored = _stored_digest(store, key, file.stat().st_size) == digest
    return Upload(store, key, file, digest, is_stored, shown)


def _stored_digest(store: Store, key: str, size: int) -> str | None:
    """The hex sha256 of the object at `key`; None if there is none of this size."""
    found = store.head(key)
    if found is None or found.size != size:
        return None
    if found.sha256 is not None:
        return found.sha256
    with tempfile.TemporaryDirectory() as folder:
        return store.download(key, Path(folder) / "object").sha256
