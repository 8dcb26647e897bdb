"""`atoll record`: records a camera, a network stream or a file into a video that survives a power cut."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll_cli.console import FAILED
from atoll_cli.output import Output, output_options
from atoll_cli.param_types import ByteSize, Duration, ImageSize
from atoll_contract.errors import SpecError

if TYPE_CHECKING:
    from atoll_cli.video.recorder import Recording

# A smaller file would not hold the header and one fragment.
MIN_SIZE = 100_000


@click.command(name="record", short_help="Record a camera, a network stream or a file.")
@click.argument("source", default="0")
@output_options(file="The video, a new .mp4; recording-<date>-<time>.mp4 by default.")
@click.option("--time-limit", type=Duration(), help="End after this time: 90s, 10m, 1h30m.")
@click.option("--size-limit", type=ByteSize(), help="End before the file is larger: 500MB, 2GB.")
@click.option("--size", type=ImageSize(), default="640x480", show_default=True, help="Ask a camera for this picture.")
@click.option("--rate", type=click.IntRange(1, 240), default=30, show_default=True, help="Ask for frames per second.")
@click.option(
    "--patience",
    "retry_timeout",
    type=Duration(),
    default="30s",
    show_default=True,
    help="Wait so long for a stream that went away.",
)
@click.option("--window", is_flag=True, help="Show the picture; q ends the recording.")
@click.pass_context
def record_command(
    context: click.Context,
    source: str,
    output: Output,
    to: Path | None,
    time_limit: float | None,
    size_limit: int | None,
    size: tuple[int, int],
    rate: int,
    retry_timeout: float,
    window: bool,
) -> None:
    """Record SOURCE: a camera (0, /dev/video0), a URL (http MJPEG, rtsp, …) or a video file.

    Ctrl-C or SIGTERM ends the recording cleanly; a second one ends the program at once. The file plays while it
    grows, and after a crash or a power cut up to about the last second. An existing file is never overwritten.
    """
    from atoll_cli.video.capture import CameraMode, source_of
    from atoll_cli.video.recorder import RecordingLimits, Window, record

    path = to or Path(f"recording-{datetime.now().astimezone():%Y%m%d-%H%M%S}.mp4")
    if path.suffix.lower() != ".mp4":
        raise SpecError(f"--to {path}: a recording is an .mp4; end the name with it")
    if size_limit is not None and size_limit < MIN_SIZE:
        raise SpecError(f"--size-limit of {size_limit} bytes: {MIN_SIZE} is the least")
    opened = source_of(source, CameraMode(width=size[0], height=size[1], rate=rate))
    limits = RecordingLimits(seconds=time_limit, size=size_limit, retry_timeout=retry_timeout)
    with _stop_on_signals() as stop, Window(path.name, stop) if window else nullcontext() as preview:
        click.echo(f"recording {opened.title} into {path}; Ctrl-C ends it", err=True)
        on_frame = preview.show if preview else None
        recording = record(opened, path, rate=rate, limits=limits, stop=stop, on_frame=on_frame)
    if output.is_text:
        _print(recording)
    else:
        output.print(recording.document(), [str(path)])
    context.exit(FAILED if recording.detail else 0)


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one has its ordinary effect."""
    stop = threading.Event()
    former = {}

    def on_signal(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _print(recording: Recording) -> None:
    click.echo(
        f"{recording.path}: {recording.frames} frames in {recording.seconds:.1f} s, "
        f"{recording.width}x{recording.height}, {recording.size / 1e6:.1f} MB; ended: {recording.end_reason}"
        + (f" ({recording.detail})" if recording.detail else "")
    )
    if recording.missed:
        click.echo(f"{recording.missed} frames came faster than this machine writes them and were left out")
