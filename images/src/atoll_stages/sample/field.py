"""The files of the sample: `field.tar`, the frames of two films, and `harvest.tar`."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from atoll_contract.tool_reports import SampleArchive
from atoll_stages.sample.project import Project, jpeg_of
from atoll_stages.sample.render import VisibleBox
from atoll_stages.sample.views import RATE, LabelledImage, frame, still

ARCHIVE, HARVEST = "field.tar", "harvest.tar"
# One picture in so many is of the part `val`.
VALIDATION_EACH = 4
# A harvest has a frame of every second.
HARVEST_EACH = RATE
SESSION = "robot-front-kfzqwt"
# Frames of films are encoded once more.
FRAME_QUALITY = 95
MAX_PROCESSES = 8
# For fewer pictures starting a process takes longer than drawing them.
MIN_IMAGES = 20


@dataclass(frozen=True)
class SampleSpec:
    """`size` is the width and the height of every picture; `video_frames` is the length of each film."""

    seed: int
    images: int
    size: tuple[int, int]
    video_frames: int


@dataclass(frozen=True)
class Encoded:
    jpeg: bytes
    boxes: tuple[VisibleBox, ...]


Draw = Callable[[int], Encoded]
OnImage = Callable[[], None]


def write_archive(spec: SampleSpec, folder: Path, processes: int, on_image: OnImage) -> SampleArchive:
    """Write `field.tar`: a quarter of the pictures is in the part `val`, the rest in `train`."""
    draw = partial(_still, spec)
    with Project(folder / ARCHIVE, "field") as project, _drawn(draw, range(spec.images), processes) as images:
        for number, encoded in enumerate(images):
            part = "val" if number % VALIDATION_EACH == VALIDATION_EACH - 1 else "train"
            project.add(part, f"field_{number:05d}.jpg", encoded.jpeg, spec.size, encoded.boxes)
            on_image()
    return _described(project)


def write_frames(spec: SampleSpec, video: str, folder: Path, processes: int, on_image: OnImage) -> list[Encoded]:
    """Write the frames of a film as JPEGs that are numbered from 00000.jpg; returns them."""
    folder.mkdir()
    found = []
    with _drawn(partial(_frame, spec, video), range(spec.video_frames), processes) as frames:
        for number, encoded in enumerate(frames):
            (folder / f"{number:05d}.jpg").write_bytes(encoded.jpeg)
            found.append(encoded)
            on_image()
    return found


def write_harvest(spec: SampleSpec, frames: Sequence[Encoded], folder: Path) -> SampleArchive:
    """Write `harvest.tar`: frames of the film of the match, as a batch that somebody has labelled."""
    with Project(folder / HARVEST, "harvest") as project:
        for number in range(0, len(frames), HARVEST_EACH):
            name = f"{SESSION}_{number + 1:05d}.jpg"
            project.add("robot", name, frames[number].jpeg, spec.size, frames[number].boxes)
    return _described(project)


def _described(project: Project) -> SampleArchive:
    return SampleArchive(project.path.name, project.images, dict(sorted(project.boxes.items())))


def _still(spec: SampleSpec, number: int) -> Encoded:
    return _encoded(still(spec.seed, number, spec.size))


def _frame(spec: SampleSpec, video: str, number: int) -> Encoded:
    return _encoded(frame(spec.seed, video, number, spec.size), FRAME_QUALITY)


def _encoded(image: LabelledImage, *quality: int) -> Encoded:
    return Encoded(jpeg_of(image.pixels, *quality), image.boxes)


@contextmanager
def _drawn(draw: Draw, numbers: Sequence[int], processes: int) -> Iterator[Iterator[Encoded]]:
    """The pictures in order, drawn by so many processes."""
    if processes < 2 or len(numbers) < MIN_IMAGES * processes:
        yield map(draw, numbers)
        return
    # A forked process would inherit locks of libraries that have threads.
    with multiprocessing.get_context("spawn").Pool(processes, _ignore_interrupts) as pool:
        yield pool.imap(draw, numbers, chunksize=2)


def _ignore_interrupts() -> Any:
    """Ctrl-C is for the process that waits, which ends the others."""
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


def available_processes() -> int:
    """One for each CPU that this process may use."""
    # macOS has no affinity.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_PROCESSES, cpus)
