"""A model on some videos: annotated films, the table, the summary and the sheet of the least certain frames."""

import csv
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_contract.errors import DatasetError
from atoll_contract.progress import Progress, emit
from atoll_contract.reasons import Reason
from atoll_edge.models.served import ServedModel
from atoll_edge.video.doubt import Doubt, DoubtfulMoments, distance
from atoll_edge.video.film import Film
from atoll_edge.video.sheet import thumbnail, write_sheet
from atoll_edge.video.tally import Tally
from atoll_edge.video.trial import Look, Trial

TABLE, SHEET, SUMMARY = "detections.csv", "least-certain.jpg", "summary.json"
COLUMNS = ("video", "frame", "seconds", "label", "score", "xmin", "ymin", "xmax", "ymax")
SHOWN_DOUBTS = 12
TELL_SECONDS = 1.0
MOST_WORKERS = 8


def try_films(model: ServedModel, films: Sequence[Film], output: Path) -> dict[str, Any]:
    """Run the model on the films, write everything into `output`, and say what `summary.json` says.

    Raises:
        DatasetError: no film could be read.
        LoadError: the model is none that LiteRT runs.
        OSError: something cannot be written.
    """
    if all(film.problem for film in films):
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {_problems(films)}")
    session = Session(Trial(model, workers=workers()), films, output)
    started = time.monotonic()
    with _table(output / TABLE) as rows:
        videos = [session.run(film, rows) for film in films]
    elapsed = time.monotonic() - started
    frames = sum(video["frames"] for video in videos)
    if not frames:
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {_problems(films)}")
    document = {
        "model": _description(model),
        "videos": videos,
        "leastCertain": session.write_sheet(),
        "speed": {"wallSeconds": round(elapsed, 2), "framesPerSecond": round(frames / elapsed, 1)},
    }
    (output / SUMMARY).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return document


def workers() -> int:
    """An interpreter for each core: decoding and encoding take what it leaves."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, cores)


@dataclass
class Session:
    """The films of one call: what is told while they are worked on, and the doubtful moments of all of them."""

    trial: Trial
    films: Sequence[Film]
    output: Path

    def __post_init__(self) -> None:
        self._doubts = DoubtfulMoments()
        self._expected = sum(film.expected for film in self.films)
        self._done = 0
        self._started = self._told = time.monotonic()

    def run(self, film: Film, rows: Any) -> dict[str, Any]:
        """One video; its part of the summary."""
        tally = Tally(self.trial.model.labels)
        target = self.output / f"{film.name}.mp4"
        size, unnamed = (0, 0), 0
        with closing(self.trial.run(film, target)) as looks:
            for look in looks:
                height, width = look.frame.picture.shape[:2]
                size = (width, height)
                rows.writerows(_rows(film.name, look))
                tally.add(look.frame.seconds, look.seen)
                unnamed += look.unnamed
                self._doubt(film.name, look)
                self._done += 1
                self._tell(film)
        file = target.name if tally.frames else None
        about = {"name": film.name, "file": film.path.name, "annotated": file, "width": size[0], "height": size[1]}
        return {**about, "problem": film.problem, "unnamedDetections": unnamed, **tally.document()}

    def write_sheet(self) -> list[dict[str, Any]]:
        """Write the contact sheet, if there is a doubtful frame at all; the frames on it."""
        chosen = self._doubts.chosen(SHOWN_DOUBTS)
        if chosen:
            title = f"{self.trial.model.name}: the frames with a score nearest its threshold"
            write_sheet(self.output / SHEET, chosen, title)
        return [
            {
                "video": item.video,
                "frame": item.frame,
                "seconds": round(item.seconds, 3),
                "label": item.nearest.label,
                "score": round(item.nearest.score, 4),
            }
            for item in chosen
        ]

    def _doubt(self, video: str, look: Look) -> None:
        nearest, frame = look.nearest, look.frame
        if nearest is None:
            return
        away = distance(self.trial.model.thresholds, nearest)
        if self._doubts.wants(video, frame.seconds, away):
            picture = thumbnail(frame.picture)
            self._doubts.add(Doubt(video, frame.number, frame.seconds, away, nearest, look.seen, picture))

    def _tell(self, film: Film) -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        rate = self._done / (now - self._started)
        share = min(1.0, self._done / self._expected) if self._expected else 0.0
        left = (self._expected - self._done) / rate if self._expected > self._done else None
        words = f"{film.name}: {rate:.0f} frames/s"
        emit(Progress(100 * share, message=words, pictures=self._done, eta_seconds=left), sys.stderr)


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield writer


def _rows(video: str, look: Look) -> Iterator[tuple[object, ...]]:
    height, width = look.frame.picture.shape[:2]
    for item in look.seen:
        box = (item.xmin * width, item.ymin * height, item.xmax * width, item.ymax * height)
        corners = (f"{value:.1f}" for value in box)
        yield (video, look.frame.number, f"{look.frame.seconds:.3f}", item.label, f"{item.score:.4f}", *corners)


def _description(model: ServedModel) -> dict[str, Any]:
    thresholds = dict(zip(model.labels, model.thresholds, strict=True))
    return {"name": model.name, "digest": model.digest, "labels": list(model.labels), "thresholds": thresholds}


def _problems(films: Sequence[Film]) -> str:
    return "; ".join(f"{film.path}: {film.problem or 'there is no frame in it'}" for film in films)
