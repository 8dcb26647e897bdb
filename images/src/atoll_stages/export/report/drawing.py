"""Pictures with boxes drawn, as data for an HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atoll_stages.export.selection import Shown
from atoll_stages.train.records import Example

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

LONG_SIDE = 400
JPEG_QUALITY = 82
RIGHT, WRONG, MISSED = (0, 200, 110), (255, 64, 64), (255, 200, 0)
LABEL_SIZE = 11
DASH = 5


def _scaled(encoded: bytes) -> Image:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as source:
        picture = source.convert("RGB")
    ratio = LONG_SIDE / max(picture.size)
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return picture.resize(size, Image.Resampling.BILINEAR)


def _corners(box: np.ndarray, picture: Image) -> tuple[float, float, float, float]:
    ymin, xmin, ymax, xmax = (float(v) for v in box)
    return xmin * picture.width, ymin * picture.height, xmax * picture.width, ymax * picture.height


def _label(draw: ImageDraw, at: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=LABEL_SIZE)
    left, top = max(0.0, at[0]), max(0.0, at[1] - LABEL_SIZE - 4)
    width = draw.textlength(text, font=font)
    draw.rectangle((left, top, left + width + 4, top + LABEL_SIZE + 3), fill=colour)
    draw.text((left + 2, top), text, fill=(0, 0, 0), font=font)


def _dashed(draw: ImageDraw, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    for start in np.arange(x0, x1, 2 * DASH):
        end = min(float(start) + DASH, x1)
        draw.line((float(start), y0, end, y0), fill=colour, width=2)
        draw.line((float(start), y1, end, y1), fill=colour, width=2)
    for start in np.arange(y0, y1, 2 * DASH):
        end = min(float(start) + DASH, y1)
        draw.line((x0, float(start), x0, end), fill=colour, width=2)
        draw.line((x1, float(start), x1, end), fill=colour, width=2)


def drawn(example: Example, shown: Shown, classes: Sequence[str]) -> str:
    """The picture with right, wrong and missed boxes, as a `data:` address of a JPEG."""
    from PIL import ImageDraw

    picture = _scaled(example.encoded)
    draw = ImageDraw.Draw(picture)
    for index in shown.missed:
        _dashed(draw, _corners(example.boxes[index], picture), MISSED)
    found = shown.found
    for box, label, score, right in zip(found.boxes, found.classes, found.scores, shown.right, strict=True):
        corners, colour = _corners(box, picture), RIGHT if right else WRONG
        draw.rectangle(corners, outline=colour, width=2)
        if not right:
            _label(draw, corners[:2], f"{classes[label]} {score:.2f}", colour)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
