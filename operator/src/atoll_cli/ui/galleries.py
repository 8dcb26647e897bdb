"""What was found in the archives of the store: their lint reports and galleries, kept beside the store's files."""

import base64
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import SpecError
from atoll_contract.files import written_whole
from atoll_contract.store.base import ObjectInfo
from atoll_contract.tool_reports import GALLERY_FILE, Gallery, GalleryImage, LintReport

PAGE_IMAGES = 24
# What stands for "without boxes" where a class is asked for: no class is called so.
NO_BOX = "-"
_REPORT = "report.json"


class Galleries:
    """A folder for each archive. It is of the archive's bytes (ETag): another archive of that name replaces it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new_folder(self) -> Path:
        """An empty folder for the linter; `keep` or `discard` it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self._folder, prefix="new-"))

    def keep(self, folder: Path, report: LintReport, info: ObjectInfo) -> None:
        """Make the folder that of the archive, in place of an earlier one."""
        with written_whole(folder / _REPORT) as stream:
            stream.write(to_json(report))
        target = self._of(info)
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir(parents=True)
        folder.rename(target)

    def discard(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def report(self, info: ObjectInfo) -> LintReport | None:
        """The lint report of the archive; None if it was not inspected, or by another version of Atoll."""
        try:
            return from_json(LintReport, (self._of(info) / _REPORT).read_bytes())
        except (OSError, DecodeError):
            return None

    def images(self, info: ObjectInfo, label: str, start: int) -> dict[str, Any]:
        """Some images of the archive, from number `start` on, with all of their boxes: of one class, of all ("") or
        those without boxes (NO_BOX). `total` is how many there are in the gallery.

        Raises:
            SpecError: the archive was not inspected.
        """
        folder = self._of(info)
        try:
            gallery = from_json(Gallery, (folder / GALLERY_FILE).read_bytes())
        except (OSError, DecodeError):
            raise SpecError("this archive was not inspected yet; look into it first") from None
        found = [item for item in gallery.images if _has(item, label)]
        page = found[max(0, start) : max(0, start) + PAGE_IMAGES]
        return {"total": len(found), "images": [_image_document(item, folder) for item in page]}

    def _of(self, info: ObjectInfo) -> Path:
        key, etag = (hashlib.sha256(text.encode()).hexdigest()[:32] for text in (info.key, info.etag))
        return self._folder / key / etag


def _has(item: GalleryImage, label: str) -> bool:
    if label == NO_BOX:
        return not item.boxes
    return not label or any(box.label == label for box in item.boxes)


def _image_document(item: GalleryImage, folder: Path) -> dict[str, Any]:
    data = base64.b64encode((folder / Path(item.file).name).read_bytes()).decode()
    return {
        "name": item.name,
        "split": item.split,
        "width": item.width,
        "height": item.height,
        "data": f"data:image/jpeg;base64,{data}",
        "boxes": [[box.label, box.xmin, box.ymin, box.xmax, box.ymax] for box in item.boxes],
    }
