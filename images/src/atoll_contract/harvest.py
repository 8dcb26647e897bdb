"""The note in the bucket beside a harvested image: a frame that a device's model was unsure of."""

import re
from enum import StrEnum

from atoll_contract.document import Document
from atoll_contract.release import Detection

# Anybody who has a device's keys can write notes.
MAX_NOTE_BYTES = 64 * 2**10
MAX_IMAGE_BYTES = 8 * 2**20

# Names of devices whose frames can be harvested: the name is used for a folder and for files.
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,251}")


class Cause(StrEnum):
    """Why a frame was kept."""

    SCORE = "score"
    FLICKER = "flicker"


class HarvestNote(Document, frozen=True):
    """`sha256` and `size` are those of the image file, `width` and `height` its pixels. `doubt` estimates how many of
    its boxes a person has to check. `session` (letters, drawn at each start of the agent) and `number` (from 1 within
    the session) identify a frame of a device. `taken_at` is RFC 3339 by the device's clock, which may never have been
    set. `digest` is the hex sha256 of the release's manifest. `detections` also has those below the thresholds."""

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
