"""Releases on the device's disk: content-addressed, synced before they are named, and safe to pull the plug on.

    blobs/sha256/<hex>             a file of some release; written once, read-only
    releases/<hex>/manifest.json   the manifest's own bytes; <hex> is their sha256
    state.json                     `DeviceState`, replaced as a whole; the one source of truth
    tmp/                           unfinished work, emptied at every start

A release's blobs are durable before its manifest, and that before `state.json` names it. One agent holds `agent.lock`
for as long as it runs (k3s and systemd share the folder); `state.lock` is held for one change.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from atoll_contract.codec import DecodeError, from_json, to_json
from atoll_contract.durable import file_lock, file_sha256, sync_folder, written_whole
from atoll_contract.manifest import Manifest, ManifestFile, Role
from atoll_edge.models.device_state import DeviceState
from atoll_edge.models.served import ServedModel

logger = logging.getLogger(__name__)

# What a device needs of a release; reports and bundles stay in the store.
NEEDED = frozenset({Role.MODEL_INT8, Role.MODEL_EDGETPU, Role.LABELS, Role.GOLDEN})


class StoreBusy(RuntimeError):
    """Another agent runs on this folder."""


class ReleaseDamaged(RuntimeError):
    """A release on this disk is not whole."""


class DeviceStore:
    """The folder `root`; made if it is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.temporary = root / "tmp"
        self._lock: IO[bytes] | None = None

    def hold(self) -> None:
        """Be the one agent of this folder, until `release_hold` or the end of the process, and clear `tmp/`.

        Raises:
            StoreBusy: another agent is.
        """
        self._make()
        lock = (self.root / "agent.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise StoreBusy(
                f"another atoll-edge runs on {self.root}: stop it first (systemctl stop atoll-edge, or the pod)"
            ) from None
        self._lock = lock
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(exist_ok=True)

    def release_hold(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read(self) -> DeviceState:
        """The state; an unreadable one counts as empty, and is said."""
        try:
            return from_json(DeviceState, (self.root / "state.json").read_bytes())
        except FileNotFoundError:
            return DeviceState()
        except (DecodeError, UnicodeDecodeError) as error:
            logger.error("%s cannot be read, starting without a model: %s", self.root / "state.json", error)
            return DeviceState()

    def change(self, change: Callable[[DeviceState], DeviceState]) -> DeviceState:
        """Replace the state by `change(state)`, durably.

        Raises:
            OSError: the disk is full or read-only; the state is as it was.
        """
        self._make()
        with file_lock(self.root / "state.lock"):
            before = self.read()
            after = change(before)
            if after != before:
                with written_whole(self.root / "state.json") as stream:
                    stream.write(to_json(after))
            return after

    def has_blob(self, sha256: str) -> bool:
        return self.blob_path(sha256).is_file()

    def blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / "sha256" / sha256

    def add_blob(self, path: Path, sha256: str) -> None:
        """Move a file of this file system, whose digest was checked, among the blobs."""
        self._make()
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.chmod(0o444)
        path.replace(self.blob_path(sha256))
        sync_folder(self.blob_path(sha256).parent)

    def add_release(self, release: str, manifest: bytes) -> None:
        """Keep a manifest; its blobs are there already."""
        folder = self._release(release)
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / "manifest.json") as stream:
            stream.write(manifest)
        sync_folder(folder.parent)

    def manifest(self, release: str) -> Manifest:
        """The manifest of a release on this disk.

        Raises:
            ReleaseDamaged: it is not there or not what it was.
        """
        path = self._release(release) / "manifest.json"
        try:
            if file_sha256(path) != release:
                raise ReleaseDamaged(f"{path} is not what it was")
            return from_json(Manifest, path.read_bytes())
        except (OSError, DecodeError) as error:
            raise ReleaseDamaged(f"{path}: {error}") from None

    def check(self, release: str) -> Manifest:
        """The manifest of a release whose every needed file was read and has its digest.

        Raises:
            ReleaseDamaged: one has not.
        """
        manifest = self.manifest(release)
        for item in needed_files(manifest):
            path = self.blob_path(item.sha256)
            try:
                whole = file_sha256(path) == item.sha256
            except OSError as error:
                raise ReleaseDamaged(f"{item.name}: {error}") from None
            if not whole:
                path.unlink(missing_ok=True)
                raise ReleaseDamaged(f"{item.name} of {manifest.release} is not what it was")
        return manifest

    def served(self, release: str, manifest: Manifest) -> ServedModel:
        """A release as the pipeline serves it."""

        def path(role: Role) -> Path | None:
            item = manifest.file(role)
            return None if item is None else self.blob_path(item.sha256)

        return ServedModel(
            name=manifest.release,
            digest=release,
            sequence=manifest.sequence,
            labels=manifest.labels,
            thresholds=manifest.thresholds,
            cpu_path=path(Role.MODEL_INT8),
            edgetpu_path=path(Role.MODEL_EDGETPU),
        )

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def fetching(self) -> AbstractContextManager[None]:
        """Held while blobs of a release that no state names yet are brought in: they are no garbage."""
        self._make()
        return file_lock(self.root / "blobs.lock")

    def collect_garbage(self) -> None:
        """Remove releases that the state does not keep, and blobs that no kept release needs."""
        self._make()
        with file_lock(self.root / "blobs.lock"):
            self._collect()

    def _collect(self) -> None:
        kept = self.read().kept
        needed: set[str] = set()
        for release in kept:
            try:
                needed |= {item.sha256 for item in needed_files(self.manifest(release))}
            except ReleaseDamaged as error:
                logger.warning("%s", error)
        for folder in (self.root / "releases").iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for blob in (self.root / "blobs" / "sha256").iterdir():
            if blob.name not in needed:
                blob.unlink(missing_ok=True)

    def _release(self, release: str) -> Path:
        return self.root / "releases" / release

    def _make(self) -> None:
        for folder in (self.root / "blobs" / "sha256", self.root / "releases", self.temporary):
            folder.mkdir(parents=True, exist_ok=True)


def needed_files(manifest: Manifest) -> tuple[ManifestFile, ...]:
    """The files of a release that a device keeps."""
    return tuple(item for item in manifest.files if item.role in NEEDED)
