"""`atoll frames`: videos into the frames worth labelling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll_contract.errors import DatasetError, Reason, SpecError

if TYPE_CHECKING:
    from atoll_cli.video.extract import Account


PICTURES = "images"


@click.command(name="frames", short_help="Take the frames worth labelling out of videos.")
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="A new or empty folder."
)
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
@click.option(
    "--min-change",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Drop what differs from a kept frame in less than this percentage of the picture; 0 keeps all.",
)
@click.option("--flat", is_flag=True, help="All pictures in one folder, instead of one folder for each video.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as one JSON document.")
def frames_command(
    videos: tuple[Path, ...],
    output: Path,
    rate: float,
    max_blur: float,
    min_change: float,
    flat: bool,
    as_json: bool,
) -> None:
    """Take the frames worth labelling out of VIDEOS: files, or folders with all that is below them.

    A few samples a second are looked at; blurred ones are dropped, and those that nearly repeat a frame kept before,
    from whichever video. OUTPUT/images holds plain pictures and nothing else, as labelling tools import them;
    OUTPUT/frames.json and frames.csv say what became of every frame.
    """
    from atoll_cli.video.extract import Layout, extract, summary, write_account
    from atoll_cli.video.reader import films_in
    from atoll_cli.video.select import Thresholds

    films = films_in(videos)
    if output.exists() and any(output.iterdir()):
        raise SpecError(
            f"--output {output}: the folder is not empty; labels may belong to what is there, name a new one"
        )
    output.mkdir(parents=True, exist_ok=True)
    thresholds = Thresholds(blur=max_blur, change=min_change / 100)
    accounts = extract(films, Layout(output / PICTURES, flat=flat), rate=rate, thresholds=thresholds)
    document = summary(accounts, rate=rate, thresholds=thresholds)
    write_account(output, accounts, document)
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else _sentences(accounts, rate))
    _require_pictures(accounts, output)


def _sentences(accounts: Sequence[Account], rate: float) -> str:
    from atoll_cli.video.select import Fate

    lines = []
    for account in accounts:
        blurred, repeated, kept = (account.count(fate) for fate in (Fate.BLURRED, Fate.DUPLICATE, Fate.KEPT))
        lines.append(
            f"{account.film.name}: {account.decoded} frames = {account.passed_over} between the samples "
            f"({rate:g} a second) + {blurred} blurred + {repeated} near-duplicates + {kept} kept"
        )
        if account.problem:
            lines.append(f"  could not be read {'as a whole' if account.decoded else 'at all'}: {account.problem}")
        if 2 * blurred > len(account.rows):
            lines.append("  more than half were blurred; if they look sharp to you, try a higher --max-blur")
    kept = sum(account.count(Fate.KEPT) for account in accounts)
    lines.append(f"{kept} pictures in {PICTURES}/; frames.csv has each sample and its figures")
    return "\n".join(lines)


def _require_pictures(accounts: Sequence[Account], output: Path) -> None:
    from atoll_cli.video.select import Fate

    if any(account.count(Fate.KEPT) for account in accounts):
        return
    if not any(account.decoded for account in accounts):
        problems = "; ".join(f"{account.film.path}: {account.problem}" for account in accounts)
        raise DatasetError(Reason.DATASET_MALFORMED, f"no video could be read: {problems}")
    raise DatasetError(
        Reason.NO_USABLE_EXAMPLES, f"no frame is worth labelling; see {output / 'frames.csv'} for the figures of each"
    )
