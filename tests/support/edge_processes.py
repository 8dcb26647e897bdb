"""Devices as they are in a pit: each an `atoll-edge run` with a detector's process, on one bucket in a folder.

They share the pictures that stand in for their cameras, at one frame a second, and have neither streams nor a robot, so
that two cores bear twenty of them. What a test knows of them is what they report to the bucket.
"""

import functools
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from atoll_contract.release import DeviceReport
from atoll_contract.store.directory import DirStore
from atoll_edge.models.release_store import ReleaseStore
from atoll_operator.devices.reports import ReportReader, StoredReport
from support.edge_model import CELLS, SIDE, colour_detector
from support.edge_release import CHANNEL, MODEL, NAMESPACE
from support.polling import wait_until

STOP_SECONDS = 60
WAIT_SECONDS = 420
# How many start at the same time.
BATCH = 5
# The row of cells in which the camera shows a square, and the self-test's pictures none.
CAMERA_ROW = 0


def camera_picture() -> bytes:
    """A PNG with a red square in the top row of the detector's cells."""
    side = SIDE // CELLS
    pixels = np.full((SIDE, SIDE, 3), 110, np.uint8)
    pixels[CAMERA_ROW * side : (CAMERA_ROW + 1) * side, 2 * side : 3 * side] = (255, 0, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def failing_model() -> bytes:
    """The colour detector with anchors that are no numbers in the row that only the camera shows: it passes its
    self-test, and answers NaN to the camera's first frame."""
    model = colour_detector()
    centres = (np.arange(CELLS) + 0.5) / CELLS
    ys, xs = np.meshgrid(centres, centres, indexing="ij")
    sizes = np.full(CELLS * CELLS, 1 / CELLS)
    anchors = np.stack([ys.ravel(), xs.ravel(), sizes, sizes], -1).astype(np.float32)
    before = anchors.tobytes()
    assert model.count(before) == 1
    anchors[CAMERA_ROW * CELLS : (CAMERA_ROW + 1) * CELLS] = np.nan
    return model.replace(before, anchors.tobytes())


class DeviceProcess:
    """One device; it keeps its card while it is off."""

    def __init__(self, fleet: "ProcessFleet", name: str) -> None:
        self.name = name
        self.folder = fleet.folder / name
        self.folder.mkdir()
        self._config = self.folder / "config.yaml"
        # JSON is YAML, too.
        self._config.write_text(json.dumps(fleet.settings(name)))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "atoll_edge", "run", "--config", str(self._config)]
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def holds(self, release: str) -> bool:
        """Whether the release, by its manifest's sha256, ever came onto the card."""
        store = ReleaseStore(self.folder / "device")
        state = store.read()
        known = {state.current, state.previous, state.candidate, *state.bad}
        return release in known or any(release in path.name for path in (self.folder / "device").rglob("*"))


class ProcessFleet:
    """Devices of these names, which are off until `start`."""

    def __init__(self, folder: Path, key: bytes, names: Iterable[str]) -> None:
        self.folder = folder
        self.key_file = folder / "key.pem"
        self.key_file.write_bytes(key)
        self._pictures = folder / "pictures"
        self._pictures.mkdir()
        (self._pictures / "0.png").write_bytes(camera_picture())
        self.devices = {name: DeviceProcess(self, name) for name in names}

    @property
    def bucket(self) -> DirStore:
        return DirStore(self.folder / "bucket")

    def settings(self, name: str) -> dict[str, object]:
        store = {"type": "directory", "path": str(self.folder / "bucket")}
        return {
            "device": name,
            "stateDir": str(self.folder / name / "device"),
            "camera": {"name": "front", "path": str(self._pictures), "fps": 1},
            "detection": {"backend": "cpu", "threads": 1},
            "streams": {"enabled": False},
            "http": {"port": 0},
            "model": {
                "namespace": NAMESPACE,
                "name": MODEL,
                "channel": CHANNEL,
                "store": store,
                "publicKeyFiles": [str(self.key_file)],
                "pollSeconds": 1,
                "reportSeconds": 5,
            },
        }

    def start(self) -> None:
        """Starts all devices, a few at a time, and waits until each runs a release."""
        names = list(self.devices)
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            for name in batch:
                self.devices[name].start()
            self.wait_for(functools.partial(self._all_serve, batch), f"a release on {batch}")

    def _all_serve(self, names: Iterable[str]) -> bool:
        return all(self.version(name) for name in names)

    def stored_reports(self) -> list[StoredReport]:
        return list(ReportReader(self.bucket, NAMESPACE).read().by_device.values())

    def reports(self) -> dict[str, DeviceReport]:
        return {item.device: item.report for item in self.stored_reports() if item.report is not None}

    def version(self, name: str) -> int | None:
        report = self.reports().get(name)
        return None if report is None else report.version

    def running(self, version: int) -> set[str]:
        """The devices that run a version and have kept it."""
        reports = self.reports().items()
        return {name for name, report in reports if report.version == version and report.state == "Active"}

    def wait_for(self, reached: Callable[[], object], what: str) -> None:
        wait_until(reached, what=what, timeout_seconds=WAIT_SECONDS, interval_seconds=0.5)

    def close(self) -> None:
        for device in self.devices.values():
            device.stop()
