"""Cut the demo's sample out of a Supervisely export: `python make_sample.py bccd-supervisely.tar OUT.tar`.

The result is byte-for-byte the same for the same input and the same Pillow: no clock, no random choice, no owner names.
Each picture is one 4:3 window of its source at three quarters of the size, laid where it shows rare classes whole.
Pictures of `train` come from the source's `train` only and those of `val` from its `val`, so that none leaks.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

PROJECT = "BCCD"
PICTURES = {"train": 84, "val": 28}
OUT_SIZE = (320, 240)
WINDOW = (426, 320)
STEP = 16
JPEG_QUALITY = 72
RARE_WEIGHT = {"Platelets": 3.0, "WBC": 3.0}
CUT_PENALTY = 2.0
KEPT_SHARE = 0.3

Box = tuple[str, float, float, float, float]


@dataclass(frozen=True)
class Window:
    """One cut of a source picture: its corner and the boxes (title, left, top, right, bottom) seen in it."""

    score: float
    left: int
    top: int
    boxes: tuple[Box, ...]


def read_boxes(annotation: dict[str, Any]) -> list[Box]:
    """The rectangles of a Supervisely annotation, corners sorted, in pixels."""
    boxes = []
    for item in annotation["objects"]:
        (x0, y0), (x1, y1) = item["points"]["exterior"]
        boxes.append((item["classTitle"], min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
    return boxes


def cut(boxes: list[Box], *, left: int, top: int) -> Window:
    """Clip the boxes to the window; objects with a small rest in it cost points, whole rare ones earn them."""
    kept: list[Box] = []
    score = 0.0
    for title, x0, y0, x1, y1 in boxes:
        cx0, cx1 = max(x0 - left, 0), min(x1 - left, WINDOW[0])
        cy0, cy1 = max(y0 - top, 0), min(y1 - top, WINDOW[1])
        if cx1 <= cx0 or cy1 <= cy0:
            continue
        share = (cx1 - cx0) * (cy1 - cy0) / ((x1 - x0) * (y1 - y0))
        weight = RARE_WEIGHT.get(title, 1.0)
        if share < KEPT_SHARE:
            score -= CUT_PENALTY * weight / 3
            continue
        score += weight * share
        kept.append((title, cx0, cy0, cx1, cy1))
    return Window(score, left, top, tuple(kept))


def best_window(boxes: list[Box], *, size: tuple[int, int]) -> Window:
    """The window with the highest score; among equals the one nearest the top left."""
    windows = [
        cut(boxes, left=left, top=top)
        for top in range(0, size[1] - WINDOW[1] + 1, STEP)
        for left in range(0, size[0] - WINDOW[0] + 1, STEP)
    ]
    return max(windows, key=lambda w: (w.score, -w.top, -w.left))


def choose(members: dict[str, bytes], dataset: str) -> list[tuple[str, Window]]:
    """Of pictures that show every rare class in their best window, the first of each `dataset` by file name."""
    chosen = []
    prefix = f"{PROJECT}/{dataset}/ann/"
    for path in sorted(name for name in members if name.startswith(prefix)):
        annotation = json.loads(members[path])
        size = annotation["size"]
        if size["width"] < WINDOW[0] or size["height"] < WINDOW[1]:
            continue
        window = best_window(read_boxes(annotation), size=(size["width"], size["height"]))
        if {title for title, *_ in window.boxes} >= set(RARE_WEIGHT):
            chosen.append((path.removeprefix(prefix).removesuffix(".json"), window))
    return chosen[: PICTURES[dataset]]


def picture(source: bytes, window: Window) -> bytes:
    """The window as a JPEG of OUT_SIZE."""
    area = (window.left, window.top, window.left + WINDOW[0], window.top + WINDOW[1])
    with Image.open(io.BytesIO(source)) as image:
        small = image.convert("RGB").crop(area).resize(OUT_SIZE, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return out.getvalue()


def annotation(window: Window) -> bytes:
    """The window's boxes as a Supervisely annotation."""
    sx, sy = OUT_SIZE[0] / WINDOW[0], OUT_SIZE[1] / WINDOW[1]
    objects = [
        {
            "classTitle": title,
            "geometryType": "rectangle",
            "tags": [],
            "points": {
                "exterior": [[round(x0 * sx), round(y0 * sy)], [round(x1 * sx), round(y1 * sy)]],
                "interior": [],
            },
        }
        for title, x0, y0, x1, y1 in window.boxes
    ]
    size = {"width": OUT_SIZE[0], "height": OUT_SIZE[1]}
    document = {"description": "", "tags": [], "size": size, "objects": objects}
    return json.dumps(document, separators=(",", ":")).encode()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """Write the files in order of name with fixed metadata."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(files[name]))


def make_sample(source: Path, out: Path) -> None:
    """Read the Supervisely export `source` and write the sample `out`."""
    with tarfile.open(source) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    files = {f"{PROJECT}/meta.json": members[f"{PROJECT}/meta.json"]}
    for dataset in PICTURES:
        for name, window in choose(members, dataset):
            image = members[f"{PROJECT}/{dataset}/img/{name}"]
            files[f"{PROJECT}/{dataset}/img/{name}"] = picture(image, window)
            files[f"{PROJECT}/{dataset}/ann/{name}.json"] = annotation(window)
    write_tar(out, files)


if __name__ == "__main__":
    make_sample(Path(sys.argv[1]), Path(sys.argv[2]))
