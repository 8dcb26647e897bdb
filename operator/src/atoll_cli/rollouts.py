"""The roll-out of one version: where its devices stand by their reports, and its promotion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, rfc3339, to_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.release import Channel, DeviceReport, release_parts
from atoll_contract.rollout import (
    PROMOTION_TYPE,
    RolloutControl,
    RolloutPlan,
    RolloutPromotion,
    RolloutState,
    share_of,
    turn_of,
    wave_of,
)
from atoll_contract.signing import sign
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_operator.api.status import parse_time
from atoll_operator.devices.reports import ReportReader
from atoll_operator.devices.rollouts import PublishedVersion, read_control, read_version

_VERSIONED = re.compile(r".*-v[1-9][0-9]*")


@dataclass(frozen=True)
class DeviceProgress:
    """A device that follows the version's channel. `state` is a word for people; `due_at` the time of its turn."""

    device: str
    wave: int
    runs: str
    state: str
    due_at: str | None = None


@dataclass(frozen=True)
class RolloutStatus:
    version: PublishedVersion
    plan: RolloutPlan
    control: RolloutControl | None
    promoted: bool
    devices: tuple[DeviceProgress, ...]


def find_version(store: Store, namespace: str, name: str, channel: str) -> PublishedVersion:
    """The version `<model>-v<N>`, or the one that the channel of the model `name` points to.

    Raises:
        SpecError: there is none, or it has no plan.
        IntegrityError: its manifest or the channel cannot be read.
    """
    if _VERSIONED.fullmatch(name):
        model, number = release_parts(name)
    else:
        model, number = name, _channel_version(store, namespace, name, channel)
    try:
        found = read_version(store, namespace, model, number)
    except ObjectNotFound:
        raise SpecError(f"there is no release {model}-v{number} in {store.url}; see atoll releases") from None
    if found.manifest.rollout is None:
        raise SpecError(
            f"{found.manifest.release} has no roll-out: it was published without spec.publish.rollout, and every "
            "device takes it at once"
        )
    return found


def _channel_version(store: Store, namespace: str, model: str, channel: str) -> int:
    key = keys.channel(namespace, model, channel)
    try:
        return from_json(Channel, store.get(key), skip_unknown=True).version
    except ObjectNotFound:
        raise SpecError(f"nothing of {model} is published in channel {channel} of {store.url}") from None
    except DecodeError as error:
        raise IntegrityError(f"{store.url}: {key}: {error}") from None


def rollout_status(store: Store, version: PublishedVersion, *, now: float) -> RolloutStatus:
    """Reads the control object, whether it is promoted, and the reports of the devices that follow the channel."""
    manifest = version.manifest
    plan, (control, _) = manifest.rollout, read_control(store, version)
    assert plan is not None
    reports = ReportReader(store, manifest.namespace).read().by_device.values()
    promoted = is_promoted(store, version)
    devices = tuple(
        _progress(report, version, control, promoted=promoted, now=now)
        for stored in sorted(reports, key=lambda item: item.device)
        if (report := stored.report) is not None
        and (report.model, report.channel) == (manifest.model, manifest.channel)
    )
    return RolloutStatus(version, plan, control, promoted, devices)


def is_promoted(store: Store, version: PublishedVersion) -> bool:
    """Whether a promotion lies in the store. Only devices verify its signature, with their own keys."""
    manifest = version.manifest
    kinds = (
        keys.promotion(manifest.namespace, manifest.model, manifest.version, signed=signed) for signed in (False, True)
    )
    return any(store.head(key) is not None for key in kinds)


def _progress(
    report: DeviceReport, version: PublishedVersion, control: RolloutControl | None, *, promoted: bool, now: float
) -> DeviceProgress:
    manifest, plan = version.manifest, version.manifest.rollout
    assert plan is not None
    share = share_of(report.device, manifest.namespace, manifest.model, manifest.version)
    wave, runs = wave_of(plan, share), report.release or "no model"
    if report.version is not None and report.version >= manifest.version:
        on_trial = report.state == "Probation" and report.version == manifest.version
        return DeviceProgress(report.device, wave, runs, "on probation" if on_trial else "runs it")
    if report.failed_version == manifest.version:
        return DeviceProgress(report.device, wave, runs, f"failed: {report.error or report.state}")
    if promoted and (control is None or control.state is RolloutState.RUNNING):
        return DeviceProgress(report.device, wave, runs, "due by the promotion")
    age = now - parse_time(manifest.created_at).timestamp()
    turn = turn_of(plan, share, age_seconds=age, control=control)
    due_at = None if turn.seconds_left is None else rfc3339(now + turn.seconds_left)
    return DeviceProgress(report.device, wave, runs, str(turn.turn), due_at)


def promote(store: Store, version: PublishedVersion, key_file: Path | None) -> None:
    """Lets all devices take the version now.

    Raises:
        SpecError: the release is signed and no key is given, or the key cannot be read.
    """
    manifest = version.manifest
    names = (manifest.namespace, manifest.model, manifest.version)
    if key_file is None and store.head(keys.signature(*names)) is not None:
        raise SpecError(
            f"{manifest.release} is signed, so its devices take a promotion only if it is signed with the same key; "
            "give it with --signing-key"
        )
    data = to_json(RolloutPromotion(*names, version.sha256))
    if key_file is not None:
        try:
            data = sign(data, key_file.read_bytes(), payload_type=PROMOTION_TYPE)
        except OSError as error:
            raise SpecError(f"cannot read the signing key {key_file}: {error.strerror}") from None
    store.put(keys.promotion(*names, signed=key_file is not None), data)


def step_lines(status: RolloutStatus) -> Iterator[tuple[str, str, str, str]]:
    """A row for each step: its number, share, begin, and how many devices of its wave run the version."""
    begin = parse_time(status.version.manifest.created_at).timestamp()
    delay = status.control.delay_seconds if status.control is not None else 0
    for number, step in enumerate(status.plan.steps, 1):
        mine = [item for item in status.devices if item.wave == number]
        done = sum(item.state == "runs it" for item in mine)
        yield str(number), f"{step.percent}%", rfc3339(begin + step.after_seconds + delay), f"{done} of {len(mine)}"
