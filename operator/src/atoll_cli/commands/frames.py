"""`atoll frames`: the frames of videos that are worth labelling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll_cli.console import count_progress
from atoll_cli.options import min_change_option, require_empty
from atoll_cli.output import Output, output_options
from atoll_cli.param_types import InputPath
from atoll_contract.errors import DatasetError, Reason

if TYPE_CHECKING:
    from atoll_cli.video.extract import VideoReport

IMAGES = "images"


@click.command(name="frames", short_help="Take the frames worth labelling out of videos.")
@click.argument("videos", nargs=-1, required=True, type=InputPath(folders=True))
@output_options(folder="A new or empty folder.", required=True)
@click.option(
    "--rate", type=click.FloatRange(0, 240, min_open=True), default=2.0, show_default=True, help="Samples per second."
)
@click.option(
    "--max-blur",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Drop what is so much more blurred (0 to 1) than the sharp frames of its video; 1 keeps all.",
)
@min_change_option("a kept frame")
@click.option("--flat", is_flag=True, help="All pictures in one folder, instead of one folder for each video.")
def frames_command(
    videos: tuple[Path, ...],
    output: Output,
    to: Path,
    rate: float,
    max_blur: float,
    min_change: float,
    flat: bool,
) -> None:
    """Take the frames worth labelling out of VIDEOS: files, or folders with all that is below them.

    A few samples a second are looked at; blurred ones are dropped, and those that nearly repeat a frame kept before,
    from whichever video. DIR/images holds plain pictures and nothing else, as labelling tools import them;
    DIR/frames.json and frames.csv say what became of every frame.
    """
    from atoll_cli.video.extract import Layout, extract, summary, write_report
    from atoll_cli.video.reader import find_videos
    from atoll_cli.video.select import Thresholds

    files = find_videos(videos)
    require_empty(to)
    to.mkdir(parents=True, exist_ok=True)
    thresholds = Thresholds(blur=max_blur, change=min_change / 100)
    layout = Layout(to / IMAGES, flat=flat)
    with count_progress("samples read") as advance:
        reports = extract(files, layout, rate=rate, thresholds=thresholds, advance=advance)
    document = summary(reports, rate=rate, thresholds=thresholds)
    write_report(to, reports, document)
    if not output.is_text:
        output.print(document, [str(to / IMAGES)])
    elif any(report.decoded for report in reports):
        click.echo(_sentences(reports, rate))
    _require_images(reports, to)


def _sentences(reports: Sequence[VideoReport], rate: float) -> str:
    from atoll_cli.video.select import SampleOutcome

    lines = []
    for report in reports:
        blurred, repeated, kept = (
            report.count(outcome) for outcome in (SampleOutcome.BLURRED, SampleOutcome.DUPLICATE, SampleOutcome.KEPT)
        )
        lines.append(
            f"{report.video.name}: {kept} of {report.decoded} frames kept; left out: {report.passed_over} between "
            f"the samples ({rate:g} a second), {blurred} blurred, {repeated} near-duplicates"
        )
        if report.problem:
            lines.append(f"  could not be read {'as a whole' if report.decoded else 'at all'}: {report.problem}")
        if 2 * blurred > len(report.samples):
            lines.append("  more than half were blurred; if they look sharp to you, try a higher --max-blur")
    kept = sum(report.count(SampleOutcome.KEPT) for report in reports)
    lines.append(f"{kept} pictures in {IMAGES}/; frames.csv has each sample and its figures")
    return "\n".join(lines)


def _require_images(reports: Sequence[VideoReport], folder: Path) -> None:
    """Raises DatasetError if no frame was kept."""
    from atoll_cli.video.extract import TABLE
    from atoll_cli.video.select import SampleOutcome

    if any(report.count(SampleOutcome.KEPT) for report in reports):
        return
    if not any(report.decoded for report in reports):
        problems = "; ".join(f"{report.video.path}: {report.problem}" for report in reports)
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {problems}")
    raise DatasetError(
        Reason.NO_USABLE_EXAMPLES, f"no frame is worth labelling; see {folder / TABLE} for the figures of each"
    )
