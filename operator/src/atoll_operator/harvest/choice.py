"""The frames worth a labeller's time: the most doubtful first, and none that nearly repeats another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.harvest import MAX_PICTURE_BYTES
from atoll_contract.likeness import CELLS
from atoll_contract.picture_header import opened
from atoll_contract.store import ObjectNotFound, Store
from atoll_operator.harvest.collection import Frame
from atoll_operator.video.library import INSTALL
from atoll_operator.video.likeness import Gallery

if TYPE_CHECKING:
    from PIL.Image import Image

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
