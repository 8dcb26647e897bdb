"""A batch as a Supervisely project ("json + images"): a folder to import, and the same as a .tar.

`<project>/meta.json`, and for each device a dataset `<device>/{img,ann}/`. Pictures are called
`<device>-<camera>-<session>_<number>.jpg`: the split keeps 50 neighbouring numbers of one session together.
"""

from __future__ import annotations

import csv
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atoll_cli.harvest.collect import Choice, Collection, Fate, Frame, Kept
from atoll_contract.release import Detection

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


SUMMARY, TABLE = "harvest.json", "harvest.csv"
COLUMNS = ("device", "camera", "takenAt", "release", "cause", "doubt", "fate", "file", "sha256")


def summary(found: Collection, choice: Choice, project: Project) -> dict[str, object]:
    """What harvest.json holds. `found` is the sum of the numbers from `older` to `kept`."""
    kept = [frame for frame, fate in choice.fates if fate is Fate.KEPT]
    return {
        "project": project.name,
        "archive": project.archive.name,
        "found": found.found,
        "older": found.older,
        "others": found.others,
        "unreadable": found.unreadable,
        "damaged": choice.count(Fate.DAMAGED),
        "nearDuplicates": choice.count(Fate.DUPLICATE),
        "beyondLimit": len(found.frames) - len(choice.fates),
        "kept": len(kept),
        "devices": {name: sum(frame.device == name for frame in kept) for name in sorted({f.device for f in kept})},
        "boxes": project.boxes,
    }


def write_account(folder: Path, choice: Choice, files: Mapping[str, str], document: Mapping[str, object]) -> None:
    """Write both files into `folder`; `files` has the path of each kept picture by its digest."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_columns(frame, fate, files.get(frame.note.sha256, "")) for frame, fate in choice.fates)


def _columns(frame: Frame, fate: Fate, file: str) -> tuple[object, ...]:
    note = frame.note
    kept = file if fate is Fate.KEPT else ""
    figures = (note.taken_at[:32], note.release, note.cause, f"{note.doubt:.3f}")
    return (frame.device, note.camera, *figures, fate, kept, note.sha256)
