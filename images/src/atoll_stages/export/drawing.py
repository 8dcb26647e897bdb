"""Draws boxes into images, and returns them as `data:` addresses for a page that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atoll_stages.export.colors import class_rgb
from atoll_stages.export.sample_images import Assessment
from atoll_stages.train.dataset import IGNORED_LABEL, Example

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

LONG_SIDE = 560
JPEG_QUALITY = 80
CORRECT, WRONG, MISSED, IGNORED = (0, 200, 110), (255, 64, 64), (255, 200, 0), (150, 150, 150)
# Legible where the page shows the image at half its size.
LABEL_SIZE = 17
LINE_WIDTH = 3
DASH = 7

Color = tuple[int, int, int]
# left, top, right, bottom
Corners = tuple[float, float, float, float]


def draw_boxes(example: Example, assessment: Assessment, classes: Sequence[str]) -> str:
    """Draws correct, wrong and missed boxes."""
    from PIL import ImageDraw

    image = _resized(example.encoded)
    draw = ImageDraw.Draw(image)
    for index in assessment.missed:
        _draw_dashed(draw, _pixels(example.boxes[index], image), MISSED)
    found = assessment.detections
    texts = []
    for box, label, score, correct in zip(found.boxes, found.classes, found.scores, assessment.correct, strict=True):
        corners, color = _pixels(box, image), CORRECT if correct else WRONG
        draw.rectangle(corners, outline=color, width=LINE_WIDTH)
        if not correct:
            texts.append((corners, f"{classes[label]} {score:.2f}"))
    # Names come last, so that no box of a neighbour crosses them out.
    for corners, text in texts:
        _draw_label(draw, corners, text, WRONG, width=image.width)
    return _address(image)


def draw_labels(example: Example) -> str:
    """Draws the labels of an example, in the colours of their classes."""
    from PIL import ImageDraw

    image = _resized(example.encoded)
    draw = ImageDraw.Draw(image)
    for box, label in zip(example.boxes, example.labels, strict=True):
        draw.rectangle(_pixels(box, image), outline=class_rgb(int(label)), width=LINE_WIDTH)
    return _address(image)


def draw_network_input(pixels: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> str:
    """Draws the labels of an image of a training batch; those that the training leaves out are grey and dashed."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for box, label in zip(boxes, labels, strict=True):
        if label >= 0:
            draw.rectangle(_pixels(box, image), outline=class_rgb(int(label)), width=2)
        elif label == IGNORED_LABEL:
            _draw_dashed(draw, _pixels(box, image), IGNORED)
    return _address(image)


def _address(image: Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _resized(encoded: bytes) -> Image:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as source:
        image = source.convert("RGB")
    ratio = LONG_SIDE / max(image.size)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.BILINEAR)


def _pixels(box: np.ndarray, image: Image) -> Corners:
    """Converts a relative (ymin, xmin, ymax, xmax) to (left, top, right, bottom) in pixels."""
    ymin, xmin, ymax, xmax = (float(v) for v in box)
    return xmin * image.width, ymin * image.height, xmax * image.width, ymax * image.height


def _draw_label(draw: ImageDraw, box: Corners, text: str, color: Color, *, width: int) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=LABEL_SIZE)
    long = draw.textlength(text, font=font) + 4
    left, top = max(0.0, min(box[0], width - long)), max(0.0, box[1] - LABEL_SIZE - 4)
    draw.rectangle((left, top, left + long, top + LABEL_SIZE + 3), fill=color)
    draw.text((left + 2, top), text, fill=(0, 0, 0), font=font)


def _draw_dashed(draw: ImageDraw, box: Corners, color: Color) -> None:
    x0, y0, x1, y1 = box
    for start in np.arange(x0, x1, 2 * DASH):
        end = min(float(start) + DASH, x1)
        draw.line((float(start), y0, end, y0), fill=color, width=LINE_WIDTH)
        draw.line((float(start), y1, end, y1), fill=color, width=LINE_WIDTH)
    for start in np.arange(y0, y1, 2 * DASH):
        end = min(float(start) + DASH, y1)
        draw.line((x0, float(start), x0, end), fill=color, width=LINE_WIDTH)
        draw.line((x1, float(start), x1, end), fill=color, width=LINE_WIDTH)
