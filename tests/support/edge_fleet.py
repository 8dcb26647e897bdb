"""Many devices on one bucket in a folder, with clocks that the test owns and detectors that follow a script.

Each has the real manager of releases: its poller, its roll-out, its probation, its report. Only the detector's process
and the canary's are left out.
"""

import dataclasses
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll_contract.signing import KeyPair
from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.config import EdgeConfig, ModelConfig, Verify
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.model import DetectionResult, DetectorHealth, LoadedModelSpec
from atoll_edge.models.manager import ReleaseManager
from atoll_edge.models.trial import TRIAL_FRAMES
from atoll_edge.prometheus import Metrics
from atoll_edge.robot.topics import Match
from atoll_operator.devices.reports import ReportReader, StoredReport
from atoll_operator.devices.rollouts import halt_failed
from support.edge_release import CHANNEL, MODEL, NAMESPACE


@dataclass
class LoadingDetector:
    """Loads every model at once, on the CPU."""

    active: LoadedModelSpec | None = None
    health: DetectorHealth = field(default_factory=DetectorHealth)
    idle_accelerators: tuple[str, ...] = ()

    def backend_for(self, _: LoadedModelSpec) -> Backend | None:
        return Backend.CPU

    def request(self, model: LoadedModelSpec) -> "Future[Backend]":
        self.active = model
        future: Future[Backend] = Future()
        future.set_result(Backend.CPU)
        return future


class NoMatch:
    """A robot that is never in a match."""

    def now(self) -> Match:
        return Match(enabled=False, fms_attached=False)


class FleetDevice:
    """One device; `step` polls, ticks and lets the detector answer. Versions in `broken` answer NaN."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self._fleet = fleet
        self.name = name
        self.online = True
        self._detector = LoadingDetector()
        store = StoreSpec(StoreType.DIRECTORY, path=str(fleet.folder / "bucket"))
        keys = (str(fleet.key_file),)
        model = ModelConfig(NAMESPACE, MODEL, store, channel=CHANNEL, verify=Verify.REQUIRED, public_key_files=keys)
        config = EdgeConfig(device=name, state_dir=str(fleet.folder / name), model=model)
        no_match: Any = NoMatch()
        self.manager = ReleaseManager(config, self._detector, no_match, Metrics())
        poller = self.manager.poller
        assert poller is not None
        downloader = poller._downloader
        assert downloader.turns is not None
        turns = dataclasses.replace(downloader.turns, now=lambda: fleet.wall)
        poller._downloader = dataclasses.replace(downloader, canary=lambda *_, **__: None, turns=turns)
        self.poller = poller
        self.manager.activation.boot()

    @property
    def version(self) -> int:
        """What serves now."""
        active = self.manager.activation.active
        return 0 if active is None else active.sequence

    def step(self) -> None:
        now = self._fleet.now
        if self.online:
            self.poller.step(now)
        for _ in range(3):
            self.manager.activation.tick(now)
        active = self._detector.active
        if active is not None:
            self._fleet.loaded[self.name].add(active.sequence)
            wrong = int(active.sequence in self._fleet.broken)
            for _ in range(TRIAL_FRAMES):
                self.manager.on_result(DetectionResult(active, Backend.CPU, (), wrong, 0.01))
        self.manager.activation.tick(now)


class Fleet:
    """Devices `pi-00` … and the device reporter, minute by minute. `wall` is everybody's clock."""

    def __init__(self, folder: Path, key: KeyPair, count: int, *, published_at: float) -> None:
        self.folder = folder
        self.key_file = folder / "key.pem"
        self.key_file.write_bytes(key.public_pem)
        self.wall = published_at
        self.now = 1000.0
        self.broken: set[int] = set()
        names = [f"pi-{number:02d}" for number in range(count)]
        self.loaded: dict[str, set[int]] = {name: set() for name in names}
        self.devices = [FleetDevice(self, name) for name in names]

    @property
    def bucket(self) -> DirStore:
        return DirStore(self.folder / "bucket")

    def minutes(self, count: int) -> None:
        """Five minutes in each round, and the rest one by one."""
        for minutes in [5] * (count // 5) + [1] * (count % 5):
            self.wall += 60.0 * minutes
            self.now += 60.0 * minutes
            for device in self.devices:
                device.step()
            halt_failed(self.bucket, self.reports(), now=self.wall)

    def reports(self) -> list[StoredReport]:
        return list(ReportReader(self.bucket, NAMESPACE).read().by_device.values())

    def running(self, version: int) -> set[str]:
        return {device.name for device in self.devices if device.version == version}

    def have_run(self, version: int) -> set[str]:
        return {name for name, versions in self.loaded.items() if version in versions}

    def close(self) -> None:
        for device in self.devices:
            device.manager.stop()
