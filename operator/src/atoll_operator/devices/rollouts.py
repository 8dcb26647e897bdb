"""The control object of a version's roll-out: read, paused, resumed, and halted where the version fails on devices.

It lies beside the version's manifest, is not signed, and can only delay what the plan in the manifest allows.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, replace, rfc3339, to_json
from atoll_contract.errors import IntegrityError, Reason
from atoll_contract.release import Manifest
from atoll_contract.rollout import RolloutControl, RolloutState
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed, Store, StoreError
from atoll_operator.api.status import parse_time
from atoll_operator.devices.reports import StoredReport

logger = logging.getLogger(__name__)

MAX_CONTROL_BYTES = 2**16
# Another writer may replace the control object in each round.
ROUNDS = 20
# Devices that the control object names.
MAX_NAMED = 20


@dataclass(frozen=True)
class PublishedVersion:
    """A manifest with a plan, and the sha256 of its bytes, by which its control object names it."""

    manifest: Manifest
    sha256: str

    @property
    def key(self) -> str:
        return keys.rollout(self.manifest.namespace, self.manifest.model, self.manifest.version)


def read_version(store: Store, namespace: str, model: str, version: int) -> PublishedVersion:
    """Reads a version's manifest, unverified.

    Raises:
        ObjectNotFound: it is not published.
        IntegrityError: it cannot be read.
    """
    key = keys.manifest(namespace, model, version)
    data = store.get(key)
    try:
        manifest = from_json(Manifest, data, skip_unknown=True)
    except (DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{store.url}: {key}: {error}") from None
    return PublishedVersion(manifest, hashlib.sha256(data).hexdigest())


def read_control(store: Store, version: PublishedVersion) -> tuple[RolloutControl | None, str | None]:
    """The control object of a version and its ETag; None where there is none, or none for these bytes."""
    try:
        found = store.get_if_changed(version.key, None)
    except ObjectNotFound:
        return None, None
    assert found is not None
    data, etag = found
    try:
        control = from_json(RolloutControl, data[:MAX_CONTROL_BYTES], skip_unknown=True)
    except (DecodeError, UnicodeDecodeError) as error:
        logger.warning("%s is written anew: %s", version.key, error)
        return None, etag
    return (control if control.manifest_sha256 == version.sha256 else None), etag


def change_control(
    store: Store, version: PublishedVersion, change: Callable[[RolloutControl], RolloutControl], *, now: float
) -> RolloutControl:
    """Replaces the control object by `change` of what is there, unless that is the same, and returns it.

    Raises:
        StoreError: the store refuses the write, or others replaced the object again and again.
    """
    for _ in range(ROUNDS):
        found, etag = read_control(store, version)
        before = found or RolloutControl(version.sha256, RolloutState.RUNNING, rfc3339(now))
        after = change(before)
        if after == found:
            return after
        after = replace(after, updated_at=rfc3339(now))
        try:
            store.put(version.key, to_json(after), if_absent=etag is None, if_match=etag)
        except PreconditionFailed:
            continue
        except StoreError as error:
            if error.reason is not Reason.STORE_UNSUITABLE:
                raise
            store.put(version.key, to_json(after))
        return after
    raise StoreError(Reason.STORAGE_UNAVAILABLE, f"{version.key} was replaced by others {ROUNDS} times")


def paused(control: RolloutControl, *, now: float, reason: str | None) -> RolloutControl:
    """Stops the steps, until `resumed`. A halted roll-out stays halted."""
    if control.state is not RolloutState.RUNNING:
        return control
    return replace(control, state=RolloutState.PAUSED, paused_at=rfc3339(now), reason=reason)


def halted(control: RolloutControl, *, now: float, reason: str, failed: Iterable[str]) -> RolloutControl:
    """Stops the steps for good, until somebody resumes them. What was resumed is halted again by a further device."""
    named = tuple(sorted(failed))[:MAX_NAMED]
    if control.state is RolloutState.HALTED or set(named) <= set(control.failed):
        return control
    since = control.paused_at or rfc3339(now)
    return replace(control, state=RolloutState.HALTED, paused_at=since, reason=reason, failed=named)


def resumed(control: RolloutControl, *, now: float) -> RolloutControl:
    """Goes on where the roll-out stopped: the steps that were left come later by the time of the stop."""
    if control.state is RolloutState.RUNNING:
        return control
    stopped = 0.0 if control.paused_at is None else now - parse_time(control.paused_at).timestamp()
    delay = control.delay_seconds + max(0, round(stopped))
    return replace(control, state=RolloutState.RUNNING, paused_at=None, reason=None, delay_seconds=delay)


def halt_failed(store: Store, reports: Iterable[StoredReport], *, now: float) -> None:
    """Halts each version that has failed on as many devices as its plan allows.

    Raises:
        StoreError: the bucket cannot be read or written now.
    """
    failed: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for stored in reports:
        report = stored.report
        if report is not None and report.failed_version is not None:
            failed[report.namespace, report.model, report.failed_version].add(stored.device)
    for (namespace, model, number), devices in failed.items():
        try:
            version = read_version(store, namespace, model, number)
        except (ObjectNotFound, IntegrityError) as error:
            # Whoever holds a device's keys writes its report.
            logger.warning("no roll-out to halt: %s", error)
            continue
        plan = version.manifest.rollout
        if plan is not None and len(devices) >= plan.halt_at:
            _halt(store, version, devices, now=now)


def _halt(store: Store, version: PublishedVersion, devices: set[str], *, now: float) -> None:
    names = sorted(devices)
    count = f"{len(names)} device{'' if len(names) == 1 else 's'}"
    reason = f"it failed on {count}: {', '.join(names[:MAX_NAMED])}"
    before, _ = read_control(store, version)
    after = change_control(
        store, version, lambda control: halted(control, now=now, reason=reason, failed=names), now=now
    )
    if after.state is RolloutState.HALTED and (before is None or before.state is not RolloutState.HALTED):
        logger.warning("the roll-out of %s is halted: %s", version.manifest.release, reason)
