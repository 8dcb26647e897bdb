"""Downloads what the channel names: reads its pointer, fetches the release, verifies it, and makes it the candidate."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, replace
from atoll_contract.errors import IntegrityError, Reason
from atoll_contract.release import Channel, Manifest, ManifestFile, Role
from atoll_contract.rollout import RolloutTurn, Turn
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_edge.detector.backends.base import NAMES, Backend
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.release_files import needed_files
from atoll_edge.models.release_state import (
    DeviceState,
    FinalRefusal,
    Refusal,
    begin_canary,
    clear_refusal,
    end_canary,
    stage,
)
from atoll_edge.models.release_store import ReleaseStore
from atoll_edge.models.rollout_turns import RolloutTurns
from atoll_edge.models.verify import (
    ExpectedRelease,
    canary_job,
    require_digest,
    require_labels,
    run_canary,
    verify_manifest,
)
from atoll_edge.status import ModelState

logger = logging.getLogger(__name__)

DOCUMENT_LIMIT = 2**20
# Kept free for the system: a full card stops more than this program.
RESERVE_BYTES = 64 * 2**20
# A Coral belongs to the detector alone: what it would run shows itself on probation.
SHARED_BACKENDS = frozenset({Backend.QNN, Backend.RKNN})


class PollResult(StrEnum):
    """What a poll of the channel found; also the label of a metric."""

    UNCHANGED = "unchanged"
    CURRENT = "current"
    STAGED = "staged"
    REFUSED_BEFORE = "refused-before"
    NO_CHANNEL = "no-channel"
    PINNED = "pinned"
    WAITING = "waiting"


class Poll(NamedTuple):
    """A poll's result, the channel's ETag for the next one, and what the channel names: the sequence and the manifest's
    digest; `turn` where this device waits for its turn in the release's roll-out."""

    result: PollResult
    etag: str | None
    sequence: int | None = None
    release: str | None = None
    turn: RolloutTurn | None = None


@dataclass(frozen=True)
class ReleaseDownloader:
    """Takes newer releases from the bucket `store` into the folder `device`. `turns` says when those that come in
    steps may be taken; without it they may at once."""

    store: Store
    device: ReleaseStore
    expected: ExpectedRelease
    channel: str
    canary: Callable[..., None] = run_canary
    turns: RolloutTurns | None = None
    # What the detector would load a model on; None where it cannot.
    backend_for: Callable[[LoadedModelSpec], Backend | None] = lambda _: Backend.CPU

    def poll(self, etag: str | None, progress: Callable[[ModelState], None]) -> Poll:
        """Reads the channel, and downloads the release that it names unless the device has it, refused it, or waits
        for its turn.

        `progress` is called at each phase.

        Raises:
            StoreError: the bucket cannot be read now.
            Refusal: the release cannot be used.
            OSError: the device's disk cannot be written.
        """
        state = self.device.read()
        if state.pinned is not None:
            return Poll(PollResult.PINNED, None)
        expected = self.expected
        try:
            key = keys.channel(expected.namespace, expected.model, self.channel)
            response = self.store.get_if_changed(key, etag)
        except ObjectNotFound:
            return Poll(PollResult.NO_CHANNEL, None)
        if response is None:
            return Poll(PollResult.UNCHANGED, etag)
        data, etag = response
        pointer = self._pointer(data)
        release = pointer.manifest.sha256
        if release in state.bad:
            return Poll(PollResult.REFUSED_BEFORE, etag, pointer.sequence, release)
        if release in (state.current, state.candidate):
            if state.last_refusal is not None:
                self.device.change(clear_refusal)
            return Poll(PollResult.CURRENT, etag, pointer.sequence, release)
        with self.device.adding():
            turn = self._fetch(pointer, state, progress)
        if turn is not None:
            # Without an ETag the next poll looks again: the turn comes without a change of the channel.
            return Poll(PollResult.WAITING, None, pointer.sequence, release, turn)
        return Poll(PollResult.STAGED, etag, pointer.sequence, release)

    def _pointer(self, data: bytes) -> Channel:
        try:
            return from_json(Channel, data)
        except DecodeError as error:
            raise Refusal(Reason.INTEGRITY_MISMATCH, f"the channel pointer cannot be read: {error}") from None

    def _fetch(
        self, pointer: Channel, state: DeviceState, progress: Callable[[ModelState], None]
    ) -> RolloutTurn | None:
        """Returns the device's turn where it is not due yet."""
        expected = self.expected
        # Anyone who can write to the bucket may have written the pointer: the key is made of the version alone.
        key = keys.manifest(expected.namespace, expected.model, pointer.version)
        data = self.store.get(key, limit=DOCUMENT_LIMIT)
        envelope = self._envelope(pointer.version)
        release = pointer.manifest.sha256
        manifest = verify_manifest(data, envelope, expected=expected, state=state, sha256=release)
        turn = self.turns.of(manifest, release, has_release=state.current is not None) if self.turns else None
        if turn is not None and turn.turn is not Turn.DUE:
            return turn
        progress(ModelState.DOWNLOADING)
        self._fetch_files(manifest)
        labels = manifest.file(Role.LABELS)
        assert labels is not None  # verified with the manifest
        require_labels(manifest, self.device.blob_path(labels.sha256))
        progress(ModelState.VERIFYING)
        self._try(manifest, release)
        self.device.add_release(release, data)
        self.device.change(lambda state: stage(state, release))
        return None

    def _try(self, manifest: Manifest, release: str) -> None:
        # On the card before the model is parsed: one that takes the agent down is not fetched and tried for ever.
        self.device.change(lambda state: begin_canary(state, release))
        try:
            self.canary(canary_job(manifest, self.device.blob_path), name=manifest.release)
            self._try_on_chip(manifest, release)
        except Refusal as refusal:
            raise FinalRefusal(refusal.reason, refusal.message, release) from None
        except OSError:
            # The system could not start the canary, which says nothing about the model.
            self.device.change(end_canary)
            raise

    def _try_on_chip(self, manifest: Manifest, release: str) -> None:
        """Tries the file that will serve on what will run it, where another process may use that at the same time."""
        spec = self.device.model_spec(release, manifest)
        backend = self.backend_for(spec)
        if backend in SHARED_BACKENDS:
            job = canary_job(manifest, self.device.blob_path, backend=backend, path=spec.path(backend))
            job = replace(job, head=spec.head(backend))
            self.canary(job, name=f"{manifest.release} on the {NAMES[backend]}")

    def _envelope(self, version: int) -> bytes | None:
        try:
            key = keys.signature(self.expected.namespace, self.expected.model, version)
            return self.store.get(key, limit=2 * DOCUMENT_LIMIT)
        except ObjectNotFound:
            return None

    def _fetch_files(self, manifest: Manifest) -> None:
        missing = [item for item in needed_files(manifest, self.device.chip) if not self.device.has_blob(item.sha256)]
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
            # The key is made of the digest, whatever the manifest says.
            self.store.download(keys.blob(item.sha256), path, sha256=item.sha256)
        except IntegrityError as error:
            raise Refusal(error.reason, f"{item.name} of {manifest.release}: {error.message}") from None
        require_digest(item, path)
        self.device.add_blob(path, item.sha256)
