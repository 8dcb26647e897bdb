"""A folder store with device reports as the edge writes them, and clocks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from atoll_contract import keys
from atoll_contract.document import replace, to_json
from atoll_contract.release import Channel, DeviceReport, ManifestRef
from atoll_contract.store.directory import DirStore

NAMESPACE, MODEL = "team-190", "note"
# 2027-01-09T19:13:10Z, when the report below was made.
REPORTED = 1799521990.0
REPORT = DeviceReport(
    namespace=NAMESPACE,
    model=MODEL,
    device="pi-front",
    state="Active",
    reported_at="2027-01-09T19:13:10Z",
    channel="stable",
    release="note-v3",
    version=3,
    manifest_sha256="0123456789abcdef" * 4,
    desired_version=3,
    backend="edgetpu",
    fps=29.74,
    latency_millis=18.2,
    free_bytes=9_000_000_000,
    agent_version="0.1.0",
)


@dataclass(frozen=True)
class DeviceBucket:
    """Writes what devices and publishers write."""

    folder: Path

    @property
    def store(self) -> DirStore:
        return DirStore(self.folder)

    def report(self, report: DeviceReport = REPORT, *, at: float = REPORTED, **changes: object) -> str:
        """A device's report, which the bucket's clock says came at `at`."""
        changed = replace(report, **changes)  # type: ignore[arg-type]
        key = keys.device_report(changed.namespace, changed.model, changed.device)
        return self.raw(key, to_json(changed), at=at)

    def raw(self, key: str, data: bytes, *, at: float = REPORTED) -> str:
        self.store.put(key, data)
        os.utime(self.folder / key, (at, at))
        return key

    def channel(self, version: int) -> None:
        manifest = ManifestRef(keys.manifest(NAMESPACE, MODEL, version), "0" * 64, 1)
        pointer = Channel(NAMESPACE, MODEL, "stable", version, version, manifest, "2027-01-09T19:00:00Z")
        self.store.put(keys.channel(NAMESPACE, MODEL, "stable"), to_json(pointer))


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now
