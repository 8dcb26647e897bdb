"""How soon the robot hears again: after a detector died, hung, or lost its accelerator; and after power-on without a
network. Real child processes, killed again and again while a robot is connected.

    python tests/bench/edge_restart.py --bundle model.tar.gz [--times 20] [--json]

The peer of the same run is a bare Python that imports the interpreter, loads the model and runs it once: what a
program without a spare process would take at the least. The Edge TPU is scripted: it takes `--coral-seconds` to load a
model, as libedgetpu does while it loads its firmware.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atoll_edge.agent import Agent
from atoll_edge.config import CameraConfig, DetectionConfig, EdgeConfig, HttpConfig, StreamConfig, WantedBackend
from atoll_edge.demo import free_ports
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.choose import BackendChoice
from atoll_edge.detector.backends.hardware import Accelerator
from atoll_edge.detector.client import WORKER_COMMAND, DetectorClient
from atoll_edge.detector.manager import DetectorManager
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.detector.pool import SPARE_SECONDS
from atoll_edge.models.bundle import bundle_spec, unpack
from atoll_edge.models.manager import FixedModelManager
from atoll_edge.models.sideload import import_bundle
from atoll_edge.robot.topics import detection_struct
from support import scripted_detector
from support.edge_robot import Robot
from support.polling import wait_until

CAMERA = "bench"
DRIPPING = 1200
# As systemd gives it to a service.
OPEN_FILES = 1024
SUPPORT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
WATCHED_SECONDS = 2.0
BARE = """
import sys, time
started = time.perf_counter()
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1], num_threads=1)
model.allocate_tensors()
given = model.get_input_details()[0]
model.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
model.invoke()
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("build/demo/model.tar.gz"))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--coral-seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = bundle_spec("bench", unpack(options.bundle, folder / "bundle"))
        rows = measured(model, options.times, options.coral_seconds, folder)
        rows["power-on without a network, model on the card: process start to first detections"] = [
            boot_seconds(options.bundle, folder / f"boot-{number}") for number in range(max(3, options.times // 4))
        ]
    print(json.dumps(rows) if options.json else table(rows))


def measured(model: LoadedModelSpec, times: int, coral_seconds: float, folder: Path) -> dict[str, list[float]]:
    """Seconds of each row."""
    rows = {"a bare interpreter: start, import, load, one frame (peer)": [bare_seconds(model) for _ in range(times)]}
    with running(model, DetectorManager(BackendChoice("cpu"), threads=1)) as run:
        rows["CPU: the detector is killed"] = losses(run, times, kill)
        with dripping(run.agent.server.port):
            name = f"CPU: the detector is killed while {DRIPPING:,} connections drip"
            rows[name] = losses(run, max(3, times // 4), kill)
        rows["CPU: the detector hangs (2 s are the watchdog's)"] = losses(run, max(3, times // 4), stop)
    script(folder, {"edgetpu": {"load_seconds": coral_seconds}})
    coral = replace(model, edgetpu_path=model.cpu_path)
    with running(coral, scripted_manager()) as run:
        rows[f"scripted Edge TPU, {coral_seconds:g} s to load: lost once"] = losses(run, max(3, times // 4), kill)
    rows["scripted Edge TPU: third loss within a minute, to the CPU"] = [
        to_the_cpu(coral, folder, coral_seconds) for _ in range(3)
    ]
    return rows


@contextmanager
def dripping(port: int) -> Iterator[None]:
    """Connections to the status page that never end, while this process may open as many files as a service."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, limits[1]))
    command = [sys.executable, "-P", "-m", "support.dripping_connections", str(port), str(DRIPPING)]
    flood = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=SUPPORT)
    try:
        assert flood.stdout is not None
        flood.stdout.readline()
        yield
    finally:
        flood.communicate()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def bare_seconds(model: LoadedModelSpec) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE, str(model.cpu_path)], check=True, capture_output=True, timeout=120)
    return time.perf_counter() - started


def script(folder: Path, entries: dict[str, Any]) -> None:
    """What the scripted backends do from now on."""
    path = folder / "script.json"
    path.write_text(json.dumps(entries))
    os.environ["EDGE_SCRIPT"] = str(path)


def scripted_manager() -> DetectorManager:
    """A scripted Edge TPU beside the real interpreter on the CPU."""

    def spawn(backend: Backend) -> DetectorClient:
        return DetectorClient(backend, command=WORKER_COMMAND if backend is Backend.CPU else scripted_detector.COMMAND)

    choice = BackendChoice("auto", lambda: (Accelerator(Backend.EDGETPU),))
    return DetectorManager(choice, threads=1, spawn=spawn, probe_allowed=lambda: False)


@dataclass(frozen=True)
class Running:
    """An agent; `received` gives the newest heartbeat and how many lists the robot got."""

    agent: Agent
    received: Callable[[], tuple[int, int]]


@contextmanager
def running(model: LoadedModelSpec, detector: DetectorManager) -> Iterator["Running"]:
    """The whole agent on a drawn scene, with a robot that reads every list."""
    robot = Robot()
    read = robot.tables.struct_array_queue(f"/Atoll/{CAMERA}/detections", detection_struct())
    beat = robot.tables.integer_reader(f"/Atoll/{CAMERA}/heartbeat", 0)
    lists = 0

    def received() -> tuple[int, int]:
        nonlocal lists
        lists += len(read())
        return beat(), lists

    agent = Agent(config(robot.port), lambda detector, *_: FixedModelManager(model, detector), detector=detector)
    agent.start()
    try:
        wait_until(lambda: agent.pipeline.results > 30 and received()[1], what="frames", timeout_seconds=120)
        yield Running(agent, received)
    finally:
        agent.stop()
        robot.close()


def config(nt_port: int) -> EdgeConfig:
    raw, marked, http = free_ports(3)
    return EdgeConfig(
        device="bench",
        nt_server=f"127.0.0.1:{nt_port}",
        camera=CameraConfig(name=CAMERA, path="synthetic", fps=30),
        detection=DetectionConfig(backend=WantedBackend.CPU, threads=1),
        streams=StreamConfig(raw_port=raw, annotated_port=marked),
        http=HttpConfig(port=http),
    )


def losses(run: Running, times: int, how: Callable[[int], None]) -> list[float]:
    """Seconds from each loss to the next answer, which is published at once. Each begins with the spare in place
    and the last ones forgotten, as a third loss within a minute is answered with a pause."""
    return [one_loss(run, how) for _ in range(times)]


def one_loss(run: Running, how: Callable[[int], None]) -> float:
    [detector] = run.agent.detector.members
    pipeline = run.agent.pipeline
    spare = wait_until(lambda: detector.spare_pid, what="the spare", timeout_seconds=SPARE_SECONDS + 60)
    wait_until(lambda: settled(spare), what="the spare's imports", timeout_seconds=60)
    detector._crashes._times.clear()
    before, (beat, lists), pid = pipeline.results, run.received(), detector.health.pid
    assert pid is not None
    started = time.monotonic()
    how(pid)
    silent = started
    while pipeline.results <= before + 1 or detector.health.pid == pid:
        now = time.monotonic()
        received = run.received()
        if received[0] > beat and received[1] > lists:
            (beat, lists), silent = received, now
        assert now - silent < WATCHED_SECONDS, "the robot received neither heartbeat nor list"
        assert now - started < 60, "the detector did not come back"
        time.sleep(0.005)
    return pipeline.result_at - started


def settled(pid: int) -> bool:
    """Whether a process sleeps, having done what it starts with."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def kill(pid: int) -> None:
    """As libedgetpu ends its process."""
    os.kill(pid, signal.SIGABRT)


def stop(pid: int) -> None:
    """A process that neither answers nor ends."""
    os.kill(pid, signal.SIGSTOP)


def to_the_cpu(model: LoadedModelSpec, folder: Path, coral_seconds: float) -> float:
    """Seconds from the third loss of the Edge TPU to the CPU's first answer."""
    script(folder, {"edgetpu": {"load_seconds": coral_seconds}})
    with running(model, scripted_manager()) as run:
        [detector] = run.agent.detector.members
        pipeline = run.agent.pipeline
        for number in range(3):
            wait_until(lambda: detector.serving, what="the Edge TPU", timeout_seconds=60)
            started, pid = time.monotonic(), detector.health.pid
            assert pid is not None
            kill(pid)
            wait_until(partial(lost, detector, number + 1), what="the loss", interval_seconds=0.002)
        wait_until(lambda: detector.health.fallen_back, what="the CPU", timeout_seconds=60, interval_seconds=0.002)
        before = pipeline.results
        wait_until(lambda: pipeline.results > before, what="an answer", interval_seconds=0.002)
        return pipeline.result_at - started


def lost(detector: DetectorManager, times: int) -> bool:
    return detector.health.losses >= times


def boot_seconds(bundle: Path, state: Path) -> float:
    """Seconds from the start of `atoll-edge run` to a list with what its model saw, at a robot; the store is out of
    reach, and the model is on the card."""
    from atoll_edge.models.release_store import ReleaseStore

    device = ReleaseStore(state)
    device.lock()
    import_bundle(bundle, device)
    device.unlock()
    robot = Robot()
    frames = robot.tables.struct_array_queue(f"/Atoll/{CAMERA}/detections", detection_struct())
    names = robot.tables.string_array_reader(f"/Atoll/{CAMERA}/labels")
    settings = state / "config.yaml"
    raw, marked, http = free_ports(3)
    settings.write_text(
        f"ntServer: '127.0.0.1:{robot.port}'\nstateDir: {state}\n"
        f"camera: {{name: {CAMERA}, path: synthetic}}\nhttp: {{port: {http}}}\n"
        f"streams: {{rawPort: {raw}, annotatedPort: {marked}}}\n"
        "model: {namespace: local, name: bench, verify: digest-only,"
        " store: {type: s3, bucket: frc, endpoint: 'http://127.0.0.1:9', anonymous: true}}\n"
    )
    command = [sys.executable, "-P", "-m", "atoll_edge.cli", "run", "--config", str(settings)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The labels are told with the first answer.
        wait_until(lambda: names() and frames(), what="detections", timeout_seconds=120, interval_seconds=0.005)
        return time.monotonic() - started
    finally:
        process.terminate()
        process.wait(10)
        robot.close()


def table(rows: dict[str, list[float]]) -> str:
    lines = ["| what | times | median s | longest s |", "|---|---|---|---|"]
    for name, values in rows.items():
        lines.append(f"| {name} | {len(values)} | {statistics.median(values):.2f} | {max(values):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
