"""Writes a batch as a Supervisely project ("json + images"): a folder to import, the same as a .tar, and a report.

`<project>/meta.json`, and for each device a dataset `<device>/{img,ann}/`. Images are called
`<device>-<camera>-<session>_<number>.jpg`: the split keeps 50 neighbouring numbers of one session together.
"""

from __future__ import annotations

import csv
import json
import re
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll_cli.harvest.collect import Collection, Frame, FrameOutcome, FrameSelector, KeptFrame
from atoll_contract.release import Detection
from atoll_contract.text import csv_row

META = "meta.json"
# The colours of the classes, in turn; Supervisely requires one for each.
COLOURS = ("#F8E71C", "#50E3C2", "#4A90E2", "#D0021B", "#7ED321", "#BD10E0", "#F5A623", "#9013FE", "#417505", "#8B572A")
MAX_NAME = 64

SUMMARY, TABLE = "harvest.json", "harvest.csv"
COLUMNS = ("device", "camera", "takenAt", "release", "cause", "doubt", "fate", "file", "sha256")


class Batch:
    """A Supervisely project that is written image by image, in a folder named after the time."""

    def __init__(self, output: Path) -> None:
        self.name = f"harvest-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        self.folder = output / self.name
        self.archive = output / f"{self.name}.tar"
        # The boxes of each class; the path of each image within the project, by the image's sha256.
        self.boxes: dict[str, int] = {}
        self.files: dict[str, str] = {}

    def write(self, frames: Iterable[KeptFrame]) -> None:
        """Write images and labels, then the classes and the archive; nothing for no frames.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        for kept in frames:
            self._add(kept)
        if self.files:
            self._finish()

    def _add(self, kept: KeptFrame) -> None:
        name = file_name(kept.frame)
        images, annotations = (self.folder / kept.frame.device / part for part in ("img", "ann"))
        for folder in (images, annotations):
            folder.mkdir(parents=True, exist_ok=True)
        for label in kept.frame.note.labels:
            self.boxes.setdefault(label, 0)
        document = self._annotation(kept)
        (images / name).write_bytes(kept.data)
        (annotations / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        self.files[kept.frame.note.sha256] = f"{kept.frame.device}/img/{name}"

    def _finish(self) -> None:
        """Write meta.json, and an archive whose bytes depend on its content alone."""
        classes = [
            {
                "title": title,
                "shape": "rectangle",
                "color": COLOURS[index % len(COLOURS)],
                "geometry_config": {},
                "id": index + 1,
                "hotkey": "",
            }
            for index, title in enumerate(self.boxes)
        ]
        document = {"classes": classes, "tags": [], "projectType": "images"}
        (self.folder / META).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        with tarfile.open(self.archive, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self.folder.rglob("*")):
                if path.is_file():
                    archive.add(path, f"{self.name}/{path.relative_to(self.folder).as_posix()}", filter=_anonymous)

    def _annotation(self, kept: KeptFrame) -> dict[str, Any]:
        note = kept.frame.note
        seen = [item for item in note.detections if item.score >= note.thresholds[item.class_id]]
        rectangles = (self._rectangle(item, note.labels, kept) for item in seen)
        objects = [item for item in rectangles if item is not None]
        for item in objects:
            self.boxes[item["classTitle"]] += 1
        source = f"{note.release} on {kept.frame.device}, {note.taken_at[:32]}"
        return {
            "description": f"{source}, doubt {note.doubt:g} ({note.cause})",
            "tags": [],
            "size": {"width": kept.width, "height": kept.height},
            "objects": [{"id": number, **item} for number, item in enumerate(objects, start=1)],
        }

    def _rectangle(self, item: Detection, labels: Sequence[str], kept: KeptFrame) -> dict[str, Any] | None:
        """A detection in pixels, clipped to the image; None if nothing is left of it."""
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
    """The image's name, the same however often a frame is harvested."""
    camera = re.sub(r"[^A-Za-z0-9]+", "-", frame.note.camera).strip("-")[:MAX_NAME] or "camera"
    return f"{frame.device[:MAX_NAME]}-{camera}-{frame.note.session}_{frame.note.number:05d}.jpg"


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Removes owner, permissions and time of this machine."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    info.mode = 0o644
    return info


def summary(found: Collection, selector: FrameSelector, batch: Batch) -> dict[str, Any]:
    """The document harvest.json. `found` is the sum of the numbers from `older` to `kept`."""
    kept = [frame for frame, outcome in selector.outcomes if outcome is FrameOutcome.KEPT]
    return {
        "project": batch.name,
        "archive": batch.archive.name,
        "found": found.found,
        "older": found.older,
        "others": found.others,
        "unreadable": found.unreadable,
        "damaged": selector.count(FrameOutcome.DAMAGED),
        "nearDuplicates": selector.count(FrameOutcome.DUPLICATE),
        "beyondLimit": len(found.frames) - len(selector.outcomes),
        "kept": len(kept),
        "devices": {name: sum(frame.device == name for frame in kept) for name in sorted({f.device for f in kept})},
        "boxes": batch.boxes,
    }


def write_report(folder: Path, selector: FrameSelector, batch: Batch, document: Mapping[str, Any]) -> None:
    """Write harvest.json, which is `document`, and harvest.csv with each examined frame into `folder`."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(csv_row(_row(frame, outcome, batch)) for frame, outcome in selector.outcomes)


def _row(frame: Frame, outcome: FrameOutcome, batch: Batch) -> tuple[object, ...]:
    note = frame.note
    file = batch.files.get(note.sha256, "") if outcome is FrameOutcome.KEPT else ""
    figures = (note.taken_at[:32], note.release, note.cause, f"{note.doubt:.3f}")
    return (frame.device, note.camera, *figures, outcome, file, note.sha256)
