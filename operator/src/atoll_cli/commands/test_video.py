"""`atoll test-video`: what a model detects in videos."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from atoll_cli.console import print_view, text_table
from atoll_cli.options import EngineOptions, engine_options, require_empty
from atoll_cli.output import Output, output_options
from atoll_cli.param_types import InputPath
from atoll_cli.releases import find_release
from atoll_cli.store_access import explain_store_errors
from atoll_cli.tool import run_tool

MODULE = "atoll_edge.video"
UNCERTAIN_FRAMES = "least-certain.jpg"
# Rows that fit on a screen: a longer video is shown in longer intervals.
_MAX_ROWS = 20
_INTERVALS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@click.command(name="test-video", short_help="Run a model on videos and see what it sees.")
@click.argument("model", metavar="MODEL")
@click.argument("videos", nargs=-1, required=True, type=InputPath(folders=True), metavar="VIDEO...")
@output_options(folder="A new or empty folder.", required=True)
@click.option(
    "--labels",
    type=InputPath(),
    metavar="FILE",
    help="Labels of a bare .tflite file (map.pbtxt or labels.txt); by default those beside it.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SCORE",
    help="Score from which a class counts as seen; by default what the release says, 0.5 for bundles.",
)
@click.option(
    "--tiles",
    type=click.Choice([f"{rows}x{columns}" for rows in (1, 2, 3) for columns in (1, 2, 3)]),
    metavar="ROWSxCOLUMNS",
    help="Show the model parts of each frame, too, as a device with detection.tiling does: 2x2.",
)
@engine_options(endpoint=True)
def test_video_command(
    model: str,
    videos: tuple[Path, ...],
    output: Output,
    to: Path,
    labels: Path | None,
    threshold: float | None,
    tiles: str | None,
    engine: EngineOptions,
) -> None:
    """Run MODEL on VIDEOS: files, or folders with all that is below them.

    MODEL is a release (note-v3; of the local store or the cluster), a model.tar.gz, a folder with the files of one,
    or a .tflite file with its label map. For each video DIR gets an mp4 with the boxes drawn, and for all of
    them detections.csv, summary.json and least-certain.jpg: the frames with a score nearest the threshold.
    """
    from atoll_cli.video.reader import find_videos

    files = find_videos(videos)
    require_empty(to)
    with (
        tempfile.TemporaryDirectory(prefix="atoll-test-video-") as name,
        explain_store_errors(endpoint=engine.endpoint),
    ):
        release = find_release(model, engine)
        path = release.fetch_model(Path(name) / "release") if release else Path(model)
        to.mkdir(parents=True, exist_ok=True)
        arguments = ["--model", str(path), "--output", str(to)]
        arguments += ["--labels", str(labels)] if labels else []
        arguments += ["--threshold", str(threshold)] if threshold else []
        arguments += ["--tiles", tiles] if tiles else []
        for file in files:
            arguments += ["--film", file.name, str(file.path)]
        document = run_tool(MODULE, arguments, title="loading the model")
    if output.is_text:
        _print(document, to)
    else:
        output.print(document, [str(to / video["annotated"]) for video in document["videos"] if video["frames"]])


def _print(document: dict[str, Any], folder: Path) -> None:
    for video in document["videos"]:
        if video["frames"]:
            size = f"{video['width']}x{video['height']}"
            click.echo(f"{folder / video['annotated']}: {video['frames']} frames in {video['seconds']:.1f} s, {size}")
            print_view(_table(video))
        if video["unnamedDetections"]:
            count = _count(video["unnamedDetections"], "detection")
            click.echo(f"{count} of classes that the label map does not name: is it that of this model?", err=True)
        if video["problem"]:
            read = "as a whole" if video["frames"] else "at all"
            click.echo(f"{video['file']} could not be read {read}: {video['problem']}", err=True)
    shown = document["leastCertain"]
    if shown:
        click.echo(f"{folder / UNCERTAIN_FRAMES}: {_count(len(shown), 'frame')} with a score near the threshold")
    else:
        click.echo("no frame has a score near the threshold, so there is no contact sheet")
    click.echo(f"{document['speed']['framesPerSecond']:.0f} frames/s; detections.csv has each detection")


def _table(video: dict[str, Any]) -> Any:
    """Detections per second: a row for each interval, a column for each class that occurs."""
    from rich.console import Group

    labels = list(video["perClass"])
    if not labels:
        return "nothing was seen"
    interval = next((item for item in _INTERVALS if video["seconds"] / item <= _MAX_ROWS), _INTERVALS[-1])
    rows = [
        (f"{start // 60}:{start % 60:02d}", *(f"{rate:.1f}" for rate in rates))
        for start, rates in _rates(video, labels, interval)
    ]
    rows.append(("all", *(f"{video['perClass'][label]['perSecond'] or 0:.1f}" for label in labels)))
    table = text_table(("TIME", *labels), rows, figures=True)
    return Group(f"detections per second, in intervals of {interval} s", table)


def _rates(video: dict[str, Any], labels: Sequence[str], interval: int) -> list[tuple[int, list[float]]]:
    """Start in seconds and detections per second of each class, for each interval; the last may be shorter."""
    rates = []
    seconds = video["perSecond"]
    for start in range(0, seconds[-1]["second"] + 1, interval):
        within = [item for item in seconds if start <= item["second"] < start + interval]
        length = sum(item["frames"] for item in within) / (video["frameRate"] or 1)
        counts = [sum(item["detections"].get(label, 0) for item in within) for label in labels]
        rates.append((start, [count / length if length else 0.0 for count in counts]))
    return rates


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
