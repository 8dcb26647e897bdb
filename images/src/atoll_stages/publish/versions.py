"""Claims a version of a model: its manifest belongs to one run, and never changes.

The envelope of a signed manifest contains the manifest's bytes, and is put first, under the same condition. So a run
that was killed between the two finds what it has signed, and puts exactly that.
"""

import hashlib
import logging
import re
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import AtollError, IntegrityError, Reason
from atoll_contract.keys import RunRef
from atoll_contract.release import Manifest, ManifestRef
from atoll_contract.signing import payload_of, sign
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, Store, StoreError

logger = logging.getLogger(__name__)

_VERSIONED = re.compile(r"v([1-9]\d{0,8})/manifest(?:\.dsse)?\.json")


class VersionTaken(AtollError):
    """The version belongs to another run; `next_version` is free."""

    def __init__(self, message: str, next_version: int) -> None:
        super().__init__(Reason.VERSION_CONFLICT, message)
        self.next_version = next_version


@dataclass(frozen=True)
class Claim:
    """The manifest of a version in the store."""

    manifest: Manifest
    reference: ManifestRef


def claim(store: Store, wanted: Manifest, *, signing_key: bytes | None, store_is_lock: bool) -> Claim:
    """Puts the manifest of a version, or finds that this run has put it before.

    Raises:
        VersionTaken: the version belongs to another run, or was published with other files.
    """
    writer = _Writer(store, store_is_lock=store_is_lock)
    key = keys.manifest(wanted.namespace, wanted.model, wanted.version)
    data = writer.existing(key)
    if data is None:
        data = _signed(writer, wanted, signing_key)
        data = writer.put_or_existing(key, data)
    manifest = _own(data, wanted)
    if manifest is None:
        raise _taken(store, wanted.namespace, wanted.model, wanted.version)
    return Claim(manifest, ManifestRef(key, hashlib.sha256(data).hexdigest(), len(data)))


def find_claim(store: Store, run: RunRef, *, model: str, version: int) -> Claim | None:
    """Returns the manifest of a version that this run has put; None where there is none."""
    key = keys.manifest(run.namespace, model, version)
    try:
        data = store.get(key)
        manifest = from_json(Manifest, data)
    except ObjectNotFound:
        return None
    except DecodeError as error:
        logger.warning("the manifest at %s is not readable: %s", key, error)
        return None
    if manifest.run.uid != run.uid:
        return None
    return Claim(manifest, ManifestRef(key, hashlib.sha256(data).hexdigest(), len(data)))


def require_not_taken(store: Store, run: RunRef, *, model: str, version: int) -> None:
    """Checks early whether `claim` would refuse, before any file is uploaded.

    Raises:
        VersionTaken: the version belongs to another run.
    """
    try:
        found = from_json(Manifest, store.get(keys.manifest(run.namespace, model, version)))
    except (ObjectNotFound, DecodeError):
        return
    if found.run.uid != run.uid:
        raise _taken(store, run.namespace, model, version)


def versions(store: Store, namespace: str, model: str, *, complete: bool = True) -> list[int]:
    """Returns the versions of a model in the store, ascending; with `complete` only those with a manifest."""
    prefix = keys.model_prefix(namespace, model)
    found = set()
    for info in store.list(prefix):
        match = _VERSIONED.fullmatch(info.key, len(prefix))
        if match and (not complete or info.key.endswith("/manifest.json")):
            found.add(int(match[1]))
    return sorted(found)


def _signed(writer: "_Writer", wanted: Manifest, signing_key: bytes | None) -> bytes:
    """Returns the bytes of the manifest to put: those in the envelope of this version, where there is one."""
    key = keys.signature(wanted.namespace, wanted.model, wanted.version)
    data = to_json(wanted)
    envelope = writer.existing(key)
    if envelope is None and signing_key is not None:
        envelope = writer.put_or_existing(key, sign(data, signing_key))
    if envelope is None:
        return data
    try:
        payload = payload_of(envelope)
        if signing_key is not None and sign(payload, signing_key) != envelope:
            raise IntegrityError("it was signed with another key", Reason.SIGNATURE_INVALID)
    except IntegrityError as error:
        logger.warning("%s is not this run's: %s", key, error)
        raise _taken(writer.store, wanted.namespace, wanted.model, wanted.version) from None
    if _own(payload, wanted) is None:
        raise _taken(writer.store, wanted.namespace, wanted.model, wanted.version)
    return payload


def _own(data: bytes, wanted: Manifest) -> Manifest | None:
    """Returns the manifest in `data` if it has the run, version and files of `wanted`; times may differ."""
    try:
        found = from_json(Manifest, data)
    except DecodeError as error:
        logger.warning("the manifest of %s is not readable: %s", wanted.release, error)
        return None
    return found if _identity(found) == _identity(wanted) else None


def _identity(manifest: Manifest) -> tuple[object, ...]:
    files = sorted((str(file.role), file.name, file.sha256) for file in manifest.files)
    return manifest.run.uid, manifest.model, manifest.version, manifest.channel, files


def _taken(store: Store, namespace: str, model: str, version: int) -> VersionTaken:
    free = max([version, *versions(store, namespace, model, complete=False)]) + 1
    text = f"{store.url}: {model}-v{version} was published by another run; the next free version is {free}"
    return VersionTaken(text, free)


class _Writer:
    """Puts objects under keys that have none."""

    def __init__(self, store: Store, *, store_is_lock: bool) -> None:
        self.store = store
        self._store_is_lock = store_is_lock

    def existing(self, key: str) -> bytes | None:
        try:
            return self.store.get(key)
        except ObjectNotFound:
            return None

    def put_or_existing(self, key: str, data: bytes) -> bytes:
        """Puts `data` where the key has no object, and returns the object that the key has then."""
        try:
            self.store.put(key, data, if_absent=True)
        except PreconditionFailed:
            logger.info("%s is there already", key)
        except StoreError as error:
            if self._store_is_lock or error.reason is not Reason.STORE_UNSUITABLE:
                raise
            # The API server has reserved this version for this run; the store's condition is only a second guard.
            logger.warning("the store knows no conditional writes: %s", error)
            self.store.put(key, data)
        return self.store.get(key)
