"""Publishes releases for the edge's tests as the publish stage does: blobs, envelope, manifest, channel."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll_contract import keys
from atoll_contract.document import replace, to_json
from atoll_contract.keys import RunRef
from atoll_contract.labelmap import format_label_map
from atoll_contract.release import Channel, Detection, EdgeTpu, Manifest, ManifestFile, ManifestRef, ModelInput, Role
from atoll_contract.store.base import Store
from support.edge_model import LABELS, SIDE, colour_detector

NAMESPACE = "local"
MODEL = "colours"
CHANNEL = "stable"
# What the colour detector answers for the golden picture: known by construction.
GOLDEN_BOXES = ((0, (0.25, 0.5, 0.375, 0.625)), (1, (0.625, 0.125, 0.75, 0.25)))


@dataclass(frozen=True)
class Published:
    manifest: Manifest
    data: bytes
    sha256: str


def golden_image() -> bytes:
    """A PNG with one red and one blue square, each exactly in one cell of the detector."""
    import numpy as np
    from PIL import Image

    side = SIDE * 4
    pixels = np.full((side, side, 3), 110, np.uint8)
    for class_id, (ymin, xmin, ymax, xmax) in GOLDEN_BOXES:
        rows, columns = (
            slice(int(ymin * SIDE * 4), int(ymax * SIDE * 4)),
            slice(int(xmin * SIDE * 4), int(xmax * SIDE * 4)),
        )
        pixels[rows, columns] = (255, 0, 0) if class_id == 0 else (0, 0, 255)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def release_files(model: bytes, labels: tuple[str, ...] = LABELS) -> dict[ManifestFile, bytes]:
    """The files of a release with the bytes that belong to them."""
    expected = tuple(Detection(class_id, 0.99, box) for class_id, box in GOLDEN_BOXES)
    contents = (
        (Role.MODEL_INT8, "unoptimized.tflite", model, None),
        (Role.LABELS, "map.pbtxt", format_label_map(labels).encode(), None),
        (Role.GOLDEN, "golden-0.png", golden_image(), expected),
    )
    return {
        ManifestFile(role, name, keys.blob(_sha(data)), _sha(data), len(data), expected=seen): data
        for role, name, data, seen in contents
    }


def make_manifest(version: int, files: dict[ManifestFile, bytes], **changes: Any) -> Manifest:
    """A manifest of these files; `changes` replace its fields."""
    manifest = Manifest(
        namespace=NAMESPACE,
        model=MODEL,
        version=version,
        sequence=version,
        created_at="2027-01-09T19:12:00Z",
        run=RunRef(NAMESPACE, "colours", "00000000-0000-0000-0000-000000000000"),
        input=ModelInput(SIDE, SIDE),
        labels=LABELS,
        thresholds=(0.5,) * len(LABELS),
        files=tuple(files),
        edgetpu=EdgeTpu(compiled=False),
    )
    return replace(manifest, **changes)


def publish(
    store: Store,
    version: int = 1,
    *,
    model: bytes | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    alter: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    key_version: int | None = None,
) -> Published:
    """Publish version `version` of the colour detector. Each version's file differs in a byte that no one reads.

    `alter` changes the manifest before it is signed; `key_version` is the version that keys and channel claim.
    """
    files = release_files(model if model is not None else colour_detector() + bytes([version]))
    manifest = alter(make_manifest(version, files))
    for item, content in files.items():
        store.put(item.key, content)
    return publish_manifest(store, manifest, sign=sign, version=key_version or version)


def publish_manifest(
    store: Store, manifest: Manifest, *, sign: Callable[[bytes], bytes] | None, version: int
) -> Published:
    """Put envelope, manifest and channel."""
    data = to_json(manifest)
    if sign is not None:
        store.put(keys.signature(NAMESPACE, MODEL, version), sign(data))
    key = keys.manifest(NAMESPACE, MODEL, version)
    store.put(key, data)
    published = Published(manifest, data, _sha(data))
    point(store, published, version=version)
    return published


def point(store: Store, published: Published, *, version: int) -> None:
    """Let the channel name a manifest."""
    key = keys.manifest(NAMESPACE, MODEL, version)
    reference = ManifestRef(key, published.sha256, len(published.data))
    channel = Channel(NAMESPACE, MODEL, CHANNEL, version, version, reference, "2027-01-09T19:12:01Z")
    store.put(keys.channel(NAMESPACE, MODEL, CHANNEL), to_json(channel))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
