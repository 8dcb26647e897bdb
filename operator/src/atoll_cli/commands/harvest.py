"""`atoll harvest`: the frames that devices were unsure of, as a batch for labelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atoll_cli.console import count_progress
from atoll_cli.harvest.batch import TABLE, Batch, summary, write_report
from atoll_cli.harvest.collect import FrameOutcome, FrameSelector, collect, require_libraries
from atoll_cli.options import EngineOptions, engine_options, min_change_option, require_empty
from atoll_cli.output import Output, output_options
from atoll_cli.param_types import PointInTime
from atoll_cli.store_access import explain_store_errors, open_engine_store
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.store.base import Store


@click.command(name="harvest", short_help="Fetch what devices were unsure of, for labelling.")
@click.argument("name", metavar="[DEVICE|MODEL]", required=False)
@engine_options(endpoint=True, object_store=True)
@output_options(folder="A new or empty folder.", required=True)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures, the most doubtful ones.")
@click.option("--since", type=PointInTime(), help="Only what was uploaded since: 7d, 12h or 2027-01-31.")
@min_change_option("a more doubtful one")
@click.option("--delete", is_flag=True, help="Then remove from the bucket what is in the batch, and its repetitions.")
def harvest_command(
    name: str | None,
    engine: EngineOptions,
    output: Output,
    to: Path,
    limit: int | None,
    since: float | None,
    min_change: float,
    delete: bool,
) -> None:
    """Turn the frames that devices kept and uploaded into a Supervisely batch, labelled by the model itself.

    Correct the labels before you train on them: they are the model's guesses about pictures that it was unsure of.
    DIR gets a project folder to import, the same as a .tar, and harvest.json and harvest.csv, which say what became
    of every frame. Your own credentials are used.
    """
    require_libraries()
    require_empty(to)
    with explain_store_errors(endpoint=engine.endpoint):
        access = open_engine_store(engine, writing=True)
        store = access.store
        with count_progress("notes") as on_note:
            found = collect(store, access.namespace, name, since=since, on_note=on_note)
        listed = f"{found.found} frames in {store.url}, {found.older} older, {found.unreadable} unreadable"
        _require(found.frames, listed)
        to.mkdir(parents=True, exist_ok=True)
        batch = Batch(to)
        with count_progress("pictures", len(found.frames)) as on_frame:
            selector = FrameSelector(store, min_change / 100, limit, on_frame)
            batch.write(selector.select(found.frames))
        document = summary(found, selector, batch)
        write_report(to, selector, batch, document)
        _require(batch.files, f"none of {len(selector.outcomes)} pictures could be read; see {to / TABLE}")
        if delete:
            _delete(store, selector)
    if output.is_text:
        click.echo(_sentences(document, to))
    else:
        output.print(document, [str(to / document["archive"])])


def _require(frames: object, message: str) -> None:
    if not frames:
        raise DatasetError(Reason.NO_USABLE_EXAMPLES, f"there is nothing to label: {message}")


def _delete(store: Store, selector: FrameSelector) -> None:
    """Deletes each note before its image: an image without a note is not harvested again."""
    done = [frame for frame, outcome in selector.outcomes if outcome is not FrameOutcome.DAMAGED]
    with count_progress("removed", len(done)) as on_removed:
        for frame in done:
            store.delete(frame.note_key)
            store.delete(frame.image_key)
            on_removed()


def _sentences(document: dict[str, Any], folder: Path) -> str:
    guesses = ", ".join(f"{count} {label}" for label, count in document["boxes"].items())
    return "\n".join(
        (
            f"{document['found']} frames = {document['others']} of others + {document['older']} older + "
            f"{document['unreadable']} with an unreadable note + {document['damaged']} damaged + "
            f"{document['nearDuplicates']} near-duplicates + {document['beyondLimit']} beyond the limit + "
            f"{document['kept']} kept",
            f"{folder / document['archive']}: {document['kept']} pictures with the model's guesses ({guesses})",
            "correct the labels (import the folder or the .tar into Supervisely), then atoll push the export",
        )
    )
