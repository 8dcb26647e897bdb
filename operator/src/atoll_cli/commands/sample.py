"""`atoll sample`: pictures, films and labels to try every other command with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll_cli.output import Output, output_options
from atoll_cli.param_types import ImageSize
from atoll_contract.document import to_dict
from atoll_contract.tool_reports import SAMPLE_IMAGES, SAMPLE_SIZE

if TYPE_CHECKING:
    from atoll_cli.sample.files import FieldSample

SMALLEST, LARGEST = 64, 4096


@click.command(name="sample", short_help="Draw pictures, films and labels to try Atoll with.")
@click.argument("name", metavar="field", type=click.Choice(["field"]))
@output_options(folder="Where the files go.", default=Path())
@click.option(
    "--pictures",
    "images",
    type=click.IntRange(8, 100_000),
    default=SAMPLE_IMAGES,
    show_default=True,
    help="Labelled pictures in field.tar.",
)
@click.option(
    "--size",
    type=ImageSize(),
    default=f"{SAMPLE_SIZE[0]}x{SAMPLE_SIZE[1]}",
    show_default=True,
    help="Of pictures and films.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Another number, other pictures."
)
def sample_command(name: str, output: Output, to: Path, images: int, size: tuple[int, int], seed: int) -> None:
    """Draw the sample `field`: a playing field as the camera of a robot sees it, with rings, balls and pipes.

    field.tar has labelled pictures (a Supervisely export), camera.mp4 and match.mp4 are films of two fields, and
    harvest.tar has labelled frames of match.mp4, as a batch of atoll harvest comes back from labelling. Cones, buckets,
    boxes and posts in the same colours have no label. The same seed draws the same pictures. No file is overwritten.
    """
    from atoll_cli.sample.files import make_field

    assert name == "field"
    if not all(SMALLEST <= side <= LARGEST for side in size):
        raise click.BadParameter(
            f"{size[0]}x{size[1]}: each side is {SMALLEST} to {LARGEST} pixels", param_hint="'--size'"
        )
    sample = make_field(to, images=images, size=size, seed=seed)
    if output.is_text:
        click.echo(_sentences(sample, to))
    else:
        output.print(to_dict(sample), [str(to / file) for file in sample.files()])


def _sentences(sample: FieldSample, folder: Path) -> str:
    lines = []
    for archive in sample.archives:
        boxes = ", ".join(f"{count} {label}" for label, count in archive.boxes.items())
        lines.append(f"{folder / archive.file}: {archive.pictures} pictures with labels ({boxes})")
    lines += [f"{folder / video.file}: {video.frames} frames, {video.seconds:g} s" for video in sample.videos]
    lines.append(f"next: atoll new {folder / sample.archives[0].file}")
    return "\n".join(lines)
