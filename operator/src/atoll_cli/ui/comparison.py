"""Compares two releases: by the figures of their manifests, and by `atoll compare` on the same images."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll_cli.releases import read_manifest
from atoll_cli.ui.targets import compared_targets
from atoll_contract.errors import SpecError
from atoll_contract.release import Manifest, Role, release_parts
from atoll_contract.store.base import ObjectNotFound, Store

COMPARE_SECONDS = 3600
OTHER_IMAGES = "Each was measured on its own evaluation pictures, which differ: compare with care."


def compare_figures(store: Store, namespace: str, old: str, new: str) -> dict[str, Any]:
    """Rows with the old and the new value of each figure; a release was measured on its own evaluation images.

    Raises:
        SpecError: there is no such release.
        IntegrityError: a manifest cannot be read.
    """
    pair = [read_manifest(store, namespace, name) for name in (old, new)]
    per_class = [_per_class(store, manifest) for manifest in pair]
    rows = [
        _row("AP50 of the exported model", [_figure(item, "int8", "ap50") for item in pair]),
        _row("AP50 before the export", [_figure(item, "float", "ap50") for item in pair]),
        _row("AP of the exported model", [_figure(item, "int8", "ap") for item in pair]),
    ]
    labels = dict.fromkeys(label for item in pair for label in item.labels)
    rows += [_row(f"AP50 of {label}", [item.get(label) for item in per_class]) for label in labels]
    target_figures, targets = compared_targets(pair)
    facts = [
        _row("Pictures are seen at", [f"{item.input.width}×{item.input.height}" for item in pair]),
        *targets,
        _row("Size of the model", [_size(item) for item in pair]),
        _row("Published", [item.created_at.removesuffix("Z").replace("T", " ") for item in pair]),
        _row("Run", [item.run.name for item in pair]),
    ]
    digests = [item.provenance.get("datasetDigest") for item in pair]
    same = bool(digests[0]) and digests[0] == digests[1]
    note = "Both were measured on the same pictures." if same else OTHER_IMAGES
    return {"figures": [*rows, *target_figures], "facts": facts, "note": note}


def compare_on_same_images(folder: Path, namespace: str, old: str, new: str, page: Path) -> dict[str, Any]:
    """Run `atoll compare`, which writes a page with images to `page`; return its document.

    Raises:
        SpecError: it refused, failed, or took too long.
    """
    for release in (old, new):
        release_parts(release)
    arguments = ["compare", old, new, "--store", str(folder), "-n", namespace, "--to", str(page), "-o", "json"]
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


def _row(name: str, pair: list[Any]) -> dict[str, Any]:
    values = {key: value for key, value in zip(("old", "new"), pair, strict=True) if value is not None}
    return {"name": name, **values}


def _figure(manifest: Manifest, kind: str, name: str) -> float | None:
    figures = manifest.metrics.get(kind)
    return _number(figures.get(name)) if isinstance(figures, dict) else None


def _per_class(store: Store, manifest: Manifest) -> Mapping[str, float | None]:
    """AP50 of the exported model for each class."""
    file = manifest.file(Role.METRICS)
    if file is None:
        return {}
    try:
        document = json.loads(store.get(file.key))
        classes = document["metrics"]["int8"]["perClass"]
        return {str(name): _number(value) for name, value in classes.items()}
    except (ValueError, KeyError, TypeError, AttributeError, ObjectNotFound):
        # The release is older, or of another program: the figures of its manifest are still valid.
        return {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _size(manifest: Manifest) -> str:
    file = manifest.file(Role.MODEL_EDGETPU) or manifest.file(Role.MODEL_INT8)
    return f"{file.size / 1e6:.1f} MB" if file else ""
