"""A frame that a device was unsure of: what its note in the bucket tells, beside the picture itself."""

import re
from enum import StrEnum

from atoll_contract.document import Document
from atoll_contract.release import Detection

# Notes are read from whoever holds a device's keys.
MAX_NOTE_BYTES = 64 * 2**10
MAX_PICTURE_BYTES = 8 * 2**20

# Devices whose frames can be harvested: the name becomes that of a folder and of files.
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,251}")


class Cause(StrEnum):
    """Why a frame was kept."""

    SCORE = "score"
    FLICKER = "flicker"


class HarvestNote(Document, frozen=True):
    """`sha256` and `size` are the picture's, `width` and `height` its pixels. `doubt` is about how many of its boxes a
    person would have to judge. `session` and `number` tell frames apart that the same device kept: the session is
    letters, drawn at each start of the agent, the number counts from 1 within it. `taken_at` is RFC 3339 by the
    device's clock, which may never have been set. `digest` is the hex sha256 of the release's manifest, `detections`
    all that the model said, below the thresholds too."""

    namespace: str
    device: str
    camera: str
    session: str
    number: int
    taken_at: str
    sha256: str
    size: int
    width: int
    height: int
    cause: Cause
    doubt: float
    model: str
    release: str
    digest: str
    sequence: int
    backend: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    detections: tuple[Detection, ...]
    schema_version: int = 1
