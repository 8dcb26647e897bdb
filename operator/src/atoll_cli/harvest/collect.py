"""Collects the frames that devices have uploaded below `harvest/`, and selects those that go into a batch.

Notes and images are not trusted: whoever has a device's keys can write them.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from atoll_cli.cluster_access import list_names
from atoll_cli.video.select import KeptImages
from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.harvest import DEVICE, MAX_IMAGE_BYTES, MAX_NOTE_BYTES, HarvestNote
from atoll_contract.images import CELLS, opened
from atoll_contract.installation import INSTALL_LAPTOP
from atoll_contract.release import Detection
from atoll_contract.store.base import ObjectInfo, ObjectNotFound, Store

if TYPE_CHECKING:
    from PIL.Image import Image

# One call reads at most this many frames, the newest ones: about those of a season.
MAX_FRAMES = 20_000
MAX_NUMBER = 10**9
# No camera of a robot has more pixels on a side; larger images are not decoded.
MAX_SIDE = 4096
_NOTE_KEY = re.compile(r"([^/]+)/[0-9a-f]{64}\.json")
_SESSION = re.compile(r"[a-z]{1,16}")


def require_libraries() -> None:
    """Check what the selection needs before anything is fetched.

    Raises:
        SpecError: NumPy or Pillow is not installed.
    """
    try:
        import numpy  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise SpecError(f"pictures need NumPy and Pillow ({error}); {INSTALL_LAPTOP} brings them") from None


@dataclass(frozen=True)
class Frame:
    """A frame in the bucket: the device that its key names, its note, and its upload in seconds since 1970 by the
    store's clock."""

    device: str
    note: HarvestNote
    uploaded_at: float

    @property
    def image_key(self) -> str:
        return keys.harvested_image(self.note.namespace, self.device, self.note.sha256)

    @property
    def note_key(self) -> str:
        return keys.harvested_note(self.note.namespace, self.device, self.note.sha256)


@dataclass
class Collection:
    """The frames that were requested, and the number of the others: `older` ones, those of `others` (devices and
    models), and those with an `unreadable` note. Only the newest MAX_FRAMES are read."""

    frames: list[Frame] = field(default_factory=list)
    older: int = 0
    others: int = 0
    unreadable: int = 0

    @property
    def found(self) -> int:
        return len(self.frames) + self.older + self.others + self.unreadable


def collect(
    store: Store,
    namespace: str,
    name: str | None,
    *,
    since: float | None,
    on_note: Callable[[], None] = lambda: None,
) -> Collection:
    """The frames of the namespace, or of the device or else the model `name`, uploaded after `since` (seconds since
    1970). `on_note` is called after each note that was read.

    Raises:
        SpecError: there is no such device or model.
        StoreError: the store does not answer.
    """
    listed = _list_notes(store, namespace)
    devices = {device for device, _ in listed}
    model = name if name not in devices else None
    found = Collection()
    models: set[str] = set()
    for device, info in listed:
        uploaded_at = info.modified_at or 0.0
        if name in devices and device != name:
            found.others += 1
        elif since is not None and uploaded_at < since:
            found.older += 1
        else:
            note = _read_note(store, namespace, device, info.key)
            on_note()
            if note is None:
                found.unreadable += 1
                continue
            models.add(note.model)
            if model is not None and note.model != model:
                found.others += 1
            else:
                found.frames.append(Frame(device, note, uploaded_at))
    if model is not None and model not in models and not found.older:
        known = f"devices there: {list_names(sorted(devices))}; models: {list_names(sorted(models))}"
        raise SpecError(f"there is no frame of a device or model {name} in {store.url}; {known}")
    return found


def _list_notes(store: Store, namespace: str) -> list[tuple[str, ObjectInfo]]:
    """Device and object of the newest notes."""
    prefix = keys.harvests_prefix(namespace)
    notes = (
        (found.group(1), info)
        for info in store.list(prefix)
        if (found := _NOTE_KEY.fullmatch(info.key.removeprefix(prefix))) is not None
    )
    return heapq.nlargest(MAX_FRAMES, notes, key=lambda item: (item[1].modified_at or 0.0, item[1].key))


def _read_note(store: Store, namespace: str, device: str, key: str) -> HarvestNote | None:
    """The note at `key`; None if it is invalid, or not of this device, namespace and image."""
    if DEVICE.fullmatch(device) is None:
        return None
    try:
        note = from_json(HarvestNote, store.get(key, limit=MAX_NOTE_BYTES))
    except (DecodeError, UnicodeDecodeError, IntegrityError, ObjectNotFound):
        return None
    own = (note.namespace, note.device, keys.harvested_note(namespace, device, note.sha256))
    if own != (namespace, device, key):
        return None
    valid = _SESSION.fullmatch(note.session) and 0 < note.number <= MAX_NUMBER and math.isfinite(note.doubt)
    return note if valid and _has_valid_boxes(note) else None


def _has_valid_boxes(note: HarvestNote) -> bool:
    def is_valid(item: Detection) -> bool:
        return 0 <= item.class_id < len(note.labels) and len(item.box) == 4

    return len(note.thresholds) == len(note.labels) and all(is_valid(item) for item in note.detections)


class FrameOutcome(StrEnum):
    """What became of a frame."""

    KEPT = "kept"
    DUPLICATE = "near-duplicate"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class KeptFrame:
    """A frame of the batch, with its image's bytes and real size in pixels."""

    frame: Frame
    data: bytes
    width: int
    height: int


@dataclass
class FrameSelector:
    """Selects up to `limit` frames that differ from each other in at least the share `min_change` of the image.

    `outcomes` then has each frame that was examined, in the order of examination.
    """

    store: Store
    min_change: float
    limit: int | None = None
    on_frame: Callable[[], None] = lambda: None
    outcomes: list[tuple[Frame, FrameOutcome]] = field(default_factory=list)

    def select(self, frames: list[Frame]) -> Iterator[KeptFrame]:
        """The frames of the batch: those of the highest uncertainty first, of equal ones the newest."""
        images = KeptImages()
        count = 0
        for frame in sorted(frames, key=lambda item: (-item.note.doubt, -item.uploaded_at, item.note.sha256)):
            if count == self.limit:
                return
            outcome, kept = self._examine(frame, images)
            self.outcomes.append((frame, outcome))
            self.on_frame()
            if kept is not None:
                count += 1
                yield kept

    def count(self, outcome: FrameOutcome) -> int:
        return Counter(item for _, item in self.outcomes)[outcome]

    def _examine(self, frame: Frame, images: KeptImages) -> tuple[FrameOutcome, KeptFrame | None]:
        import numpy as np
        from PIL.Image import Resampling

        data = self._read_image(frame)
        image = None if data is None else _decode(data)
        if data is None or image is None:
            return FrameOutcome.DAMAGED, None
        cells = np.asarray(image.convert("L").resize((CELLS, CELLS), Resampling.BOX))
        nearest = images.nearest(cells)
        if nearest is not None and nearest.change < self.min_change:
            return FrameOutcome.DUPLICATE, None
        images.add(frame.note.sha256, cells)
        return FrameOutcome.KEPT, KeptFrame(frame, data, image.width, image.height)

    def _read_image(self, frame: Frame) -> bytes | None:
        """The image's bytes; None if they are gone, or not those that the note names."""
        try:
            data = self.store.get(frame.image_key, limit=MAX_IMAGE_BYTES)
        except (ObjectNotFound, IntegrityError):
            return None
        return data if hashlib.sha256(data).hexdigest() == frame.note.sha256 else None


def _decode(data: bytes) -> Image | None:
    """The JPEG, decoded; None for anything else."""
    try:
        image = opened(data, ("JPEG",))
        if max(image.size) > MAX_SIDE:
            return None
        image.load()
    except (OSError, SyntaxError, ValueError):
        return None
    return image
