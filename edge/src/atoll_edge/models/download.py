"""From the channel to a proven release on disk: look, fetch, prove. One turn at a time; nothing serves from here."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, Reason
from atoll_contract.release import Channel, Manifest, ManifestFile, Role
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_edge.models.canary import canary_job, run_canary
from atoll_edge.models.release_state import FinalRefusal, Refusal, mended, staged
from atoll_edge.models.release_store import DeviceStore, needed_files
from atoll_edge.models.verify import Expectation, prove_manifest, require_digest, require_labels
from atoll_edge.status import ModelState

logger = logging.getLogger(__name__)

DOCUMENT_LIMIT = 2**20
# Left free for the system: a full card stops more than this program.
RESERVE_BYTES = 64 * 2**20


class Look(StrEnum):
    """How a turn ended."""

    UNCHANGED = "unchanged"
    CURRENT = "current"
    STAGED = "staged"
    REFUSED_BEFORE = "refused-before"
    NO_CHANNEL = "no-channel"
    PINNED = "pinned"


@dataclass(frozen=True)
class ReleaseFetcher:
    """Looks for a newer release in the store. `progress` is told what a turn is doing."""

    store: Store
    device: DeviceStore
    expected: Expectation
    channel: str
    canary: Callable[..., None] = run_canary

    def look(self, etag: str | None, progress: Callable[[ModelState], None]) -> tuple[Look, str | None, int | None]:
        """One turn: what was found, the channel's ETag to pass next time, and the sequence that is wanted.

        Raises:
            StoreError: the store did not give what was asked; try again later.
            Refusal: what it gave cannot serve.
            OSError: the disk of the device.
        """
        state = self.device.read()
        if state.pinned is not None:
            return Look.PINNED, None, None
        expected = self.expected
        try:
            key = keys.channel(expected.namespace, expected.model, self.channel)
            answer = self.store.get_if_changed(key, etag)
        except ObjectNotFound:
            return Look.NO_CHANNEL, None, None
        if answer is None:
            return Look.UNCHANGED, etag, None
        data, etag = answer
        pointer = self._pointer(data)
        release = pointer.manifest.sha256
        if release in state.bad:
            return Look.REFUSED_BEFORE, etag, pointer.sequence
        if release in (state.current, state.candidate):
            if state.last_refusal is not None:
                self.device.change(mended)
            return Look.CURRENT, etag, pointer.sequence
        with self.device.fetching():
            self._fetch(pointer, progress)
        return Look.STAGED, etag, pointer.sequence

    def _pointer(self, data: bytes) -> Channel:
        try:
            return from_json(Channel, data)
        except DecodeError as error:
            raise Refusal(Reason.INTEGRITY_MISMATCH, f"the channel pointer cannot be read: {error}") from None

    def _fetch(self, pointer: Channel, progress: Callable[[ModelState], None]) -> None:
        expected = self.expected
        progress(ModelState.DOWNLOADING)
        # The pointer is a hint from anyone who can write there: the key comes from the version, not from it.
        key = keys.manifest(expected.namespace, expected.model, pointer.version)
        data = self.store.get(key, limit=DOCUMENT_LIMIT)
        envelope = self._envelope(pointer.version)
        release = pointer.manifest.sha256
        manifest = prove_manifest(data, envelope, expected=expected, state=self.device.read(), sha256=release)
        self._fetch_files(manifest)
        labels = manifest.file(Role.LABELS)
        assert labels is not None  # proven with the manifest
        require_labels(manifest, self.device.blob_path(labels.sha256))
        progress(ModelState.VERIFYING)
        try:
            self.canary(canary_job(manifest, self.device.blob_path), name=manifest.release)
        except Refusal as refusal:
            raise FinalRefusal(refusal.reason, refusal.message, release) from None
        self.device.add_release(release, data)
        self.device.change(lambda state: staged(state, release))

    def _envelope(self, version: int) -> bytes | None:
        try:
            key = keys.signature(self.expected.namespace, self.expected.model, version)
            return self.store.get(key, limit=2 * DOCUMENT_LIMIT)
        except ObjectNotFound:
            return None

    def _fetch_files(self, manifest: Manifest) -> None:
        missing = [item for item in needed_files(manifest) if not self.device.has_blob(item.sha256)]
        needed = sum(item.size for item in missing) + RESERVE_BYTES
        free = self.device.free_bytes()
        if free < needed:
            raise Refusal(
                Reason.EPHEMERAL_STORAGE_EXCEEDED,
                f"{manifest.release} needs {needed // 2**20} MiB of disk with reserve, {free // 2**20} MiB are free",
            )
        for item in missing:
            self._fetch_file(manifest, item)

    def _fetch_file(self, manifest: Manifest, item: ManifestFile) -> None:
        path: Path = self.device.temporary / item.sha256
        try:
            # The key too comes from the digest.
            self.store.download(keys.blob(item.sha256), path, sha256=item.sha256)
        except IntegrityError as error:
            raise Refusal(error.reason, f"{item.name} of {manifest.release}: {error.message}") from None
        require_digest(item, path)
        self.device.add_blob(path, item.sha256)
