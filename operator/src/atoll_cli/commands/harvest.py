"""`atoll harvest`: what the devices were unsure of, as a batch for labelling."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from atoll_cli.console import Steps
from atoll_cli.harvest.batch import Project, summary, write_account
from atoll_cli.harvest.collect import Choice, Collection, Fate, collect, require_libraries
from atoll_cli.local.runfile import DEFAULT_NAMESPACE
from atoll_cli.options import Moment, Where, either_options, local_folder, opened_store
from atoll_cli.store_access import bucket_of, endpoint_option, explained
from atoll_contract.errors import DatasetError, Reason, SpecError
from atoll_contract.store.base import Store


@click.command(name="harvest", short_help="Fetch what devices were unsure of, for labelling.")
@click.argument("name", metavar="[DEVICE|MODEL]", required=False)
@either_options
@endpoint_option
@click.option("--object-store", default="default", show_default=True, help="Name of the ObjectStore.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="A new or empty folder."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures, the most doubtful ones.")
@click.option("--since", type=Moment(), help="Only what was uploaded since: 7d, 12h or 2027-01-31.")
@click.option(
    "--min-change",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Drop what differs from a more doubtful one in less than this percentage of the picture; 0 keeps all.",
)
@click.option("--delete", is_flag=True, help="Then remove from the bucket what is in the batch, and its repetitions.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as one JSON document.")
def harvest_command(
    name: str | None,
    store: Path | None,
    where: Where,
    endpoint: str | None,
    object_store: str,
    output: Path,
    limit: int | None,
    since: float | None,
    min_change: float,
    delete: bool,
    as_json: bool,
) -> None:
    """Turn the frames that devices kept and uploaded into a Supervisely batch, labelled by the model itself.

    Correct the labels before you train on them: they are the model's guesses about pictures that it was unsure of.
    OUTPUT gets a project folder to import, the same as a .tar, and harvest.json and harvest.csv, which say what became
    of every frame. Your own credentials are used.
    """
    require_libraries()
    if output.exists() and any(output.iterdir()):
        raise SpecError(f"--output {output}: the folder is not empty; name a new one")
    folder = local_folder(store, where, by_namespace=True)
    with explained(endpoint=endpoint):
        if folder is not None:
            source, namespace = opened_store(folder, ()), where.namespace or DEFAULT_NAMESPACE
        else:
            access = where.connect()
            source, namespace = bucket_of(access, object_store, endpoint=endpoint, writing=True), access.namespace
        with Steps("notes") as read:
            found = collect(source, namespace, name, since=since, read=read)
        _require(
            found.frames, f"{found.found} frames in {source.url}, {found.older} older, {found.unreadable} unreadable"
        )
        with Steps("pictures", len(found.frames)) as looked:
            choice = Choice(source, min_change / 100, limit, looked)
            project, files = _written(output, choice, found)
        document = summary(found, choice, project)
        write_account(output, choice, files, document)
        _require(files, f"none of {len(choice.fates)} pictures could be read; see {output / 'harvest.csv'}")
        if delete:
            _delete(source, choice)
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else _sentences(document, output))


def _written(output: Path, choice: Choice, found: Collection) -> tuple[Project, dict[str, str]]:
    """The batch, and the file of each picture by its digest."""
    output.mkdir(parents=True, exist_ok=True)
    project = Project(output, f"harvest-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    files = {kept.frame.note.sha256: project.add(kept) for kept in choice.kept(found.frames)}
    if files:
        project.finish()
    return project, files


def _delete(store: Store, choice: Choice) -> None:
    """The notes first: a picture without one is none."""
    done = [frame for frame, fate in choice.fates if fate is not Fate.DAMAGED]
    with Steps("removed", len(done)) as removed:
        for frame in done:
            store.delete(frame.note_key)
            store.delete(frame.picture_key)
            removed()


def _require(there: object, why: str) -> None:
    if not there:
        raise DatasetError(Reason.NO_USABLE_EXAMPLES, f"there is nothing to label: {why}")


def _sentences(document: dict[str, object], output: Path) -> str:
    boxes = document["boxes"]
    assert isinstance(boxes, dict)
    guesses = ", ".join(f"{count} {label}" for label, count in boxes.items())
    return "\n".join(
        (
            f"{document['found']} frames = {document['others']} of others + {document['older']} older + "
            f"{document['unreadable']} with an unreadable note + {document['damaged']} damaged + "
            f"{document['nearDuplicates']} near-duplicates + {document['beyondLimit']} beyond the limit + "
            f"{document['kept']} kept",
            f"{output / str(document['archive'])}: {document['kept']} pictures with the model's guesses ({guesses})",
            "correct the labels (import the folder or the .tar into Supervisely), then atoll push the export",
        )
    )
