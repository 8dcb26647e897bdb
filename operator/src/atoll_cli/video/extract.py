"""Extracts the frames worth labelling from videos, and reports what became of every other one."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_cli.video.reader import Sample, SampleReader, VideoFile
from atoll_cli.video.select import SampleFigures, SampleOutcome, SampleSelector, Selection, Thresholds, measure
from atoll_contract.text import csv_row

if TYPE_CHECKING:
    from av import VideoFrame

JPEG_QUALITY = 95

SUMMARY, TABLE = "frames.json", "frames.csv"
COLUMNS = ("video", "frame", "seconds", "fate", "blur", "change", "like", "file")


@dataclass(frozen=True)
class Layout:
    """Where images are written: below `images`, in a folder for each video unless `flat`."""

    images: Path
    flat: bool = False

    def path(self, video: VideoFile, number: int) -> Path:
        """The file of sample `number`."""
        folder = self.images if self.flat else self.images / video.name
        return folder / video.frame_name(number)


@dataclass(frozen=True)
class SampleReport:
    """One sample: its figures, the selection, and its file if it was kept."""

    sample: SampleFigures
    selection: Selection
    file: str = ""


@dataclass
class VideoReport:
    """What became of the frames of one video. A sample more blurred than `blur_limit` was dropped."""

    video: VideoFile
    decoded: int
    problem: str
    blur_limit: float
    samples: list[SampleReport] = field(default_factory=list)

    @property
    def passed_over(self) -> int:
        """The number of frames between the samples."""
        return self.decoded - len(self.samples)

    def count(self, outcome: SampleOutcome) -> int:
        return sum(item.selection.outcome is outcome for item in self.samples)


def extract(
    videos: Sequence[VideoFile],
    layout: Layout,
    *,
    rate: float,
    thresholds: Thresholds,
    advance: Callable[[], None] = lambda: None,
) -> list[VideoReport]:
    """Write the frames worth labelling, out of `rate` samples a second. `advance` is called after each sample that was
    read: twice for each in all.

    Each video is read twice, because blur is judged in comparison with all samples. A video that cannot be read, or not
    to its end, is no failure; its report has the problem.

    Raises:
        OSError: an image cannot be written, or a video changed meanwhile.
    """
    readers = [SampleReader(video.path, rate) for video in videos]
    measured = [[measure(sample) for sample in _counted(reader, advance)] for reader in readers]
    selector = SampleSelector(thresholds, measured)
    reports = []
    for video, reader, samples in zip(videos, readers, measured, strict=True):
        report = VideoReport(video, reader.decoded, reader.problem, selector.blur_limit(samples))
        for sample in samples:
            path = layout.path(video, sample.number)
            selection = selector.select(path.name, sample, blur_limit=report.blur_limit)
            kept = selection.outcome is SampleOutcome.KEPT
            file = path.relative_to(layout.images.parent).as_posix() if kept else ""
            report.samples.append(SampleReport(sample, selection, file))
        _write_images(report, layout, _counted(SampleReader(video.path, rate), advance))
        reports.append(report)
    return reports


def _counted(samples: Iterable[Sample], advance: Callable[[], None]) -> Iterator[Sample]:
    for sample in samples:
        yield sample
        advance()


def _write_images(report: VideoReport, layout: Layout, samples: Iterable[Sample]) -> None:
    kept = {item.sample.number for item in report.samples if item.file}
    for sample in samples:
        if not kept:
            return
        if sample.number in kept:
            kept.remove(sample.number)
            _save(sample.frame, layout.path(report.video, sample.number))
    if kept:
        # The report would name images that are not there.
        path, count = str(report.video.path), len(kept)
        raise OSError(
            errno.EIO, f"the video was read once and not a second time; {count} of its frames are missing", path
        )


def _save(frame: VideoFrame, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if frame.rotation:
        # A telephone stores frames unrotated, with their rotation; labelling tools must show them upright.
        image = image.rotate(frame.rotation, expand=True)
    image.save(path, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def summary(reports: Sequence[VideoReport], *, rate: float, thresholds: Thresholds) -> dict[str, object]:
    """The document frames.json: the settings, and the numbers of frames, in all and of each video."""
    return {
        "settings": {"rate": rate, "maxBlur": thresholds.blur, "minChange": thresholds.change},
        "total": _counts(reports),
        "videos": [
            {
                "name": report.video.name,
                "file": report.video.path.name,
                **_counts([report]),
                "blurLimit": round(report.blur_limit, 3),
                "problem": report.problem,
            }
            for report in reports
        ],
    }


def _counts(reports: Sequence[VideoReport]) -> dict[str, int]:
    """`frames` is the sum of the other four."""
    return {
        "frames": sum(report.decoded for report in reports),
        "betweenSamples": sum(report.passed_over for report in reports),
        "blurred": sum(report.count(SampleOutcome.BLURRED) for report in reports),
        "nearDuplicates": sum(report.count(SampleOutcome.DUPLICATE) for report in reports),
        "kept": sum(report.count(SampleOutcome.KEPT) for report in reports),
    }


def write_report(folder: Path, reports: Sequence[VideoReport], document: dict[str, object]) -> None:
    """Write frames.json, which is `document`, and frames.csv with each sample into `folder`."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(csv_row(_row(report.video, item)) for report in reports for item in report.samples)


def _row(video: VideoFile, item: SampleReport) -> tuple[object, ...]:
    sample, outcome, nearest = item.sample, item.selection.outcome, item.selection.nearest
    figures = (sample.index, f"{sample.seconds:.3f}", outcome, f"{sample.blur:.3f}")
    difference = ("", "") if nearest is None else (f"{nearest.change:.4f}", nearest.name)
    return (video.name, *figures, *difference, item.file)
