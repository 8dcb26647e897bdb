"""`atoll compare`: two models side by side on the same images."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import click

from atoll_cli.comparison import compare, short_name
from atoll_cli.console import print_view, text_table
from atoll_cli.options import EngineOptions, engine_options
from atoll_cli.output import Output, output_options
from atoll_cli.param_types import InputPath


@click.command(name="compare", short_help="Set two models side by side on the same pictures.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--data",
    "archives",
    multiple=True,
    type=InputPath(folders=True),
    metavar="ARCHIVE",
    help="Compare on this labelled archive (or several) instead of the evaluation pictures.",
)
@engine_options(endpoint=True)
@output_options(file="The page with figures and pictures; compare-<old>-<new>.html by default.")
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
def compare_command(
    old: str,
    new: str,
    archives: tuple[Path, ...],
    engine: EngineOptions,
    output: Output,
    to: Path | None,
    show: bool,
) -> None:
    """Run OLD and NEW on the same labelled pictures and print AP50 and AP of both, with the differences.

    Each is a release (note-v3; of the local store or the cluster), a model.tar.gz, a folder with the files of one,
    or a .tflite file with map.pbtxt beside it. The pictures are those that the releases' own runs were evaluated on,
    old and new, or those of --data. Pictures that a release was trained on are left out.
    """
    page = to or Path(f"compare-{short_name(old)}-{short_name(new)}.html")
    document = compare((old, new), archives, engine, page)
    if output.is_text:
        _print(document, page)
    else:
        output.print(document, [str(page)])
    if show:
        webbrowser.open(page.resolve().as_uri())


def _print(document: dict[str, Any], page: Path) -> None:
    for item in document["sets"]:
        left_out = f"; {item['leftOut']} left out, as one of both was trained on them" if item["leftOut"] else ""
        click.echo(f"{item['name']}: {item['pictures']} pictures, {item['boxes']} boxes{left_out}")
        print_view(_table(document, item))
        click.echo(f"F1 is higher on {item['picturesBetter']} pictures, lower on {item['picturesWorse']}\n")
    for note in document["notes"]:
        click.echo(note, err=True)
    click.echo(f"{page}: the pictures on which they differ the most")


def _interval_row(*sides: dict[str, Any]) -> list[tuple[str, ...]]:
    """The 95 % intervals of AP50: a difference whose interval holds 0 may be chance."""
    if not all("ap50Interval" in side for side in sides):
        return []
    *models, difference = (side["ap50Interval"] for side in sides)
    shown = [f"{low:.2f} to {high:.2f}" for low, high in models]
    return [("  in 19 of 20 cases", *shown, f"{difference[0]:+.2f} to {difference[1]:+.2f}")]


def _table(document: dict[str, Any], item: dict[str, Any]) -> Any:
    old, new, difference = item["old"], item["new"], item["difference"]
    rows: list[tuple[str, ...]] = [
        (title, f"{old[key]:.3f}", f"{new[key]:.3f}", f"{difference[key]:+.3f}")
        for title, key in (("AP50", "ap50"), ("AP", "ap"))
    ]
    rows[1:1] = _interval_row(old, new, difference)
    for name, change in difference["perClass"].items():
        cells = [
            "not known" if name in side["unknownClasses"] else f"{side['perClass'][name]:.3f}" for side in (old, new)
        ]
        rows.append((f"AP50 {name}", cells[0], cells[1], f"{change:+.3f}"))
    return text_table(("", document["old"], document["new"], "DIFFERENCE"), rows, figures=True)
