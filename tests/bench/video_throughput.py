"""`atoll test-video` beside the bare interpreter, on the same 640×480 frames in the same run.

    python tests/bench/video_throughput.py [--frames 600] [--rounds 3] [--json]

The model has the real architecture at width 1.0 and 320 pixels, with random weights: speed does not depend on their
values, but for the post-processing, which has as many candidates as the threshold lets through. Rows: LiteRT with one
thread and with one for each core, on frames that lie decoded in memory (squash, invoke, read the outputs); the
program behind `test-video` on the file: decode, squash, invoke, read, draw, encode, write. In turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atoll_contract.labelmap import format_label_map
from atoll_edge.detector.backends.litert import loader
from atoll_stages.sample.views import still
from support.detector_file import CLASSES, detector_file
from support.videos import Picture, read_video, write_video

WIDTH, HEIGHT, RATE = 640, 480, 30
FRAMES_OF_ONE = 60


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = compared(Path(folder), options.frames, options.rounds)
    print(json.dumps(figures) if options.json else table(figures))


def compared(folder: Path, frames: int, rounds: int) -> dict[str, float]:
    """Median frames per second of each, over rounds in which they take turns."""
    film = write_video(folder / "film.mp4", pictures(frames), rate=RATE)
    decoded = [Image.fromarray(picture) for _, picture in read_video(film)]
    labels = folder / "map.pbtxt"
    labels.write_text(format_label_map(CLASSES))
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        rates["bareOneThread"].append(bare(decoded, threads=1))
        rates["bareAllCores"].append(bare(decoded, threads=cores))
        whole, working, spent = tried(film, labels, folder / f"out-{number}", frames)
        rates["testVideo"].append(working)
        rates["testVideoWhole"].append(whole)
        rates["cpuMillisPerFrame"].append(spent)
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    ratio = round(medians["testVideo"] / medians["bareAllCores"], 3)
    return {**medians, "ratio": ratio, "timesRealTime": round(medians["testVideo"] / RATE, 2), "cores": cores}


def pictures(count: int) -> Iterator[Picture]:
    """A camera that glides over the sample's pictures, two seconds over each."""
    for start in range(0, count, FRAMES_OF_ONE):
        wide = still(0, start // FRAMES_OF_ONE, (2 * WIDTH, 2 * HEIGHT)).pixels
        for step in range(min(FRAMES_OF_ONE, count - start)):
            x, y = WIDTH * step // FRAMES_OF_ONE, HEIGHT * step // FRAMES_OF_ONE
            yield np.ascontiguousarray(wide[y : y + HEIGHT, x : x + WIDTH])


def bare(decoded: Sequence[Image.Image], *, threads: int) -> float:
    """Frames per second of the interpreter alone."""
    model = loader().load(detector_file(), threads=threads)
    model.detect(decoded[0])
    return len(decoded) / seconds(lambda: [model.detect(picture) for picture in decoded])


def tried(film: Path, labels: Path, output: Path, frames: int) -> tuple[float, float, float]:
    """Frames per second of the whole program with its start, and of its work on the video; CPU milliseconds a frame."""
    output.mkdir()
    named = ["--model", str(detector_file()), "--labels", str(labels), "--film", "film", str(film)]
    command = [sys.executable, "-P", "-m", "atoll_edge.video", *named, "--output", str(output)]
    before = os.times()
    whole = seconds(lambda: subprocess.run(command, check=True, capture_output=True, timeout=1200))
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    speed = json.loads((output / "summary.json").read_text())["speed"]
    return frames / whole, float(speed["framesPerSecond"]), 1000 * spent / frames


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(figures: dict[str, float]) -> str:
    reference = figures["bareAllCores"]
    rows = (
        ("bare interpreter, 1 thread", "bareOneThread"),
        (f"bare interpreter, {figures['cores']:.0f} threads", "bareAllCores"),
        ("test-video, its work on the video", "testVideo"),
        ("test-video, with its start", "testVideoWhole"),
    )
    lines = [f"| {name} | {figures[key]:.1f} | {figures[key] / reference:.2f} |" for name, key in rows]
    note = f"test-video took {figures['cpuMillisPerFrame']:.1f} ms of CPU time a frame; {figures['cores']:.0f} cores"
    return "\n".join(["| 640×480, width 1.0, 320 pixels | frames/s | ratio |", "|---|---:|---:|", *lines, "", note])


if __name__ == "__main__":
    main()
