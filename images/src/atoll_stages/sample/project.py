"""Writes labelled pictures as a Supervisely export ("json + images") in a .tar."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll_stages.sample.render import VisibleBox
from atoll_stages.sample.scene import CLASSES

QUALITY = 88
COLOURS = {"ring": "#F5A623", "ball": "#50E3C2", "pipe": "#4A90E2"}


class Project:
    """An archive that is written picture by picture. Its bytes depend on the pictures alone: no clock, no owner."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.images = 0
        self.boxes: Counter[str] = Counter()
        self._tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)
        classes = [{"title": title, "shape": "rectangle", "color": COLOURS[title]} for title in CLASSES]
        self._put("meta.json", _json({"classes": classes, "tags": [], "projectType": "images"}))

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *details: object) -> None:
        self._tar.close()

    def add(self, dataset: str, name: str, jpeg: bytes, size: tuple[int, int], boxes: Sequence[VisibleBox]) -> None:
        """Append a picture of a dataset, with its labels."""
        self._put(f"{dataset}/img/{name}", jpeg)
        objects = [_rectangle(box) for box in boxes]
        document = {
            "description": "",
            "tags": [],
            "size": {"width": size[0], "height": size[1]},
            "objects": objects,
        }
        self._put(f"{dataset}/ann/{name}.json", _json(document))
        self.images += 1
        self.boxes.update(box.kind for box in boxes)

    def _put(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(f"{self.name}/{name}")
        info.size, info.mode = len(data), 0o644
        self._tar.addfile(info, io.BytesIO(data))


def jpeg_of(pixels: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _rectangle(box: VisibleBox) -> dict[str, object]:
    corners = [[box.left, box.top], [box.right, box.bottom]]
    return {
        "classTitle": box.kind,
        "geometryType": "rectangle",
        "tags": [],
        "points": {"exterior": corners, "interior": []},
    }


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
