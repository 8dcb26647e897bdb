"""`python -m atoll_edge.demo`: runs an agent on a bundle and a few images, with a robot's server and a client."""

import argparse
import logging
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_contract.archive.extract import extract
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import AtollError
from atoll_contract.text import table_cell
from atoll_edge.agent import Agent
from atoll_edge.camera.files import SUFFIXES, SourceError
from atoll_edge.config import CameraConfig, DetectionConfig, EdgeConfig, HttpConfig, StreamConfig
from atoll_edge.detector.model import LoadedModelSpec
from atoll_edge.models.bundle import BundleError, bundle_spec, unpack
from atoll_edge.models.manager import FixedModelManager
from atoll_edge.robot.networktables import NetworkTables, Server
from atoll_edge.robot.topics import detection_struct

CAMERA = "demo"
STREAM_SECONDS = 20.0
BLOCK = 1024
MAX_JPEG = 4 * 2**20
JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
MAX_IMAGES = 200


@dataclass(frozen=True)
class Ports:
    tables: int
    raw: int
    annotated: int
    http: int


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="atoll-edge-demo-") as folder:
            bundle = unpack(options.bundle, Path(folder) / "bundle")
            images = image_folder(options.pictures, Path(folder) / "pictures")
            model = bundle_spec(options.bundle.name.removesuffix(".tar.gz"), bundle)
            return run(model, images, options)
    except (BundleError, SourceError, AtollError) as error:
        print(f"edge-demo: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll_edge.demo", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="model.tar.gz of a run")
    parser.add_argument("--pictures", type=Path, required=True, help="archive or folder of pictures")
    parser.add_argument("--min-score", type=float, default=0.3, help="score from which a detection is published")
    parser.add_argument("--frames", type=int, default=5, help="how many frames with detections are printed")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to wait for detections")
    parser.add_argument("--keep", action="store_true", help="go on until Ctrl-C, to look at streams and page")
    return parser


def run(model: LoadedModelSpec, images: Path, options: argparse.Namespace) -> int:
    """Starts everything, prints what happens, stops everything."""
    ports = Ports(*free_ports(4))
    with ExitStack() as cleanup:
        robot = NetworkTables("demo-robot")
        robot.start_server("127.0.0.1", ports.tables)
        cleanup.callback(robot.close)
        print(f"robot    NetworkTables server (NT4) on 127.0.0.1:{ports.tables}")
        client = RobotClient(ports.tables, CAMERA)
        cleanup.callback(client.close)
        config = demo_config(ports, images, options.min_score)
        agent = Agent(config, lambda detector, *_: FixedModelManager(model, detector))
        cleanup.callback(agent.stop)
        agent.start()
        print_addresses(model, images, ports)
        result = print_results(client, agent, ports, options)
        if result == 0 and options.keep:
            print("Open the page or a stream in a browser; Ctrl-C ends it", flush=True)
            wait_for_interrupt()
        elif result == 0:
            print("To look at page and streams in a browser: make edge-demo KEEP=1")
    return result


def print_addresses(model: LoadedModelSpec, images: Path, ports: Ports) -> None:
    count = sum(1 for _ in images.iterdir())
    print(f"edge     {model.name}, classes {table_cell(', '.join(model.labels))}; {count} pictures as a camera")
    print(f"         annotated {stream_url(ports.annotated)}")
    print(f"         raw       {stream_url(ports.raw)}")
    print(f"         page      http://localhost:{ports.http}/", flush=True)


def print_results(client: "RobotClient", agent: Agent, ports: Ports, options: argparse.Namespace) -> int:
    """Prints what client, viewer and status page get; returns 1 if the client or the viewer gets nothing."""
    if print_detections(client, options.frames, options.seconds) == 0:
        print(f"client   no detection within {options.seconds:g} s", file=sys.stderr)
        print(f"         the edge says: {agent.manager.model_status()}", file=sys.stderr)
        return 1
    image = first_image(ports.annotated)
    if image is None:
        print("viewer   the annotated stream gives no picture", file=sys.stderr)
        return 1
    print(f"viewer   the annotated stream gives pictures: the first is a JPEG of {len(image) / 1000:.1f} kB")
    status = agent.status.status()
    print(
        f"edge     {status.fps:.0f} frames/s on {status.detector.backend}, inference "
        f"{status.detector.inference_millis.p50} ms, capture to published {status.latency_millis.p50} ms (medians)"
    )
    return 0


def stream_url(port: int) -> str:
    return f"http://localhost:{port}/?action=stream"


def first_image(port: int) -> bytes | None:
    """Returns the first image of the MJPEG stream on a port; None if none comes."""
    url = f"http://localhost:{port}/?action=stream"
    data = b""
    try:
        with urllib.request.urlopen(url, timeout=STREAM_SECONDS) as stream:
            while JPEG_END not in data and len(data) < MAX_JPEG and (block := stream.read(BLOCK)):
                data += block
    except OSError:
        return None
    start, end = data.find(JPEG_START), data.find(JPEG_END)
    return None if start < 0 or end < start else data[start : end + len(JPEG_END)]


def print_detections(client: "RobotClient", frames: int, seconds: float) -> int:
    """Prints frames with detections as the client gets them; returns their number."""
    deadline = time.monotonic() + seconds
    printed = 0
    while printed < frames and time.monotonic() < deadline:
        frame = client.next_with_detections(0.5)
        if frame is not None:
            printed += 1
            print(describe(frame), flush=True)
    return printed


def describe(frame: "ReceivedFrame") -> str:
    """Describes a frame in one line: labels, scores, and boxes in percent of the frame."""
    boxes = "; ".join(
        f"{label} {item.score:.0%} x {item.xmin:.0%}-{item.xmax:.0%} y {item.ymin:.0%}-{item.ymax:.0%}"
        for label, item in frame.detections[:3]
    )
    more = f"; +{len(frame.detections) - 3} more" if len(frame.detections) > 3 else ""
    return f"client   /Atoll/{CAMERA}/detections at {frame.time_us / 1e6:.3f} s: {boxes}{more}"


def demo_config(ports: Ports, images: Path, min_score: float) -> EdgeConfig:
    return EdgeConfig(
        device="demo",
        nt_server=f"127.0.0.1:{ports.tables}",
        camera=CameraConfig(name=CAMERA, path=str(images), fps=10),
        detection=DetectionConfig(min_score=min_score),
        streams=StreamConfig(raw_port=ports.raw, annotated_port=ports.annotated, width=640, height=480),
        http=HttpConfig(port=ports.http),
    )


def image_folder(source: Path, folder: Path) -> Path:
    """Returns a folder of images: `source` itself, or `folder` with the images of the archive `source`.

    Raises:
        SourceError: there is no image.
    """
    if source.is_dir():
        return source
    if not source.is_file():
        raise SourceError(f"there is no archive or folder {source}; name one with --pictures")
    kept = 0
    with extract(source, folder / "members", DatasetLimits(archive_bytes=2**30, expanded_bytes=2**31)) as members:
        for member in members.with_suffix(*sorted(SUFFIXES)):
            if kept == MAX_IMAGES:
                break
            (folder / f"{kept:05d}{Path(member.base).suffix.lower()}").write_bytes(member.read())
            kept += 1
    if not kept:
        raise SourceError(f"{source} holds no picture ({', '.join(sorted(SUFFIXES))})")
    # The source would skip this folder; it is removed so that the printed count is right.
    shutil.rmtree(folder / "members")
    return folder


def free_ports(count: int) -> list[int]:
    """Returns ports that are free now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass(frozen=True)
class ReceivedFrame:
    """Labels and detection structs of one frame; `time_us`: its capture, in microseconds of the server's clock."""

    time_us: int
    detections: tuple[tuple[str, Any], ...]


class RobotClient:
    """Reads `/Atoll/<camera>` from a server on this machine, as robot code does."""

    def __init__(self, port: int, camera: str) -> None:
        self._tables = NetworkTables("demo-client")
        self._frames = self._tables.struct_array_queue(f"/Atoll/{camera}/detections", detection_struct())
        self._labels = self._tables.string_array_reader(f"/Atoll/{camera}/labels")
        self._tables.start_client(Server(host="127.0.0.1", port=port))

    def next_with_detections(self, timeout_seconds: float) -> ReceivedFrame | None:
        """Returns the next frame with detections, or None."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            for time_us, values in self._frames():
                if values and (labels := dict(enumerate(self._labels()))):
                    named = ((labels.get(value.class_id, str(value.class_id)), value) for value in values)
                    return ReceivedFrame(time_us, tuple(named))
            time.sleep(0.02)
        return None

    def close(self) -> None:
        self._tables.close()


def wait_for_interrupt() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
