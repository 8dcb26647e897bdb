"""The edge against the bare interpreter on the same frames in one run, and what a robot feels of it.

    python tests/bench/edge_latency.py --bundle model.tar.gz [--frames 300] [--memory-frames 10000] [--json]

Rows: one frame of a camera by LiteRT alone (colour order, resize, invoke, read the outputs) and by the detector worker,
in turns, back to back and at a camera's 30 frames/s, and the processor's time for each of them, which other programs do
not lengthen; capture to published with a robot connected, and the same while ten greedy viewers watch; the longest gap
between two answers while another model takes over; resident memory of agent, detector and spare after the first 500
frames and at the end, and with two and four cameras.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atoll_edge.agent import Agent
from atoll_edge.camera.files import draw_scene
from atoll_edge.camera.source import FrameRateLimiter
from atoll_edge.config import CameraConfig, DetectionConfig, EdgeConfig, HttpConfig, StreamConfig, WantedBackend
from atoll_edge.demo import free_ports
from atoll_edge.detector.backends.base import Backend
from atoll_edge.detector.backends.litert import loader
from atoll_edge.detector.client import DetectorClient
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.bundle import bundle_spec, unpack
from atoll_edge.models.manager import FixedModelManager
from atoll_edge.robot.networktables import NetworkTables
from atoll_edge.throughput import KEPT_SAMPLES
from support.polling import wait_until

BgrImage = NDArray[uint8]

SETTLED = 500
VIEWERS = 10
CAMERAS = (2, 4)
VIEWED_TURNS = 3
SUPPORT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("build/demo/model.tar.gz"))
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--memory-frames", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = bundle_spec("bench", unpack(options.bundle, Path(folder) / "bundle"))
        figures = per_frame(model, options.frames) | in_service(model, options.memory_frames) | of_cameras(model)
    print(json.dumps(figures) if options.json else table(figures))


def per_frame(model: LoadedModelSpec, frames: int) -> dict[str, float]:
    """Median milliseconds of one frame, bare and through the child, measured alternately."""
    assert model.cpu_path is not None
    bare = loader().load(model.cpu_path, threads=1)
    client = DetectorClient(Backend.CPU)
    found: dict[str, float] = {}
    try:
        client.begin_load(str(model.cpu_path), threads=1)
        wait_until(lambda: client.finished_loads(0.1), what="the load", timeout_seconds=60)
        for name, fps in (("backToBack", 100_000.0), ("at30Fps", 30.0)):
            found |= in_turns(
                name, FrameRateLimiter(fps), lambda image: bare.detect(as_image(image)), client.detect, frames
            )
        found |= processor(lambda image: bare.detect(as_image(image)), client, frames)
    finally:
        client.close()
    return found


def in_turns(
    name: str,
    limiter: FrameRateLimiter,
    bare: Callable[[BgrImage], object],
    child: Callable[[BgrImage], object],
    frames: int,
) -> dict[str, float]:
    """Median milliseconds of both, and their ratio; each frame goes to one after the other, at the limiter's rate."""
    times: dict[str, list[float]] = {"BareMillis": [], "ChildMillis": []}
    for number in range(frames):
        image = draw_scene(320, 240, number)
        for row, work in (("BareMillis", bare), ("ChildMillis", child)):
            limiter.wait(1.0)
            times[row].append(millis(functools.partial(work, image)))
    medians = {name + row: round(statistics.median(values), 3) for row, values in times.items()}
    return {**medians, f"{name}Ratio": round(medians[f"{name}ChildMillis"] / medians[f"{name}BareMillis"], 3)}


def processor(bare: Callable[[BgrImage], object], client: DetectorClient, frames: int) -> dict[str, float]:
    """Milliseconds of the processor for a frame, of this process and of the child, and their ratio."""
    images = [draw_scene(320, 240, number) for number in range(frames)]
    started = time.process_time()
    for image in images:
        bare(image)
    alone = (time.process_time() - started) * 1000 / frames
    started, before = time.process_time(), on_processor(client.pid)
    for image in images:
        client.detect(image)
    both = (time.process_time() - started + on_processor(client.pid) - before) * 1000 / frames
    figures = {"processorBareMillis": alone, "processorChildMillis": both, "processorRatio": both / alone}
    return {name: round(value, 3) for name, value in figures.items()}


def on_processor(pid: int) -> float:
    """Seconds that all threads of a process ran."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def as_image(image: BgrImage) -> Image.Image:
    """A camera's frame as the resize takes it."""
    return Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def millis(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def in_service(model: LoadedModelSpec, frames: int) -> dict[str, float]:
    """The whole agent with a robot connected: latency, swap, memory."""
    with running(model, 1) as agent:
        wait_until(lambda: agent.pipeline.results > SETTLED, what="frames", timeout_seconds=600)
        first = memory(agent)
        latency = agent.pipeline.latency.quantiles()
        viewed = with_viewers(agent, agent.config.cameras[0].annotated_port or 0)
        gap = swap_gap(agent, model)
        wait_until(lambda: agent.pipeline.results >= frames, what="frames", timeout_seconds=3600, interval_seconds=1)
        last = memory(agent)
    return {
        "captureToPublishedP50Millis": latency.p50 or 0.0,
        "captureToPublishedP95Millis": latency.p95 or 0.0,
        **viewed,
        "swapGapMillis": gap,
        "memoryFrames": frames,
        "residentMiBAtStart": first,
        "residentMiBAtEnd": last,
    }


@contextmanager
def running(model: LoadedModelSpec, cameras: int) -> Iterator[Agent]:
    """An agent with so many synthetic cameras at 30 frames/s, and a robot."""
    tables, http, *ports = free_ports(2 + 2 * cameras)
    robot = NetworkTables("robot")
    robot.start_server("127.0.0.1", tables)
    config = EdgeConfig(
        device="bench",
        nt_server=f"127.0.0.1:{tables}",
        cameras=tuple(
            CameraConfig(name=f"bench{number}", path="synthetic", fps=30, raw_port=raw, annotated_port=annotated)
            for number, (raw, annotated) in enumerate(zip(ports[::2], ports[1::2], strict=True))
        ),
        detection=DetectionConfig(backend=WantedBackend.CPU, threads=1),
        streams=StreamConfig(),
        http=HttpConfig(port=http),
    )
    agent = Agent(config, lambda detector, *_: FixedModelManager(model, detector))
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()
        robot.close()


def of_cameras(model: LoadedModelSpec) -> dict[str, float]:
    """Memory with several cameras, the rate of all together, and the share of the one that gets least."""
    found: dict[str, float] = {}
    for count in CAMERAS:
        with running(model, count) as agent:
            wait_until(lambda a=agent: min(results(a)) > SETTLED // 5, what="frames", timeout_seconds=600)  # type: ignore[misc]
            found |= shares(agent)
    return found


def shares(agent: Agent) -> dict[str, float]:
    count, before, started = len(agent.pipelines), results(agent), time.monotonic()
    wait_until(lambda: sum(results(agent)) - sum(before) > SETTLED, what="frames", timeout_seconds=600)
    seconds = time.monotonic() - started
    each = [now - earlier for now, earlier in zip(results(agent), before, strict=True)]
    return {
        f"residentMiBOf{count}Cameras": memory(agent),
        f"framesPerSecondOf{count}Cameras": round(sum(each) / seconds, 1),
        f"leastShareOf{count}Cameras": round(min(each) * count / sum(each), 3),
    }


def results(agent: Agent) -> list[int]:
    return [pipeline.results for pipeline in agent.pipelines]


def with_viewers(agent: Agent, port: int) -> dict[str, float]:
    """The 95th percentile of capture to published without and with viewers, in turns, and what the viewers get."""
    p95: dict[bool, list[float]] = {False: [], True: []}
    megabits = []
    for _ in range(VIEWED_TURNS):
        p95[False].append(settled_p95(agent))
        command = [sys.executable, "-P", "-m", "support.greedy_viewers", str(port), str(VIEWERS)]
        started = time.monotonic()
        viewers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=SUPPORT)
        p95[True].append(settled_p95(agent))
        answer, _ = viewers.communicate()
        megabits.append(int(answer) * 8e-6 / (time.monotonic() - started))
    alone, viewed = (statistics.median(values) for values in p95.values())
    return {
        "viewersP95Millis": round(viewed, 3),
        "viewersP95Ratio": round(viewed / alone, 3),
        "viewersMegabitsPerSecond": round(statistics.median(megabits), 2),
    }


def settled_p95(agent: Agent) -> float:
    """The 95th percentile over the frames from now on."""
    after = agent.pipeline.results + KEPT_SAMPLES
    wait_until(lambda: agent.pipeline.results > after, what="frames", timeout_seconds=600)
    return agent.pipeline.latency.quantiles().p95 or 0.0


def swap_gap(agent: Agent, model: LoadedModelSpec) -> float:
    """The longest time between two answers while a model is loaded beside the running one and takes over."""
    agent.pipeline.longest_gap = 0.0
    agent.detector.request(model).result(timeout=60)
    after = agent.pipeline.results + 30
    wait_until(lambda: agent.pipeline.results > after, what="frames after the swap", timeout_seconds=60)
    return round(agent.pipeline.longest_gap * 1000, 1)


def memory(agent: Agent) -> float:
    """Resident MiB of agent, detector and spare detector."""
    total = 0
    pids = [str(pid) for pid in (agent.detector.health.pid, agent.detector.spare_pid) if pid is not None]
    for process in ("self", *pids):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return round(total / 1024, 1)


def table(figures: dict[str, float]) -> str:
    return "\n".join(["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())])


if __name__ == "__main__":
    main()
