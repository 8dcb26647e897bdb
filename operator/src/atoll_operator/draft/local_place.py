"""This machine as the place of a run: the folder of the local engine, its runs, its start weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.codec import from_json
from atoll_contract.errors import AtollError, SpecError
from atoll_contract.manifest import Manifest, release_parts
from atoll_contract.stage import ENV_WEIGHTS_DIR, Architecture, InitFrom
from atoll_contract.store import ObjectNotFound, Store
from atoll_contract.weights import IMAGENET_WIDTHS, imagenet_names
from atoll_operator.draft.place import Place
from atoll_operator.draft.settings import Start
from atoll_operator.local.folders import RunFolder, known_runs
from atoll_operator.local.record import read_record


def local_place(folder: Path, store: Store, namespace: str, *, release: str | None) -> Place:
    """The local engine with `folder`.

    Raises:
        SpecError: there is no such release, or the run that made it is not known here.
    """
    folders = [item for item in known_runs(folder.resolve()) if item.namespace == namespace]
    runs = tuple(run for item in folders if (run := _run(item)) is not None)
    start, words, model = _start(store, namespace, runs, release)
    return Place(
        "this machine",
        namespace,
        cluster=False,
        start=start,
        start_words=words,
        runs=runs,
        taken=frozenset(item.name for item in folders),
        model=model,
    )


def release_start(release: str, run: Mapping[str, Any] | None) -> Start:
    """To train on from a release of that run: detector and width must be the same.

    Raises:
        SpecError: the run is not known any more.
    """
    if run is None:
        raise SpecError(
            f"the run that made {release} is gone, and with it its architecture and width; leave --from out and write "
            f"initFrom: {{ type: release, releaseRef: {{ name: {release} }} }} with both into the file"
        )
    model = run["spec"]["model"]
    return Start(
        InitFrom.RELEASE,
        release=release,
        width=float(model["width"]),
        architecture=Architecture(model["architecture"]),
    )


def _start(
    store: Store, namespace: str, runs: tuple[Mapping[str, Any], ...], release: str | None
) -> tuple[Start, str, str | None]:
    if release is None:
        width = next((item for item in IMAGENET_WIDTHS if _has_weights(store, item)), None)
        if width is not None:
            return Start(InitFrom.IMAGENET, width=width), f"the weights of width {width} are at hand", None
        return Start(InitFrom.RANDOM), "imagenet starts better: atoll push --weights FILE", None
    model, version = release_parts(release)
    try:
        manifest = from_json(Manifest, store.get(keys.manifest(namespace, model, version)))
    except ObjectNotFound:
        raise SpecError(f"there is no release {release} in {store.url}; see atoll releases") from None
    made_by = next((run for run in runs if run["metadata"]["uid"] == manifest.run.uid), None)
    return release_start(release, made_by), f"goes on from {release}; its architecture and width must stay", model


def _run(folder: RunFolder) -> Mapping[str, Any] | None:
    try:
        record = read_record(folder)
    except AtollError:
        # Its damage is told by the commands that need that run.
        return None
    return record.body if record else None


def _has_weights(store: Store, width: float) -> bool:
    baked = os.environ.get(ENV_WEIGHTS_DIR)
    names = imagenet_names(width)
    return any((Path(baked) / name).is_file() for name in names if baked) or any(
        store.head(keys.weights(name)) is not None for name in names
    )
