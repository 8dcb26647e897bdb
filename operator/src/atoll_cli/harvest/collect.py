"""What lies in the bucket below `harvest/`: the notes, read as strangers' data."""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from atoll_cli.video.reader import INSTALL
from atoll_cli.video.select import Gallery
from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.harvest import DEVICE, MAX_NOTE_BYTES, MAX_PICTURE_BYTES, HarvestNote
from atoll_contract.images import CELLS, opened
from atoll_contract.release import Detection
from atoll_contract.store.base import ObjectInfo, ObjectNotFound, Store

if TYPE_CHECKING:
    from PIL.Image import Image


# The newest that one call looks at: a season's worth, and a bound.
MOST_FRAMES = 20_000
_NAMES_TOLD = 10
_NOTE = re.compile(r"([^/]+)/[0-9a-f]{64}\.json")
_SESSION = re.compile(r"[a-z]{1,16}")
MOST_NUMBER = 10**9


@dataclass(frozen=True)
class Frame:
    """A frame in the bucket: the device by its key, the note that was read, and when it came by the store's clock."""

    device: str
    note: HarvestNote
    uploaded_at: float

    @property
    def picture_key(self) -> str:
        return keys.harvested_picture(self.note.namespace, self.device, self.note.sha256)

    @property
    def note_key(self) -> str:
        return keys.harvested_note(self.note.namespace, self.device, self.note.sha256)


@dataclass
class Collection:
    """The frames that were asked for, and how many others there are: `older` than asked, of `others` (devices and
    models), with an `unreadable` note. Only the newest MOST_FRAMES are looked at."""

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
    read: Callable[[], None] = lambda: None,
) -> Collection:
    """The frames of the namespace, or those of the device or else of the model `name`; `since` in seconds since 1970.
    `read` is called for each note that was read.

    Raises:
        SpecError: there is no such device or model. StoreError: the store does not answer.
    """
    listed = _listed(store, namespace)
    devices = {device for device, _ in listed}
    chosen = Collection()
    models: set[str] = set()
    for device, info in listed:
        if name in devices and device != name:
            chosen.others += 1
        elif since is not None and (info.modified_at or 0.0) < since:
            chosen.older += 1
        else:
            note = _note(store, namespace, device, info.key)
            read()
            models |= {note.model} if note is not None else set()
            _sort(chosen, device, note, info, name if name not in devices else None)
    if name is not None and name not in devices and name not in models and not chosen.older:
        raise SpecError(f"there is no frame of a device or model {name} in {store.url}; {_known(devices, models)}")
    return chosen


def _sort(chosen: Collection, device: str, note: HarvestNote | None, info: ObjectInfo, model: str | None) -> None:
    if note is None:
        chosen.unreadable += 1
    elif model is not None and note.model != model:
        chosen.others += 1
    else:
        chosen.frames.append(Frame(device, note, info.modified_at or 0.0))


def _listed(store: Store, namespace: str) -> list[tuple[str, ObjectInfo]]:
    """Device and object of the newest notes."""
    prefix = keys.harvests_prefix(namespace)
    notes = (
        (found.group(1), info)
        for info in store.list(prefix)
        if (found := _NOTE.fullmatch(info.key.removeprefix(prefix))) is not None
    )
    return heapq.nlargest(MOST_FRAMES, notes, key=lambda item: (item[1].modified_at or 0.0, item[1].key))


def _note(store: Store, namespace: str, device: str, key: str) -> HarvestNote | None:
    """The note at `key`; None where it is not one of this device about this picture."""
    if DEVICE.fullmatch(device) is None:
        return None
    try:
        note = from_json(HarvestNote, store.get(key, limit=MAX_NOTE_BYTES))
    except (DecodeError, UnicodeDecodeError, IntegrityError, ObjectNotFound):
        return None
    own = (note.namespace, note.device, keys.harvested_note(namespace, device, note.sha256))
    if own != (namespace, device, key):
        return None
    sound = _SESSION.fullmatch(note.session) and 0 < note.number <= MOST_NUMBER and math.isfinite(note.doubt)
    return note if sound and _sound_boxes(note) else None


def _sound_boxes(note: HarvestNote) -> bool:
    def sound(item: Detection) -> bool:
        return 0 <= item.class_id < len(note.labels) and len(item.box) == 4

    return len(note.thresholds) == len(note.labels) and all(sound(item) for item in note.detections)


def _known(devices: set[str], models: set[str]) -> str:
    def told(names: Sequence[str]) -> str:
        more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        return f"{', '.join(names[:_NAMES_TOLD]) or 'none'}{more}"

    return f"devices there: {told(sorted(devices))}; models: {told(sorted(models))}"


# No camera of a robot gives more, and a header that says so is no picture to open.
MAX_SIDE = 4096


def require_libraries() -> None:
    """Raise what is missing, before anything is fetched.

    Raises:
        SpecError: NumPy or Pillow is not installed.
    """
    try:
        import numpy  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise SpecError(f"pictures need NumPy and Pillow ({error}); {INSTALL}") from None


class Fate(StrEnum):
    """What became of a frame."""

    KEPT = "kept"
    DUPLICATE = "near-duplicate"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Kept:
    """A frame of the batch with its picture's bytes and real size."""

    frame: Frame
    data: bytes
    width: int
    height: int


@dataclass
class Choice:
    """Looks at frames until `limit` are kept; afterwards `fates` has those that were looked at, in their order."""

    store: Store
    min_change: float
    limit: int | None = None
    looked: Callable[[], None] = lambda: None
    fates: list[tuple[Frame, Fate]] = field(default_factory=list)

    def kept(self, frames: list[Frame]) -> Iterator[Kept]:
        """The frames of the batch, the most doubtful first; of the same doubt the newest."""
        gallery = Gallery()
        count = 0
        for frame in sorted(frames, key=lambda item: (-item.note.doubt, -item.uploaded_at, item.note.sha256)):
            if count == self.limit:
                return
            found = self._judged(frame, gallery)
            self.looked()
            if found is not None:
                count += 1
                yield found

    def count(self, fate: Fate) -> int:
        return Counter(item for _, item in self.fates)[fate]

    def _judged(self, frame: Frame, gallery: Gallery) -> Kept | None:
        import numpy as np
        from PIL.Image import Resampling

        data = self._picture(frame)
        image = None if data is None else _opened(data)
        if data is None or image is None:
            self.fates.append((frame, Fate.DAMAGED))
            return None
        cells = np.asarray(image.convert("L").resize((CELLS, CELLS), Resampling.BOX))
        nearest = gallery.nearest(cells)
        if nearest is not None and nearest.change < self.min_change:
            self.fates.append((frame, Fate.DUPLICATE))
            return None
        gallery.add(frame.note.sha256, cells)
        self.fates.append((frame, Fate.KEPT))
        return Kept(frame, data, image.width, image.height)

    def _picture(self, frame: Frame) -> bytes | None:
        """The picture's bytes; None where they are gone, or are not those of the note."""
        try:
            data = self.store.get(frame.picture_key, limit=MAX_PICTURE_BYTES)
        except (ObjectNotFound, IntegrityError):
            return None
        return data if hashlib.sha256(data).hexdigest() == frame.note.sha256 else None


def _opened(data: bytes) -> Image | None:
    """The JPEG, decoded; None for anything else."""
    try:
        image = opened(data, ("JPEG",))
        if max(image.size) > MAX_SIDE:
            return None
        image.load()
    except (OSError, SyntaxError, ValueError):
        return None
    return image
