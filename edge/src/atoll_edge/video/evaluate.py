"""Evaluates a model on video files: writes annotated videos, a table of detections, a contact sheet and a summary.

Decoding, detection, and drawing with encoding run at once, in different threads, and keep the order of the frames.
LiteRT, FFmpeg and OpenCV release Python's lock while they work, so that the threads share the machine's cores.
"""

import csv
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage_result import Progress, emit
from atoll_contract.text import csv_row
from atoll_edge.detector.backends.base import LoadedModel
from atoll_edge.detector.backends.litert import InterpreterPool
from atoll_edge.detector.letterbox import with_resize
from atoll_edge.detector.model import DEFAULT_THRESHOLD, LoadedModelSpec
from atoll_edge.detector.tiling import TiledModel, Tiling
from atoll_edge.harvest.uncertainty import nearest_threshold, score_margin
from atoll_edge.robot.detection import Observation, View, observe
from atoll_edge.robot.lens import FieldOfView
from atoll_edge.system import cores
from atoll_edge.video.contact_sheet import UncertainFrame, UncertainFrames, thumbnail, write_contact_sheet
from atoll_edge.video.files import DecodedFrame, Mp4Writer, VideoFile
from atoll_edge.video.overlay import annotated

TABLE, CONTACT_SHEET, SUMMARY = "detections.csv", "least-certain.jpg", "summary.json"
COLUMNS = ("video", "frame", "seconds", "label", "score", "xmin", "ymin", "xmax", "ymax")
CONTACT_SHEET_FRAMES = 12
PROGRESS_SECONDS = 1.0
MAX_WORKERS = 8
# How many more frames than threads wait between two steps: enough to bridge a slow one, with little memory.
WAITING = 4
# A score farther than this from its threshold is certain.
UNCERTAIN_BAND = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")


def evaluate_videos(
    model: LoadedModelSpec, videos: Sequence[VideoFile], output: Path, *, tiling: Tiling | None = None
) -> dict[str, Any]:
    """Runs the model on the videos, writes all files into the folder `output`, and returns the summary. With `tiling`
    the model is shown the tiles of each frame, too.

    Raises:
        DatasetError: no video can be read.
        LoadError: LiteRT cannot run the model.
        OSError: a file cannot be written.
    """
    if all(video.problem for video in videos):
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {_problems(videos)}")
    evaluation = Evaluation(VideoDetector(model, workers=min(MAX_WORKERS, cores()), tiling=tiling), videos, output)
    started = time.monotonic()
    with (output / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        summaries = [evaluation.run(video, table) for video in videos]
    elapsed = time.monotonic() - started
    frames = sum(summary["frames"] for summary in summaries)
    if not frames:
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {_problems(videos)}")
    document = {
        "model": _model_summary(model),
        **({"tiles": f"{tiling.rows}x{tiling.columns}"} if tiling else {}),
        "videos": summaries,
        "leastCertain": evaluation.write_contact_sheet(),
        "speed": {"wallSeconds": round(elapsed, 2), "framesPerSecond": round(frames / elapsed, 1)},
    }
    (output / SUMMARY).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return document


@dataclass
class Evaluation:
    """The evaluation of several videos: its progress, and the least certain frames of all of them."""

    detector: "VideoDetector"
    videos: Sequence[VideoFile]
    output: Path

    def __post_init__(self) -> None:
        self._uncertain = UncertainFrames()
        self._expected = sum(video.expected for video in self.videos)
        self._done = 0
        self._started = self._reported_at = time.monotonic()

    def run(self, video: VideoFile, table: Any) -> dict[str, Any]:
        """Evaluates one video, writes its detections to the csv writer `table`, and returns its part of the summary."""
        counts = DetectionCounts(self.detector.model.labels)
        target = self.output / f"{video.name}.mp4"
        size, unnamed = (0, 0), 0
        with closing(self.detector.run(video, target)) as results:
            for result in results:
                height, width = result.frame.image.shape[:2]
                size = (width, height)
                table.writerows(map(csv_row, _rows(video.name, result)))
                counts.add(result.frame.seconds, result.seen)
                unnamed += result.unnamed
                self._keep_uncertain(video.name, result)
                self._done += 1
                self._report_progress(video)
        return {
            "name": video.name,
            "file": video.path.name,
            "annotated": target.name if counts.frames else None,
            "width": size[0],
            "height": size[1],
            "problem": video.problem,
            "unnamedDetections": unnamed,
            **counts.document(),
        }

    def write_contact_sheet(self) -> list[dict[str, Any]]:
        """Writes the contact sheet if there is an uncertain frame, and returns the list of its frames."""
        selected = self._uncertain.select(CONTACT_SHEET_FRAMES)
        if selected:
            title = f"{self.detector.model.name}: the frames with a score nearest its threshold"
            write_contact_sheet(self.output / CONTACT_SHEET, selected, title)
        return [
            {
                "video": item.video,
                "frame": item.frame,
                "seconds": round(item.seconds, 3),
                "label": item.nearest.label,
                "score": round(item.nearest.score, 4),
            }
            for item in selected
        ]

    def _keep_uncertain(self, video: str, result: "FrameResult") -> None:
        nearest, frame = result.nearest, result.frame
        if nearest is None:
            return
        margin = score_margin(nearest, self.detector.model.thresholds)
        if self._uncertain.wants(video, frame.seconds, margin):
            image = thumbnail(frame.image)
            self._uncertain.add(UncertainFrame(video, frame.number, frame.seconds, margin, nearest, result.seen, image))

    def _report_progress(self, video: VideoFile) -> None:
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_SECONDS:
            return
        self._reported_at = now
        rate = self._done / (now - self._started)
        share = min(1.0, self._done / self._expected) if self._expected else 0.0
        left = (self._expected - self._done) / rate if self._expected > self._done else None
        message = f"{video.name}: {rate:.0f} frames/s"
        emit(Progress(100 * share, message=message, pictures=self._done, eta_seconds=left), sys.stderr)


@dataclass(frozen=True)
class FrameResult:
    """The result for one frame: the seen observations, and the one nearest its threshold within UNCERTAIN_BAND.

    `unnamed` counts confident detections of classes that the label map lacks: it belongs to another model.
    """

    frame: DecodedFrame
    seen: tuple[Observation, ...]
    nearest: Observation | None
    unnamed: int


class VideoDetector:
    """Runs one model on videos, one after the other.

    Raises:
        LoadError: LiteRT cannot load the model.
    """

    def __init__(self, model: LoadedModelSpec, *, workers: int, tiling: Tiling | None) -> None:
        assert model.cpu_path is not None
        self.model = model

        def wrapped(one: LoadedModel) -> LoadedModel:
            whole = with_resize(one, model.resize)
            return whole if tiling is None else TiledModel(whole, tiling)

        self._pool = InterpreterPool(model.cpu_path, workers=workers, wrap=wrapped)

    def run(self, video: VideoFile, target: Path) -> Generator[FrameResult]:
        """Yields the result of each frame; the annotated video is in `target` once the last was yielded.

        A video that cannot be read gives no frame and no file; `video.problem` says why.

        Raises:
            LoadError: the model's outputs are not those of a detector.
            OSError: the annotated video cannot be written.
        """
        frames = iter(video)
        first = next(frames, None)
        if first is None:
            return
        height, width = first.image.shape[:2]
        with Mp4Writer(target, width=width, height=height, rate=video.rate) as writer:

            def write(result: FrameResult) -> FrameResult:
                footer = f"{self.model.name}  frame {result.frame.number}"
                writer.add(annotated(result.frame.image, result.seen, footer), result.frame.seconds)
                return result

            results = in_order(self._detect, chain([first], frames), workers=self._pool.workers)
            yield from in_order(write, results, workers=1)

    def _detect(self, frame: DecodedFrame) -> FrameResult:
        model = self.model
        floor = tuple(limit - UNCERTAIN_BAND for limit in model.thresholds)
        found = self._pool.detect(frame.image).detections
        candidates = observe(found, labels=model.labels, thresholds=floor, view=View(FieldOfView()))
        seen = tuple(item for item in candidates if item.score >= model.thresholds[item.class_id])
        unnamed = sum(item.class_id >= len(model.labels) and item.score >= DEFAULT_THRESHOLD for item in found)
        return FrameResult(frame, seen, nearest_threshold(candidates, model.thresholds, band=UNCERTAIN_BAND), unnamed)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Yields `work(item)` for each item, in their order, computed in `workers` threads a few items ahead.

    Raises what `work` or the iteration raises; items that were taken ahead are then dropped.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= workers + WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class DetectionCounts:
    """Counts of one video, in all and per second. `frames_with` counts the frames in which a class occurs."""

    labels: Sequence[str]
    frames: int = 0
    seconds: float = 0.0
    frames_in: Counter[int] = field(default_factory=Counter)
    seen_in: dict[int, Counter[str]] = field(default_factory=dict)
    frames_with: Counter[str] = field(default_factory=Counter)

    def add(self, seconds: float, seen: Sequence[Observation]) -> None:
        """Counts a frame, `seconds` after the first."""
        second = int(seconds)
        self.frames += 1
        self.seconds = seconds
        self.frames_in[second] += 1
        self.seen_in.setdefault(second, Counter()).update(item.label for item in seen)
        self.frames_with.update({item.label for item in seen})

    def document(self) -> dict[str, Any]:
        """Returns the counts for `summary.json`: of each class, and of each second that has frames."""
        totals = sum(self.seen_in.values(), Counter[str]())
        # A frame lasts until the next one; the last as long as the others did on average.
        length = self.seconds * self.frames / (self.frames - 1) if self.frames > 1 else 0.0
        return {
            "frames": self.frames,
            "seconds": round(length, 3),
            "frameRate": round(self.frames / length, 3) if length else None,
            "perClass": {
                label: {
                    "detections": totals[label],
                    "frames": self.frames_with[label],
                    "perSecond": round(totals[label] / length, 2) if length else None,
                }
                for label in self.labels
                if totals[label]
            },
            "perSecond": [
                {"second": second, "frames": self.frames_in[second], "detections": dict(self.seen_in[second])}
                for second in sorted(self.frames_in)
            ],
        }


def _rows(video: str, result: FrameResult) -> Iterator[tuple[object, ...]]:
    height, width = result.frame.image.shape[:2]
    for item in result.seen:
        box = (item.xmin * width, item.ymin * height, item.xmax * width, item.ymax * height)
        corners = (f"{value:.1f}" for value in box)
        yield (video, result.frame.number, f"{result.frame.seconds:.3f}", item.label, f"{item.score:.4f}", *corners)


def _model_summary(model: LoadedModelSpec) -> dict[str, Any]:
    thresholds = dict(zip(model.labels, model.thresholds, strict=True))
    return {"name": model.name, "digest": model.digest, "labels": list(model.labels), "thresholds": thresholds}


def _problems(videos: Sequence[VideoFile]) -> str:
    return "; ".join(f"{video.path}: {video.problem}" for video in videos)
