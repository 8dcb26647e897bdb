"""Moves the channel's pointer to its newest version: as the last step of publishing, and never back."""

import hashlib
import logging

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, rfc3339, to_json
from atoll_contract.errors import Reason
from atoll_contract.release import Channel, Manifest, ManifestRef
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, Store, StoreError, StoreUnavailable
from atoll_stages.publish.versions import versions

logger = logging.getLogger(__name__)

# In each round any other publisher of the model may write the pointer first.
ROUNDS = 200


def advance_channel(store: Store, published: Manifest) -> Artifact:
    """Rewrites the pointer until it names the highest version of its channel, and returns it as an artifact.

    Raises:
        StoreUnavailable: others kept rewriting it.
    """
    key = keys.channel(published.namespace, published.model, published.channel)
    for _ in range(ROUNDS):
        data, etag = _read(store, key)
        best = _highest(store, published, above=_version(data))
        if best is None:
            return Artifact("channel", key, hashlib.sha256(data).hexdigest(), len(data))
        _write(store, key, to_json(_pointer(published, *best)), etag)
    raise StoreUnavailable(f"{store.url}: {key} was rewritten by others {ROUNDS} times while it was to be moved")


def _read(store: Store, key: str) -> tuple[bytes, str | None]:
    try:
        found = store.get_if_changed(key, None)
    except ObjectNotFound:
        return b"", None
    assert found is not None
    return found


def _version(data: bytes) -> int:
    """Returns the version that a pointer names; 0 where there is none or it cannot be read."""
    if not data:
        return 0
    try:
        return from_json(Channel, data, skip_unknown=True).version
    except DecodeError as error:
        logger.warning("the channel pointer is not readable and is written anew: %s", error)
        return 0


def _highest(store: Store, published: Manifest, *, above: int) -> tuple[int, ManifestRef] | None:
    """Returns the highest version of the channel above `above`; versions of other channels do not count."""
    # A listing may lag behind the manifest that was just written.
    known = {published.version, *versions(store, published.namespace, published.model)}
    for version in sorted(known, reverse=True):
        if version <= above:
            return None
        key = keys.manifest(published.namespace, published.model, version)
        try:
            data = store.get(key)
            channel = from_json(Manifest, data, skip_unknown=True).channel
        except (ObjectNotFound, DecodeError) as error:
            logger.warning("%s is passed over: %s", key, error)
            continue
        if channel == published.channel:
            return version, ManifestRef(key, hashlib.sha256(data).hexdigest(), len(data))
    return None


def _pointer(published: Manifest, version: int, manifest: ManifestRef) -> Channel:
    return Channel(
        namespace=published.namespace,
        model=published.model,
        channel=published.channel,
        version=version,
        sequence=version,
        manifest=manifest,
        updated_at=rfc3339(),
    )


def _write(store: Store, key: str, data: bytes, etag: str | None) -> None:
    """Replaces the pointer that was read; where another publisher has replaced it since, the next round sees that."""
    try:
        store.put(key, data, if_absent=etag is None, if_match=etag)
    except PreconditionFailed:
        logger.info("%s was moved by another publisher", key)
    except StoreError as error:
        if error.reason is not Reason.STORE_UNSUITABLE:
            raise
        store.put(key, data)
