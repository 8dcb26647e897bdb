"""`atoll compare`: two models side by side on the same pictures."""

from __future__ import annotations

import json
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import click

from atoll_cli.options import Where, either_options
from atoll_cli.release_files import PublishedRelease, ReleasePictures, is_release_name, published
from atoll_cli.store_access import endpoint_option, explained
from atoll_cli.tool import run_tool
from atoll_contract.document import to_json
from atoll_contract.errors import SpecError
from atoll_contract.tool_reports import ComparisonJob, Contender, PictureSource

MODULE = "atoll_stages.compare"
EXTRAS = "operator,train"
_ARCHIVE = click.Path(path_type=Path, exists=True)


@click.command(name="compare", short_help="Set two models side by side on the same pictures.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--data",
    "archives",
    multiple=True,
    type=_ARCHIVE,
    metavar="ARCHIVE",
    help="Compare on this labelled archive (or several) instead of the evaluation pictures.",
)
@either_options
@endpoint_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page with figures and pictures; compare-<old>-<new>.html by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the tables.")
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
def compare_command(
    old: str,
    new: str,
    archives: tuple[Path, ...],
    store: Path | None,
    where: Where,
    endpoint: str | None,
    output: Path | None,
    as_json: bool,
    show: bool,
) -> None:
    """Run OLD and NEW on the same labelled pictures and print AP50 and AP of both, with the differences.

    Each is a release (note-v3; of the local store or the cluster), a model.tar.gz, a folder with the files of one,
    or a .tflite file with map.pbtxt beside it. The pictures are those that the releases' own runs were evaluated on,
    old and new, or those of --data. Pictures that a release was trained on are left out.
    """
    page = output or Path(f"compare-{_short(old)}-{_short(new)}.html")
    with tempfile.TemporaryDirectory(prefix="atoll-compare-") as name, explained(endpoint=endpoint):
        folder = Path(name)
        releases = [_release(text, store, where, endpoint) for text in (old, new)]
        job = _job((old, new), releases, archives, folder, page.resolve())
        file = folder / "job.json"
        file.write_bytes(to_json(job))
        document = run_tool(MODULE, [str(file)], extras=EXTRAS, title="loading the models")
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(document, page)
    if show:
        webbrowser.open(page.resolve().as_uri())


def _release(text: str, store: Path | None, where: Where, endpoint: str | None) -> PublishedRelease | None:
    """The release of that name; None where it names a file or folder."""
    if Path(text).exists():
        return None
    if not is_release_name(text):
        raise SpecError(f"{text}: no such file or folder, and no release, which is written <model>-v<number>")
    return published(text, store, where, endpoint=endpoint)


def _job(
    names: tuple[str, str],
    releases: list[PublishedRelease | None],
    archives: tuple[Path, ...],
    folder: Path,
    page: Path,
) -> ComparisonJob:
    pictures = [ReleasePictures(item, folder / "pictures") if item else None for item in releases]
    sources = [PictureSource(path.name, archive=str(path.resolve())) for path in archives]
    if not sources:
        sources = _evaluation(pictures)
    # No part of a dataset is in another: where there is only one dataset, its training part need not be fetched.
    alike = not archives and len(sources) == 1
    contenders = []
    for number, (name, release, known) in enumerate(zip(names, releases, pictures, strict=True)):
        path = release.fetch_model(folder / f"model-{number}") if release else Path(name).resolve()
        trained: tuple[str, ...] | None = None
        if known is not None:
            trained = () if alike else known.training()
        contenders.append(Contender(_short(name), str(path), trained))
    return ComparisonJob(contenders[0], contenders[1], tuple(sources), str(page))


def _evaluation(pictures: list[ReleasePictures | None]) -> list[PictureSource]:
    """The evaluation pictures of each release; once where both have the same."""
    known: dict[str, list[ReleasePictures]] = {}
    for item in pictures:
        if item is not None:
            known.setdefault(item.digest, []).append(item)
    if not known:
        raise SpecError("files name no evaluation pictures, as releases do; give labelled pictures with --data ARCHIVE")
    return [items[0].evaluation(" and ".join(dict.fromkeys(item.name for item in items))) for items in known.values()]


def _print(document: dict[str, Any], page: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for item in document["sets"]:
        left_out = f"; {item['leftOut']} left out, as one of both was trained on them" if item["leftOut"] else ""
        click.echo(f"{item['name']}: {item['pictures']} pictures, {item['boxes']} boxes{left_out}")
        console.print(_table(document, item))
        click.echo(f"F1 is higher on {item['picturesBetter']} pictures, lower on {item['picturesWorse']}\n")
    for note in document["notes"]:
        click.echo(note, err=True)
    click.echo(f"{page}: the pictures on which they differ the most")


def _table(document: dict[str, Any], item: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    old, new, difference = item["old"], item["new"], item["difference"]
    table = Table("", escape(document["old"]), escape(document["new"]), "DIFFERENCE", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for words, key in (("AP50", "ap50"), ("AP", "ap")):
        table.add_row(words, f"{old[key]:.3f}", f"{new[key]:.3f}", f"{difference[key]:+.3f}")
    for name, change in difference["perClass"].items():
        cells = [
            "not known" if name in side["unknownClasses"] else f"{side['perClass'][name]:.3f}" for side in (old, new)
        ]
        table.add_row(f"AP50 {escape(name)}", *cells, f"{change:+.3f}")
    return table


def _short(name: str) -> str:
    """How a model is called in tables and in the page's name."""
    return Path(name).name.removesuffix(".tar.gz").removesuffix(".tflite") or name
