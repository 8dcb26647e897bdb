"""What a harvest did with every frame, as files beside the batch: harvest.json and harvest.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from atoll_operator.harvest.choice import Choice, Fate
from atoll_operator.harvest.collection import Collection, Frame
from atoll_operator.harvest.supervisely import Project

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
