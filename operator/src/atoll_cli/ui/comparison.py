"""Two releases side by side: at once by their own figures, and then on the same pictures, by `atoll compare`."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.release import Manifest, Role, release_parts
from atoll_contract.store.base import ObjectNotFound, Store

COMPARE_SECONDS = 3600
OTHER_PICTURES = "Each was measured on its own evaluation pictures, which differ: compare with care."


def manifest_of(store: Store, namespace: str, release: str) -> Manifest:
    """The release's manifest.

    Raises:
        SpecError: there is no such release. IntegrityError: its manifest cannot be read.
    """
    model, version = release_parts(release)
    key = keys.manifest(namespace, model, version)
    try:
        return from_json(Manifest, store.get(key))
    except ObjectNotFound:
        raise SpecError(f"there is no release {release} in {store.url}") from None
    except DecodeError as error:
        raise IntegrityError(f"{store.url}: {key}: {error}") from None


def compared(store: Store, namespace: str, old: str, new: str) -> dict[str, Any]:
    """Rows of name, old and new value. The figures are each release's own: of its own evaluation pictures."""
    pair = [manifest_of(store, namespace, name) for name in (old, new)]
    measured = [_measured(store, manifest) for manifest in pair]
    rows = [
        _row("AP50 of the exported model", [_figure(item, "int8", "ap50") for item in pair]),
        _row("AP50 before the export", [_figure(item, "float", "ap50") for item in pair]),
        _row("AP of the exported model", [_figure(item, "int8", "ap") for item in pair]),
    ]
    labels = dict.fromkeys(label for item in pair for label in item.labels)
    rows += [_row(f"AP50 of {label}", [item.get(label) for item in measured]) for label in labels]
    facts = [
        _fact("Pictures are seen at", [f"{item.input.width}×{item.input.height}" for item in pair]),
        _fact("Edge TPU", ["compiled" if item.edgetpu.compiled else "not compiled" for item in pair]),
        _fact("Size of the model", [_size(item) for item in pair]),
        _fact("Published", [item.created_at.removesuffix("Z").replace("T", " ") for item in pair]),
        _fact("Run", [item.run.name for item in pair]),
    ]
    digests = [item.provenance.get("datasetDigest") for item in pair]
    same = bool(digests[0]) and digests[0] == digests[1]
    note = "Both were measured on the same pictures." if same else OTHER_PICTURES
    return {"old": old, "new": new, "figures": rows, "facts": facts, "note": note}


def on_same_pictures(folder: Path, namespace: str, old: str, new: str, page: Path) -> dict[str, Any]:
    """What `atoll compare` says; its page with the pictures goes to `page`.

    Raises:
        SpecError: it refused, was not able to, or took too long.
    """
    for release in (old, new):
        release_parts(release)
    arguments = ["compare", old, new, "--store", str(folder), "-n", namespace, "-o", str(page), "--json"]
    command = [sys.executable, "-P", "-m", "atoll_cli.main", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPARE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SpecError(f"the comparison took more than {COMPARE_SECONDS} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SpecError(last.removeprefix("error: "))
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _row(name: str, values: list[float | None]) -> dict[str, Any]:
    return {
        "name": name,
        **{key: value for key, value in zip(("old", "new"), values, strict=True) if value is not None},
    }


def _fact(name: str, values: list[str]) -> dict[str, Any]:
    return {"name": name, "old": values[0], "new": values[1]}


def _figure(manifest: Manifest, kind: str, name: str) -> float | None:
    figures = manifest.metrics.get(kind)
    return _number(figures.get(name)) if isinstance(figures, dict) else None


def _measured(store: Store, manifest: Manifest) -> Mapping[str, float | None]:
    """AP50 of the exported model for each class."""
    file = manifest.file(Role.METRICS)
    if file is None:
        return {}
    try:
        document = json.loads(store.get(file.key))
        classes = document["metrics"]["int8"]["perClass"]
        return {str(name): _number(value) for name, value in classes.items()}
    except (ValueError, KeyError, TypeError, AttributeError, ObjectNotFound):
        # An older release, or one by another program: the manifest's own figures still stand.
        return {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _size(manifest: Manifest) -> str:
    file = manifest.file(Role.MODEL_EDGETPU) or manifest.file(Role.MODEL_INT8)
    return f"{file.size / 1e6:.1f} MB" if file else ""
