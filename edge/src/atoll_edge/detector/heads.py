"""Reading a release's `detector.json`, which a backend needs where a compiled file leaves out what its outputs mean."""

from pathlib import Path

from atoll_contract.detector_head import HEAD_NAME, DetectorHead
from atoll_contract.document import DecodeError, from_json

# A detector of 640 pixels has 4 MB of anchors.
MAX_BYTES = 16 * 2**20
# Of an anchor, and of a box's codes: two of the centre and two of the size.
COORDINATES = 4


class HeadError(ValueError):
    """The document cannot be used; the text is for the status page."""


def read_head(path: Path, side: int) -> DetectorHead | None:
    """Returns the head of a detector with anchors whose input has `side` pixels; None where it has distributions, whose
    outputs say by themselves what they are.

    Raises:
        HeadError: the document cannot be read, or is of another detector.
    """
    if path.stat().st_size > MAX_BYTES:
        raise HeadError(f"{HEAD_NAME} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        head = from_json(DetectorHead, path.read_bytes(), skip_unknown=True)
    except DecodeError as error:
        raise HeadError(f"{HEAD_NAME} cannot be read: {error}") from None
    if head.side != side:
        raise HeadError(f"{HEAD_NAME} is of a detector with {head.side} pixels, the manifest says {side}")
    if head.bins:
        return None
    if len(head.box_scales) != COORDINATES or 0.0 in head.box_scales:
        raise HeadError(f"{HEAD_NAME} has boxScales {list(head.box_scales)}; it needs {COORDINATES} other than 0")
    wrong = next((number for number, anchor in enumerate(head.anchors) if len(anchor) != COORDINATES), None)
    if wrong is not None:
        raise HeadError(f"anchor {wrong} of {HEAD_NAME} has {len(head.anchors[wrong])} numbers; it needs {COORDINATES}")
    return head
