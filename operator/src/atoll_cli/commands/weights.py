"""`atoll weights`: puts a pretrained backbone into the store, from which trainings start."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import click

from atoll_cli.commands.push import upload
from atoll_cli.console import spinner
from atoll_cli.local.state import DEFAULT_STORE
from atoll_cli.options import EngineOptions, engine_options, is_plugin
from atoll_cli.output import Output, output_option
from atoll_cli.param_types import InputPath
from atoll_cli.store_access import explain_store_errors, open_engine_store
from atoll_cli.tool import fetch_weights
from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.keys import IMAGENET_WIDTHS, OPEN_IMAGES_WIDTH
from atoll_contract.store.base import ObjectNotFound, Store
from atoll_contract.tool_reports import WeightsFile, WeightsRecord
from atoll_contract.train_spec import TrainedOn

_WIDTHS = {f"{width}": width for width in IMAGENET_WIDTHS}


@click.command(name="weights", short_help="Get pretrained weights to start trainings from.")
@engine_options(endpoint=True, object_store=True)
@click.option("--width", type=click.Choice(list(_WIDTHS)), default="1.0", show_default=True, help="Of the detector.")
@click.option(
    "--trained-on",
    type=click.Choice([str(item) for item in TrainedOn]),
    default=str(TrainedOn.IMAGENET),
    show_default=True,
    help="imagenet: to tell photographs apart; open-images: to detect (width 1.0).",
)
@click.option(
    "--from",
    "source",
    type=InputPath(),
    metavar="FILE",
    help="A file that you have, where there is no internet.",
)
@click.option("--replace", "replaces", is_flag=True, help="Take other bytes than those that were first put there.")
@output_option
def weights_command(
    engine: EngineOptions, width: str, trained_on: str, source: Path | None, replaces: bool, output: Output
) -> None:
    """Fetch a pretrained MobileNetV2 (9 MB), check its arrays, and put it into the store.

    A training from such weights needs far fewer pictures and about half of the steps. The file is that of Keras
    Applications, trained on ImageNet, or the backbone of MediaPipe's detector, trained on Open Images. A store holds
    one for each width: the first one is recorded, and another is refused from then on.
    """
    if trained_on == TrainedOn.OPEN_IMAGES:
        if _WIDTHS[width] != OPEN_IMAGES_WIDTH:
            raise SpecError(f"--trained-on {trained_on} has the width {OPEN_IMAGES_WIDTH} alone, not --width {width}")
        if source is not None and source.suffix != ".tflite":
            raise SpecError(f"--trained-on {trained_on} takes a .tflite file, which --from {source.name} is not")
    if engine.local_folder(by_namespace=True) is None and not engine.cluster.is_given and not is_plugin():
        engine = replace(engine, store=DEFAULT_STORE)
    with tempfile.TemporaryDirectory(prefix="atoll-weights-") as folder:
        with spinner("fetching and checking pretrained weights"):
            found = _fetched(_WIDTHS[width], TrainedOn(trained_on), source, Path(folder))
        path = Path(found.path)
        with explain_store_errors(endpoint=engine.endpoint):
            store = open_engine_store(engine, writing=True).store
            _require_known(store, path.name, found, replaces=replaces)
            others = _other_names(store, path.name, found.width, replaces=replaces)
            upload(store, keys.weights(path.name), path, output)
            record = WeightsRecord(found.source, found.sha256, found.source_sha256)
            store.put(keys.weights_record(path.name), to_json(record))
            for name in others:
                store.delete(keys.weights(name))
                store.delete(keys.weights_record(name))
    if output.is_text:
        click.echo(f"{path.name}: {found.layers} layers of width {width}, sha256 {found.sha256}, from {found.source}")
    else:
        key = keys.weights(path.name)
        shown = {"key": key, "store": store.url, "width": _WIDTHS[width], "layers": found.layers}
        output.print({**shown, "sha256": found.sha256, "size": found.size, "source": found.source}, [key])


def _fetched(width: float, trained_on: TrainedOn, source: Path | None, folder: Path) -> WeightsFile:
    try:
        return fetch_weights(width, source, folder, trained_on=trained_on)
    except SpecError as error:
        if source is not None:
            raise
        raise SpecError(
            f"{error.message}; where there is no internet, get that file elsewhere and give it with --from FILE",
            error.reason,
        ) from None


def _require_known(store: Store, name: str, found: WeightsFile, *, replaces: bool) -> None:
    """Raises IntegrityError where other bytes than these were first put into the store under this name."""
    try:
        known = from_json(WeightsRecord, store.get(keys.weights_record(name)))
    except ObjectNotFound:
        return
    except DecodeError as error:
        raise IntegrityError(f"{store.url}: {keys.weights_record(name)} cannot be read: {error}; remove it") from None
    if not known.is_of(found) and not replaces:
        raise IntegrityError(
            f"{found.source} has sha256 {found.sha256}; {name} in {store.url} was first put there with {known.sha256}, "
            f"from {known.source}. Nothing was changed; --replace takes the new one"
        )


def _other_names(store: Store, name: str, width: float, *, replaces: bool) -> list[str]:
    """The other names under which the store has weights of this width; a training would take those in their place.

    Raises:
        IntegrityError: there are some, and nothing is to be replaced.
    """
    names = keys.imagenet_names(width)
    found = [item for item in names if item != name and store.head(keys.weights(item)) is not None]
    if found and not replaces:
        raise IntegrityError(
            f"{store.url} has {keys.weights(found[0])} already, and a training looks for one file of width {width}. "
            "Nothing was changed; --replace takes the new one and removes that"
        )
    return found
