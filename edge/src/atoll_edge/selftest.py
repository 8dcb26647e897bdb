"""`atoll-edge selftest`: tries the hardware and packages of the device that it runs on.

Each step is `passed`, `failed` or `skipped`, with the reason and its figures. Nothing is published, and no model is
changed. To try the Coral, stop the agent first: only one process can hold it.
"""

import importlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec import field

from atoll_contract.document import Document
from atoll_edge.camera.files import draw_scene
from atoll_edge.cameras import listed_cameras
from atoll_edge.config import EdgeConfig, WantedBackend
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.hardware import coral_devices, found_accelerators
from atoll_edge.detector.client import LOAD_SECONDS, DetectorClient, DetectorLost
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.detector.protocol import Refused
from atoll_edge.prometheus import soc_temperature
from atoll_edge.system import agent_version, cores, is_32_bit

INFERENCES = {Backend.CPU: 200, Backend.EDGETPU: 500, Backend.QNN: 500, Backend.RKNN: 500}
SYNC_WRITES = 20
MIN_FREE_BYTES = 256 * 2**20


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Step(Document, frozen=True):
    """The outcome of one step; `figures` are numbers and names for a bug report."""

    name: str
    outcome: Outcome
    message: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class SelfTestResult(StrEnum):
    """`incomplete`: no step failed, but some were skipped, so that something was not tried."""

    PASSED = "passed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


class SelfTest(Document, frozen=True):
    """All steps; `passed` only if each was tried and passed. Older self-tests have no `result`, and passed with skipped
    steps too."""

    version: str
    passed: bool
    steps: tuple[Step, ...]
    result: SelfTestResult | None = None


def run_selftest(
    model: LoadedModelSpec | None, config: EdgeConfig, *, more: Iterable[Step] = (), inferences: int | None = None
) -> SelfTest:
    """Runs every step, and takes `more` steps into the result. Without `model` the steps of inference are skipped;
    those of the Coral are left out where the settings do not want one."""
    backends = tried_backends(config.detection.backend)
    steps = [system_step(), packages_step(), disk_step(Path(config.state_dir))]
    if Backend.EDGETPU in backends:
        steps.append(usb_step())
    steps += [cameras_step(Path("/dev"), [camera.path for _, camera in listed_cameras(config)]), *more]
    steps += [backend_step(backend, model, inferences or INFERENCES[backend]) for backend in backends]
    result = overall_result(steps)
    return SelfTest(agent_version(), result is SelfTestResult.PASSED, tuple(steps), result)


def tried_backends(wanted: WantedBackend) -> tuple[Backend, ...]:
    """Returns the CPU, and the accelerators that the settings allow: a Coral, which may be plugged in, and what else
    the device has."""
    if wanted is not WantedBackend.AUTO:
        return tuple(dict.fromkeys((Backend.CPU, Backend(wanted))))
    return tuple(dict.fromkeys((Backend.CPU, Backend.EDGETPU, *(item.backend for item in found_accelerators()))))


def overall_result(steps: Iterable[Step]) -> SelfTestResult:
    outcomes = {step.outcome for step in steps}
    if Outcome.FAILED in outcomes:
        return SelfTestResult.FAILED
    return SelfTestResult.INCOMPLETE if Outcome.SKIPPED in outcomes else SelfTestResult.PASSED


def system_step() -> Step:
    """Checks for 64 bits; figures of the kernel, the C library and the page size."""
    figures = {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "pageBytes": os.sysconf("SC_PAGE_SIZE"),
        "cores": cores(),
        "temperatureCelsius": soc_temperature(),
    }
    if is_32_bit():
        return Step("system", Outcome.FAILED, "a 32-bit system has no packages for LiteRT and NetworkTables", figures)
    return Step("system", Outcome.PASSED, figures=figures)


def packages_step() -> Step:
    """Checks that the native packages can be imported."""
    versions = {}
    for name in ("numpy", "PIL", "cv2", "ntcore", "cscore", "ai_edge_litert.interpreter"):
        try:
            versions[name] = str(getattr(importlib.import_module(name), "__version__", "loaded"))
        except (ImportError, OSError) as error:
            return Step("packages", Outcome.FAILED, f"{name} does not load: {error}", versions)
    return Step("packages", Outcome.PASSED, figures=versions)


def disk_step(state_dir: Path) -> Step:
    """Checks the free space for models, and measures a synced write: a slow card delays a change of the model."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=state_dir) as file:
            started = time.perf_counter()
            for _ in range(SYNC_WRITES):
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            millis = (time.perf_counter() - started) * 1000 / SYNC_WRITES
        free = shutil.disk_usage(state_dir).free
    except OSError as error:
        return Step("disk", Outcome.FAILED, f"{state_dir} cannot be written: {error}")
    figures = {"freeBytes": free, "syncedWriteMillis": round(millis, 2)}
    if free < MIN_FREE_BYTES:
        return Step(
            "disk", Outcome.FAILED, f"{free // 2**20} MiB are free, {MIN_FREE_BYTES // 2**20} are needed", figures
        )
    return Step("disk", Outcome.PASSED, figures=figures)


def usb_step() -> Step:
    """Looks for a Coral by its USB ids and its device file."""
    found = coral_devices()
    if not found:
        return Step("coral", Outcome.SKIPPED, "no Coral is plugged in")
    return Step("coral", Outcome.PASSED, figures={"devices": found})


def cameras_step(devices: Path, wanted: Sequence[str | None]) -> Step:
    """Lists the cameras that V4L knows; none is needed where the settings name other sources alone."""
    found = sorted(str(path) for path in devices.glob("v4l/by-path/*")) or sorted(
        str(path) for path in devices.glob("video*")
    )
    if not found and not any(path is None or path.startswith("/dev/") for path in wanted):
        return Step("cameras", Outcome.PASSED, "no USB camera is plugged in, and the settings name none")
    if not found:
        return Step("cameras", Outcome.SKIPPED, "no USB camera is plugged in")
    return Step("cameras", Outcome.PASSED, figures={"paths": found})


def backend_step(backend: Backend, model: LoadedModelSpec | None, inferences: int) -> Step:
    """Loads and runs the model in a detector worker, as the agent does."""
    name = f"inference-{backend}"
    if model is None or model.path(backend) is None:
        return Step(name, Outcome.SKIPPED, f"no model for {backend}: give one with --bundle")
    if backend is Backend.EDGETPU and not coral_devices():
        return Step(name, Outcome.SKIPPED, "no Coral is plugged in")
    client = DetectorClient(backend)
    try:
        return _measure(name, client, model, inferences)
    except DetectorLost as loss:
        return Step(name, Outcome.FAILED, f"the detector was lost: {loss.reason}")
    finally:
        client.close()


def _measure(name: str, client: DetectorClient, model: LoadedModelSpec, inferences: int) -> Step:
    started, limit = time.perf_counter(), LOAD_SECONDS[client.backend]
    path = str(model.path(client.backend))
    head = model.head(client.backend)
    client.begin_load(path, threads=max(1, cores() - 1), resize=model.resize, side=model.side, head=head)
    ended = client.finished_loads(limit)
    load_seconds = time.perf_counter() - started
    if not ended:
        return Step(name, Outcome.FAILED, f"loading took longer than {limit:.0f} s")
    loaded = ended[0]
    if isinstance(loaded, Refused):
        return Step(name, Outcome.FAILED, loaded.error)
    times = sorted(_seconds_of_one(client, number) for number in range(inferences))
    figures = {
        "loadSeconds": round(load_seconds, 3),
        "inferences": inferences,
        "p50Millis": round(times[len(times) // 2] * 1000, 2),
        "p95Millis": round(times[int(len(times) * 0.95)] * 1000, 2),
        "inputPixels": loaded.width,
        "temperatureCelsius": soc_temperature(),
    }
    return Step(name, Outcome.PASSED, figures=figures)


def _seconds_of_one(client: DetectorClient, number: int) -> float:
    image = draw_scene(320, 240, number)
    started = time.perf_counter()
    client.detect(image)
    return time.perf_counter() - started
