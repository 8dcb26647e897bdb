"""Takes the metadata out of a JPEG without decoding it: ITU-T T.81, annex B, has the markers.

A picture that needs neither turning nor shrinking goes into the records so, as it was saved: to encode it again would
cost half of the conversion's time, and some of its quality.
"""

import re
from collections.abc import Iterator

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
# Baseline and extended sequential frames; their scans are coded by Huffman's method.
_SOF0, _SOF1 = 0xC0, 0xC1
_DHT, _SOS, _DQT, _DNL, _DRI = 0xC4, 0xDA, 0xDB, 0xDC, 0xDD
_APP0, _APP14 = 0xE0, 0xEE
_KEPT = frozenset({_SOF0, _SOF1, _DHT, _DQT, _DRI})
_DROPPED = frozenset({*range(_APP0, _APP0 + 16), 0xFE})
# JFIF 1.02, square pixels, no thumbnail: by it every decoder takes three components for YCbCr.
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"
_RGB_IDS = b"RGB"
# Within coded pixels 0xFF stands before a stuffed zero, a restart marker or padding; before anything else they end.
_SCAN_ENDS = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


def without_metadata(data: bytes) -> bytes | None:
    """Returns the picture of a plain JPEG with its coded pixels unchanged; None where it is not plain.

    Plain is: sequential, 8 bits, three components in YCbCr, one scan. EXIF, comments, colour profiles, thumbnails and
    everything behind the picture's end are left out.
    """
    kept = [_SOI, _JFIF]
    framed = False
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == _SOS:
            stop = _scan_end(data, end)
            if not framed or stop is None or len(body) < 1 or body[0] != 3:
                return None
            return b"".join([*kept, data[start:stop], _EOI])
        if marker == _APP14 and not _is_ycbcr(body):
            return None
        if marker in (_SOF0, _SOF1):
            if framed or not _is_plain_frame(body):
                return None
            framed = True
        if marker in _KEPT:
            kept.append(data[start:end])
        elif marker not in _DROPPED:
            return None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, start, end) of each segment up to the scan; `start` is where its marker begins."""
    if not data.startswith(_SOI):
        return
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xFF:  # padding before a marker
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end < position + 4 or end > len(data):
            return
        yield data[position + 1], position, end
        position = end


def _scan_end(data: bytes, start: int) -> int | None:
    """Returns where the only scan's coded pixels end; None where another marker than the picture's end follows."""
    found = _SCAN_ENDS.search(data, start)
    return found.start() if found and found[1] == _EOI[1:] else None


def _is_plain_frame(body: bytes) -> bool:
    """Whether a frame header is of 8 bits and three components that are not named R, G and B."""
    if len(body) != 15 or body[0] != 8 or body[5] != 3:
        return False
    return bytes(body[6::3]) != _RGB_IDS


def _is_ycbcr(adobe: bytes) -> bool:
    """Whether Adobe's segment says YCbCr; segments of other programs say nothing."""
    return not adobe.startswith(b"Adobe") or (len(adobe) >= 12 and adobe[11] == 1)
