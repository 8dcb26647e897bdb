"""A batch as a Supervisely project ("json + images"): a folder to import, and the same as a .tar.

`<project>/meta.json`, and for each device a dataset `<device>/{img,ann}/`. Pictures are called
`<device>-<camera>-<session>_<number>.jpg`: the split keeps 50 neighbouring numbers of one session together.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atoll_contract.manifest import Detection
from atoll_operator.harvest.choice import Kept
from atoll_operator.harvest.collection import Frame

META = "meta.json"
# Of classes, in turn; Supervisely wants one for each.
COLOURS = ("#F8E71C", "#50E3C2", "#4A90E2", "#D0021B", "#7ED321", "#BD10E0", "#F5A623", "#9013FE", "#417505", "#8B572A")
MOST_NAME = 64


class Project:
    """A project that is written picture by picture; `finish` writes its classes and the archive."""

    def __init__(self, folder: Path, name: str) -> None:
        """`folder` is that of the batch; the project lies in it under its name."""
        self.name = name
        self.folder = folder / name
        self.archive = folder / f"{name}.tar"
        self.boxes: dict[str, int] = {}

    def add(self, kept: Kept) -> str:
        """Write a picture and its labels; the picture's path within the project.

        Raises:
            OSError: the disk is full, or not to be written.
        """
        name = file_name(kept.frame)
        pictures, annotations = (self.folder / kept.frame.device / part for part in ("img", "ann"))
        for folder in (pictures, annotations):
            folder.mkdir(parents=True, exist_ok=True)
        for label in kept.frame.note.labels:
            self.boxes.setdefault(label, 0)
        document = self._annotation(kept)
        (pictures / name).write_bytes(kept.data)
        (annotations / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        return f"{kept.frame.device}/img/{name}"

    def finish(self) -> None:
        """Write meta.json, and the project as an archive whose bytes follow from its content."""
        classes = [
            {
                "title": title,
                "shape": "rectangle",
                "color": COLOURS[place % len(COLOURS)],
                "geometry_config": {},
                "id": place + 1,
                "hotkey": "",
            }
            for place, title in enumerate(self.boxes)
        ]
        document = {"classes": classes, "tags": [], "projectType": "images"}
        (self.folder / META).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        with tarfile.open(self.archive, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self.folder.rglob("*")):
                if path.is_file():
                    archive.add(path, f"{self.name}/{path.relative_to(self.folder).as_posix()}", filter=_plain)

    def _annotation(self, kept: Kept) -> dict[str, Any]:
        note = kept.frame.note
        seen = [item for item in note.detections if item.score >= note.thresholds[item.class_id]]
        rectangles = (self._rectangle(item, note.labels, kept) for item in seen)
        objects = [item for item in rectangles if item is not None]
        for item in objects:
            self.boxes[item["classTitle"]] += 1
        told = f"{note.release} on {kept.frame.device}, {note.taken_at[:32]}, doubt {note.doubt:g} ({note.cause})"
        return {
            "description": told,
            "tags": [],
            "size": {"width": kept.width, "height": kept.height},
            "objects": [{"id": number, **item} for number, item in enumerate(objects, start=1)],
        }

    def _rectangle(self, item: Detection, labels: Sequence[str], kept: Kept) -> dict[str, Any] | None:
        """A detection in pixels, clipped to the picture; None where nothing is left of it."""
        sides = (kept.height, kept.width, kept.height, kept.width)
        ymin, xmin, ymax, xmax = (
            round(min(max(value, 0.0), 1.0) * side) for value, side in zip(item.box, sides, strict=True)
        )
        if xmax <= xmin or ymax <= ymin:
            return None
        title = labels[item.class_id]
        return {
            "classId": list(self.boxes).index(title) + 1,
            "classTitle": title,
            "description": f"score {item.score:.2f}",
            "geometryType": "rectangle",
            "tags": [],
            "points": {"exterior": [[xmin, ymin], [xmax, ymax]], "interior": []},
        }


def file_name(frame: Frame) -> str:
    """Stays the same however often a frame is harvested."""
    camera = re.sub(r"[^A-Za-z0-9]+", "-", frame.note.camera).strip("-")[:MOST_NAME] or "camera"
    return f"{frame.device[:MOST_NAME]}-{camera}-{frame.note.session}_{frame.note.number:05d}.jpg"


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner, rights and time of this machine."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    info.mode = 0o644
    return info
