"""The device's folder of releases: content-addressed, and consistent after a power cut at any moment.

    blobs/sha256/<hex>             a file of some release; written once, read-only
    releases/<hex>/manifest.json   the manifest's own bytes; <hex> is their sha256
    state.json                     `DeviceState`, replaced as a whole
    tmp/                           unfinished work, emptied at every start

A release's blobs are synced before its manifest is written, and that before `state.json` names it. One agent holds
`agent.lock` while it runs (k3s and systemd share the folder); `state.lock` is held for one change.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.files import file_lock, file_sha256, sync_folder, written_whole
from atoll_contract.release import Manifest, Role
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.card_reads import ReleaseDamaged, read_again
from atoll_edge.models.release_files import chip_file, known_widths, needed_files
from atoll_edge.models.release_state import DeviceState

logger = logging.getLogger(__name__)


class StoreLocked(RuntimeError):
    """Another agent holds the folder."""


class ReleaseStore:
    """The folder `root`, which is created when it is first written to. `chip` is the device's, for compiled files."""

    def __init__(self, root: Path, *, chip: str | None = None) -> None:
        self.root = root
        self.chip = chip
        self.temporary = root / "tmp"
        # The open file that carries the agent's lock.
        self._lock: int | None = None
        # The state that `_newest` found in place of an unreadable file, until `change` writes one.
        self._recovered: DeviceState | None = None

    def lock(self) -> None:
        """Takes the agent's lock, until `unlock` or the end of the process, and clears `tmp/`.

        Raises:
            StoreLocked: another agent has it.
        """
        file = self._open_lock()
        if file is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                raise StoreLocked(
                    f"another atoll-edge runs on {self.root}: stop it first (systemctl stop atoll-edge, or the pod)"
                ) from None
            self._lock = file
        shutil.rmtree(self.temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._make_folders()

    def _open_lock(self) -> int | None:
        """Opens what the lock is taken on: `agent.lock`; on a card that became read-only, or where that name is a
        folder, what is there, since a folder can be locked as well; None if there is nothing that two could share."""
        path = self.root / "agent.lock"
        with contextlib.suppress(OSError):
            self._make_folders()
            file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
            self._own(path)
            return file
        for found in (path, self.root):
            with contextlib.suppress(OSError):
                return os.open(found, os.O_RDONLY | os.O_CLOEXEC)
        logger.error("%s cannot be made: no release can be kept, and none is there", self.root)
        return None

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> DeviceState:
        """Returns the state; where its file cannot be read, one made of the releases on the disk."""
        try:
            return self._stored()
        except OSError as error:
            return self._recover(error)

    def _stored(self) -> DeviceState:
        """Returns the state, or one made of the releases where the file is damaged.

        Raises:
            OSError: it cannot be read now; it is not to be overwritten.
        """
        path = self.root / "state.json"
        try:
            return from_json(DeviceState, read_again(path, path.read_bytes))
        except (ReleaseDamaged, DecodeError, UnicodeDecodeError) as error:
            return self._recover(error) if path.exists() else DeviceState()

    def _recover(self, error: Exception) -> DeviceState:
        if self._recovered is None:
            path = self.root / "state.json"
            logger.error("%s cannot be read, going on with the newest release on disk: %s", path, error)
            self._recovered = self._newest()
        return self._recovered

    def _newest(self) -> DeviceState:
        """Makes a state of the newest undamaged release: every release on the disk was verified."""
        found: list[tuple[int, str, str]] = []
        folder = self.root / "releases"
        for release in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(ReleaseDamaged, OSError):
                manifest = self.check(release.name)
                found.append((manifest.sequence, release.name, f"{manifest.namespace}/{manifest.model}"))
        if not found:
            return DeviceState()
        highest = {model: sequence for sequence, _, model in sorted(found)}
        text = "the device's state could not be read; the newest release on its disk serves"
        return DeviceState(current=max(found)[1], sequences=highest, last_refusal=text)

    def change(self, change: Callable[[DeviceState], DeviceState]) -> DeviceState:
        """Replaces the state by `change(state)`, durably, and returns it.

        Raises:
            OSError: the disk is full or read-only, or the state cannot be read now; it is as it was.
        """
        self._make_folders()
        path = self.root / "state.json"
        with file_lock(self.root / "state.lock"):
            self._own(self.root / "state.lock")
            before = self._stored()
            after = change(before)
            if after != before or self._recovered is not None:
                with written_whole(path) as stream:
                    stream.write(to_json(after))
                self._own(path)
                self._recovered = None
            return after

    def has_blob(self, sha256: str) -> bool:
        return self.blob_path(sha256).is_file()

    def blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / "sha256" / sha256

    def add_blob(self, path: Path, sha256: str) -> None:
        """Moves a file of the same file system, whose digest was verified, into the blobs."""
        self._make_folders()
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.chmod(0o444)
        self._own(path)
        path.replace(self.blob_path(sha256))
        sync_folder(self.blob_path(sha256).parent)

    def add_release(self, release: str, manifest: bytes) -> None:
        """Writes a manifest, whose blobs must be there already."""
        folder = self._release(release)
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / "manifest.json") as stream:
            stream.write(manifest)
        for made in (folder, folder / "manifest.json"):
            self._own(made)
        sync_folder(folder.parent)

    def manifest(self, release: str) -> Manifest:
        """Reads the manifest of a release.

        Raises:
            ReleaseDamaged: it is missing or changed.
            OSError: it cannot be read now, which says nothing about it.
        """
        path = self._release(release) / "manifest.json"
        data = read_again(path, path.read_bytes)
        if hashlib.sha256(data).hexdigest() != release:
            raise ReleaseDamaged(f"{path} is not what it was")
        try:
            # Verification has passed over what only a later version knows, too.
            return from_json(Manifest, data, skip_unknown=True, fallbacks={Role: Role.OTHER})
        except DecodeError as error:
            raise ReleaseDamaged(f"{path}: {error}") from None

    def check(self, release: str) -> Manifest:
        """Reads every needed file of a release, compares the digests, and returns the manifest.

        Raises:
            ReleaseDamaged: a file is missing or changed; its blob is removed.
            OSError: a file cannot be read now, which says nothing about it.
        """
        manifest = self.manifest(release)
        for item in needed_files(manifest, self.chip):
            path = self.blob_path(item.sha256)
            if item.role in (Role.MODEL_COMPILED, Role.DETECTOR) and not path.exists():
                # The card was in a device with another chip, or one that knew no such file; the others do without.
                continue
            if read_again(path, functools.partial(file_sha256, path)) != item.sha256:
                path.unlink(missing_ok=True)
                raise ReleaseDamaged(f"{item.name} of {manifest.release} is not what it was")
        return manifest

    def model_spec(self, release: str, manifest: Manifest) -> LoadedModelSpec:
        """Describes a release for the detector."""

        def path(role: Role) -> Path | None:
            item = manifest.file(role)
            return None if item is None else self.blob_path(item.sha256)

        compiled, head = chip_file(manifest, self.chip), manifest.file(Role.DETECTOR)
        return LoadedModelSpec(
            name=manifest.release,
            digest=release,
            sequence=manifest.sequence,
            labels=manifest.labels,
            thresholds=manifest.thresholds,
            cpu_path=path(Role.MODEL_INT8),
            edgetpu_path=path(Role.MODEL_EDGETPU),
            resize=manifest.resize,
            rknn_path=self.blob_path(compiled.sha256) if compiled and self.has_blob(compiled.sha256) else None,
            head_path=self.blob_path(head.sha256) if compiled and head and self.has_blob(head.sha256) else None,
            side=manifest.input.width if manifest.sequence else None,
            widths=known_widths(manifest),
        )

    def free_bytes(self) -> int:
        """Returns the room on the card; 0 where the folder could not be made."""
        return shutil.disk_usage(self.root).free if self.root.is_dir() else 0

    def adding(self) -> AbstractContextManager[None]:
        """Locks the blobs against `collect_garbage` while a release that no state names yet is added."""
        self._make_folders()
        return self._blobs_lock()

    def collect_garbage(self) -> None:
        """Removes releases that the state does not keep, and blobs that no kept release needs."""
        self._make_folders()
        with self._blobs_lock():
            self._collect()

    def _collect(self) -> None:
        kept = self.read().kept
        needed: set[str] = set()
        for release in kept:
            try:
                needed |= {item.sha256 for item in self.manifest(release).files}
            except ReleaseDamaged as error:
                # Its blobs stay no longer; what is whole of them is downloaded again.
                logger.warning("%s", error)
        for folder in (self.root / "releases").iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for blob in (self.root / "blobs" / "sha256").iterdir():
            if blob.name not in needed:
                blob.unlink(missing_ok=True)

    def _release(self, release: str) -> Path:
        return self.root / "releases" / release

    @contextlib.contextmanager
    def _blobs_lock(self) -> Iterator[None]:
        path = self.root / "blobs.lock"
        with file_lock(path):
            self._own(path)
            yield

    def _make_folders(self) -> None:
        blobs = self.root / "blobs"
        for folder in (blobs, blobs / "sha256", self.root / "releases", self.temporary):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                self._own(folder)

    def _own(self, path: Path) -> None:
        """Gives a file that root wrote (`sudo atoll-edge import`, the pod) to the folder's owner, systemd's agent."""
        if os.geteuid() != 0:
            return
        owner, current = self.root.stat(), path.stat()
        if (owner.st_uid, owner.st_gid) != (current.st_uid, current.st_gid):
            with contextlib.suppress(OSError):
                os.chown(path, owner.st_uid, owner.st_gid)
